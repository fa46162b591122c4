"""Runs buildah in the storage of this host's images. SHELL.

So base images, the cache of steps and results are images of the host, and are collected as these
are. A build is a process namespace with its own mounts: both end with it, also when the agent is
killed. What a killed buildah leaves in the storage is removed when no build runs.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from shutil import which
from tempfile import mkdtemp
from typing import NamedTuple

from agent.images.base import Credentials, ImageError, PullPolicy, PullProgress, ReportProgress
from agent.images.building import logins
from agent.images.settings import ImageSettings
from agent.images.tool import Timeouts, run_tool
from pyswarm_core.aio.trees import remove_tree
from pyswarm_core.docker.building import recipe as recipes
from pyswarm_core.docker.building.checks import require_heredocs, require_layers, version_in
from pyswarm_core.docker.building.dockerfile import Dockerfile, parse_dockerfile
from pyswarm_core.docker.building.recipe import WITHOUT_NETWORK, Inputs, Recipe
from pyswarm_core.docker.reference import Reference, parse_reference
from pyswarm_core.errors import Exhausted, InvalidArgument, Unavailable
from pyswarm_core.streams.limits import BUILDS_PER_NODE
from pyswarm_core.streams.requests import BuildImageRequest

CONTEXT = "context"
"""The folder of a build's place that has its context."""
_POLICY = Path("/etc/containers/policy.json")
_CACHE = "buildah-cache*"
"""What `RUN --mount=type=cache` keeps, in TMPDIR."""
_OWN = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
_SHORT = Timeouts(stall_s=120.0, total_s=600.0)
_END_S = 10.0


class Base(NamedTuple):
    """A base image."""

    reference: Reference
    login: Credentials | None
    policy: PullPolicy
    platform: str


Resolve = Callable[[Base, ReportProgress], Awaitable[object]]
"""Has an image in the storage, and reports the progress of its pull. Raises ImageError."""


class BuildFailed(ImageError):
    """buildah ended with an error: its output says which."""


