"""The images of the host: found in the storage, pulled by skopeo when missing, removed by name.

`open_images` makes a store. Invariant: one pull per reference at a time, with bounds in all and per
registry, so that a registry that hangs does not delay images of other registries.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TypeVar

from agent.images.base import (
    Credentials,
    DiskFull,
    Image,
    ImageConfig,
    ImageError,
    ImageInUse,
    ImageNotFound,
    Images,
    InvalidImage,
    PullPhase,
    PullPolicy,
    PullProgress,
    RegistryUnavailable,
    ReportProgress,
)
from agent.images.endpoint import Endpoint, endpoints
from agent.images.failure import combined
from agent.images.imageconfig import parse_configuration
from agent.images.settings import ImageSettings
from agent.images.sharing import SharedPulls
from agent.images.skopeo import Skopeo
from agent.images.storage import Storage
from agent.images.tool import Timeouts, run_tool
from pyswarm_core.aio.trees import remove_tree
from pyswarm_core.docker.reference import Reference, parse_reference
from pyswarm_core.plaintext import split_lines

T = TypeVar("T")

# A removal waits while a pull unpacks a layer, so its timeout is longer than its own work takes.
_STORAGE_TIMEOUTS = Timeouts(stall_s=120.0, total_s=120.0)


@asynccontextmanager
async def open_images(settings: ImageSettings) -> AsyncIterator[Images]:
    """The images under `settings.root`, made if absent; leaving the block cancels pulls.

    Removes what a killed agent left: unfinished downloads, and mounts of the tools. Raises
    InvalidArgument for a malformed mirror.
    """
    endpoints(parse_reference("any"), settings.mirrors, settings.insecure_registries)
    _prepare(settings)
    await _sweep(settings)
    async with asyncio.TaskGroup() as group:
        pulls = SharedPulls(group)
        try:
            yield StoredImages(settings, pulls)
        finally:
            pulls.close()


class StoredImages:
    """`Images` over containers-storage and skopeo."""

    def __init__(self, settings: ImageSettings, pulls: SharedPulls) -> None:
        self._settings = settings
        self._pulls = pulls
        self._storage = Storage(settings.root)
        self._skopeo = Skopeo(settings)
        self._slots = asyncio.Semaphore(settings.parallel_pulls)
        self._registry_slots: defaultdict[str, asyncio.Semaphore] = defaultdict(
            lambda: asyncio.Semaphore(settings.parallel_per_registry)
        )

    async def resolve(
        self,
        reference: str,
        credentials: Credentials | None = None,
        progress: ReportProgress | None = None,
        policy: PullPolicy = PullPolicy.MISSING,
    ) -> Image:
        """See `Images.resolve`."""
        ref = parse_reference(reference)
        use_local = policy is PullPolicy.MISSING or bool(ref.digest)
        if use_local and (image := self._storage.find(ref)):
            return image
        await self._pulls.join(
            ref.canonical,
            credentials,
            lambda report: self._fetch(ref, credentials, report, policy),
            progress,
        )
        if image := self._storage.find(ref):
            return image
        raise InvalidImage(f"broken image: {ref.familiar} was pulled but cannot be read back")

    async def pull(
        self,
        reference: str,
        credentials: Credentials | None = None,
        progress: ReportProgress | None = None,
    ) -> Image:
        """See `Images.pull`."""
        return await self.resolve(reference, credentials, progress, PullPolicy.ALWAYS)

    async def resolve_digest(self, reference: str, credentials: Credentials | None = None) -> str:
        """See `Images.resolve_digest`."""
        ref = parse_reference(reference)
        return await self._asked(ref, lambda place: self._skopeo.digest(place, ref, credentials))

    async def configuration(
        self, reference: str, credentials: Credentials | None = None
    ) -> ImageConfig:
        """See `Images.configuration`."""
        ref = parse_reference(reference)
        if image := self._storage.find(ref):
            return image.config
        blob = await self._asked(
            ref, lambda place: self._skopeo.configuration(place, ref, credentials)
        )
        return parse_configuration(blob).run

    async def list(self) -> tuple[Image, ...]:
        """See `Images.list`."""
        return self._storage.images()

    async def remove(self, reference: str, in_use: Collection[str] = ()) -> None:
        """See `Images.remove`."""
        ref = parse_reference(reference)
        image = self._storage.find(ref)
        if image is None:
            raise ImageNotFound(f"no such image here: {ref.familiar}")
        left = tuple(name for name in image.names if name != ref.canonical)
        if left and ref.canonical in image.names:
            names = (argument for name in left for argument in ("--name", name))
            await self._change("set-names", *names, image.id)
        elif image.id in in_use:
            raise ImageInUse(f"image {ref.familiar} is used by a task on this host")
        else:
            await self._change("delete-image", image.id)

    async def _asked(self, ref: Reference, ask: Callable[[Endpoint], Awaitable[T]]) -> T:
        """The answer of the first registry that has one. Raises ImageError."""
        errors: list[ImageError] = []
        places = self._endpoints(ref)
        for place in places:
            try:
                return await ask(place)
            except ImageError as error:
                errors.append(error)
        raise combined(errors, [place.registry for place in places])

    def _endpoints(self, ref: Reference) -> tuple[Endpoint, ...]:
        settings = self._settings
        return endpoints(ref, settings.mirrors, settings.insecure_registries)

    async def _fetch(
        self,
        ref: Reference,
        credentials: Credentials | None,
        report: ReportProgress,
        policy: PullPolicy,
    ) -> None:
        # A pull of another caller, with other credentials, may have just ended.
        if policy is PullPolicy.MISSING and self._storage.find(ref):
            return
        errors: list[ImageError] = []
        places = self._endpoints(ref)
        for place in places:
            report(PullProgress(reference=ref.familiar, phase=PullPhase.WAITING))
            try:
                async with self._registry_slots[place.registry], self._slots:
                    await self._skopeo.copy(place, ref, credentials, report)
                    return
            except DiskFull:
                raise  # no other registry has a smaller image
            except ImageError as error:
                errors.append(error)
        raise combined(errors, [place.registry for place in places])

    async def _change(self, *arguments: str) -> None:
        env = {"CONTAINERS_STORAGE_CONF": str(self._settings.storage_conf)}
        try:
            output = await run_tool(("containers-storage", *arguments), env, _STORAGE_TIMEOUTS)
        except TimeoutError:
            raise RegistryUnavailable("the image storage is busy: try again later") from None
        if output.code:
            why = " ".join(output.err.split())[:300]
            raise ImageError(f"cannot change the image storage: {why}")


def _prepare(settings: ImageSettings) -> None:
    """Make what does not exist. It writes nothing on later starts, so an agent starts on a full
    disk.
    """
    for folder in (settings.root, settings.run_root, settings.work):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for left in settings.work.iterdir():
        with suppress(OSError):
            remove_tree(left)
    conf, text = settings.storage_conf, settings.storage_conf_text
    if not conf.exists() or conf.read_text(encoding="utf-8") != text:
        fresh = conf.with_suffix(".new")
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(conf)


async def _sweep(settings: ImageSettings) -> None:
    """Undo the trial mounts of a tool that was killed while it probed the kernel's features."""
    trials = settings.root / "overlay" / "compat"
    # Not by Path.is_mount: it does not detect a mount from the same file system.
    lines = split_lines(Path("/proc/self/mountinfo").read_text(encoding="utf-8"))
    mounts = [line.split(" ")[4] for line in lines]
    for mount in reversed([mount for mount in mounts if mount.startswith(str(trials))]):
        await run_tool(("umount", "--lazy", mount), {}, _STORAGE_TIMEOUTS)
    for trial in trials.parent.glob("compat*"):
        with suppress(OSError):
            remove_tree(trial)