class Builds:
    """The builds of one host. `resolve` pulls base images."""

    def __init__(self, settings: ImageSettings, resolve: Resolve) -> None:
        self._settings = settings
        self._resolve = resolve
        self._tidying = asyncio.Lock()
        self.running = 0
        """Builds that have a place."""

    @asynccontextmanager
    async def place(self) -> AsyncIterator[Path]:
        """A folder for one build, which has the folder CONTEXT. Nothing is left of it.

        Raises Exhausted at the limit, Unavailable if this host has no buildah.
        """
        if which("buildah") is None:
            host = self._settings.name
            raise Unavailable(f"buildah is not installed on {host}: apt-get install buildah")
        if self.running >= BUILDS_PER_NODE:
            raise Exhausted(f"{self.running} builds run on this node, which is the limit: wait")
        self.running += 1
        folder = Path(mkdtemp(prefix="build-", dir=self._settings.work))
        try:
            (folder / CONTEXT).mkdir()
            yield folder
        finally:
            self.running -= 1
            await asyncio.shield(asyncio.to_thread(_removed, folder))

    async def run(self, folder: Path, request: BuildImageRequest, output: int) -> str:
        """Build; what buildah prints is written to the descriptor. Returns the image's id.

        Raises InvalidArgument for the Dockerfile, BuildFailed, and the ImageError of a base image.
        """
        recipe = recipe_of(request)
        text = request.dockerfile.decode(errors="surrogateescape")
        content = parse_dockerfile(text, request.name)
        content.until(recipe.target)
        require_layers(content, recipe.target)
        if content.heredocs:
            version = await run_tool(("buildah", "--version"), {}, _SHORT)
            require_heredocs(content, version_in(version.out.decode()))
        await self._pull(content, recipe, request, output)
        (folder / "Dockerfile").write_bytes(request.dockerfile)
        (folder / "ignored").touch()
        await self.tidy(beside=1)
        with _secrets(request) as given, logins.authfile(request.logins) as login:
            files, secrets = given
            inputs = Inputs(
                directory=str(folder / CONTEXT),
                dockerfile=str(folder / "Dockerfile"),
                ignorefile=str(folder / "ignored"),
                iidfile=str(folder / "iid"),
                policy=str(_policy(folder)),
                authfile=login.path,
                has_bases=True,
            )
            words = recipes.words(recipe._replace(secrets=secrets), inputs)
            enter = WITHOUT_NETWORK if recipe.network == "none" else ()
            command = (*_OWN, *enter, "buildah", *words)
            fds = (*files, login.descriptor)
            code = await self._execute(command, fds, output)
        if code:
            raise BuildFailed(f"buildah ended with the code {code}")
        return (folder / "iid").read_text(encoding="ascii").strip()

    async def tidy(self, beside: int = 0) -> None:
        """Remove what killed builds have left, unless another build runs: `beside` do not count.
        What they cached stays.
        """
        async with self._tidying:
            if self.running > beside:
                return
            if _has_containers(self._settings.root):
                await run_tool(("buildah", "rm", "--all"), self._environment(), _SHORT)
            await asyncio.to_thread(_emptied, self._settings.builds)

    async def forget(self) -> int:
        """Remove what builds keep besides images, unless one runs; returns its bytes."""
        async with self._tidying:
            return 0 if self.running else await asyncio.to_thread(_forgotten, self._settings.builds)

    async def _pull(
        self, content: Dockerfile, recipe: Recipe, request: BuildImageRequest, output: int
    ) -> None:
        """Have the base images here: buildah itself asks no registry for them."""
        by_registry = {
            one.registry: Credentials(username=one.username, password=one.password)
            for one in request.logins
        }
        policy = PullPolicy.ALWAYS if recipe.pull else PullPolicy.MISSING
        for name in content.images(recipe.given_args({}), recipe.target):
            with suppress(InvalidArgument):  # which buildah reports
                reference = parse_reference(name)
                login = by_registry.get(reference.registry)
                base = Base(reference, login, policy, recipe.platform)
                await self._resolve(base, _told(reference, output))

    async def _execute(self, command: Iterable[str], fds: tuple[int, ...], output: int) -> int:
        """Run until it has ended; a caller that is gone ends it."""
        process = await asyncio.create_subprocess_exec(
            *("setpriv", "--pdeathsig", "KILL", "--", *command),
            env={**recipes.COLLECTOR, **os.environ, **self._environment()},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=fds,
            start_new_session=True,
        )
        try:
            return await process.wait()
        except BaseException:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await asyncio.shield(self._ended(process))
            raise

    async def _ended(self, process: asyncio.subprocess.Process) -> None:
        """Wait for a killed build, and remove what it left."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_END_S):
                await process.wait()
        await self.tidy(beside=1)

    def _environment(self) -> Mapping[str, str]:
        temporary = self._settings.builds
        temporary.mkdir(mode=0o700, exist_ok=True)
        return {
            "CONTAINERS_STORAGE_CONF": str(self._settings.storage_conf),
            "TMPDIR": str(temporary),
        }


def recipe_of(request: BuildImageRequest) -> Recipe:
    """What buildah is asked for, but for the secrets. Raises InvalidArgument."""
    return Recipe(
        context=CONTEXT,
        tags=tuple(recipes.tag(text) for text in request.tags),
        build_args=request.build_args,
        labels=request.labels,
        target=request.target,
        no_cache=request.no_cache,
        pull=request.pull,
        platform=recipes.platform(request.platform),
        network=request.network,
        add_hosts=request.add_hosts,
        cache_from=request.cache_from,
        cache_to=request.cache_to,
    )


def _told(reference: Reference, output: int) -> ReportProgress:
    """Says once that the image is pulled."""
    said = False

    def report(progress: PullProgress) -> None:
        nonlocal said
        if not said:
            said = True
            os.write(output, f"pulling {reference.familiar}\n".encode())

    return report


def _has_containers(root: Path) -> bool:
    try:
        text = (root / "overlay-containers" / "containers.json").read_text(encoding="utf-8")
    except FileNotFoundError:
        return False
    return text.strip() not in ("", "[]", "null")


def _forgotten(folder: Path) -> int:
    freed = 0
    for cache in folder.glob(_CACHE):
        freed += sum(path.lstat().st_blocks * 512 for path in cache.rglob("*"))
        _removed(cache)
    return freed


def _emptied(folder: Path) -> None:
    kept = set(folder.glob(_CACHE))
    for left in folder.glob("*"):
        if left not in kept:
            _removed(left)


def _removed(path: Path) -> None:
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            remove_tree(path)
        else:
            path.unlink()


def _policy(folder: Path) -> Path:
    """The host's signature policy, or a permissive one: buildah copies nothing without one."""
    if _POLICY.exists():
        return _POLICY
    path = folder / "policy.json"
    path.write_text('{"default": [{"type": "insecureAcceptAnything"}]}', encoding="ascii")
    return path


@contextmanager
def _secrets(request: BuildImageRequest) -> Iterator[tuple[tuple[int, ...], tuple[str, ...]]]:
    """Anonymous files in memory, and the secrets as buildah takes them."""
    descriptors: list[int] = []
    try:
        for one in request.secrets:
            descriptors.append(os.memfd_create("build-secret"))
            logins.written(descriptors[-1], one.data)
        named = zip(request.secrets, descriptors, strict=True)
        words = (f"id={one.id},type=file,src=/proc/self/fd/{fd}" for one, fd in named)
        yield tuple(descriptors), tuple(words)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
