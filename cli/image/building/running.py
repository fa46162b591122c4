"""Runs a build by buildah, and explains a failure. SHELL.

What is needed only once buildah runs is imported while it runs.
"""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

from cli.image.building import bases
from cli.image.building.context import Sources, ignore_lines
from cli.image.building.storage import Storage
from pyswarm_core.docker.building.checks import (
    Version,
    require_heredocs,
    require_layers,
    version_in,
)
from pyswarm_core.docker.building.recipe import (
    WITHOUT_NETWORK,
    Inputs,
    Recipe,
    secret_source,
    words,
)
from pyswarm_core.errors import invalid

if TYPE_CHECKING:
    from cli.image.building.display import Display
    from cli.registry.opening import Endpoint
    from pyswarm_core.streams.requests import BuildSecret

_LINE_BYTES = 64 * 1024
_END_S = 5.0


def check(recipe: Recipe, found: Sources) -> None:
    """Raise InvalidArgument for what buildah cannot do, before it runs."""
    check_secrets(recipe)
    require_layers(found.content, recipe.target)
    if found.content.heredocs:
        require_heredocs(found.content, _version())


def secret_data(text: str) -> "BuildSecret":
    """A secret with its content."""
    from pyswarm_core.streams.requests import BuildSecret

    kind, source = secret_source(text)
    name = text.partition(",")[0].removeprefix("id=")
    data = os.environb[os.fsencode(source)] if kind == "env" else Path(source).read_bytes()
    return BuildSecret(id=name, data=data)


def check_secrets(recipe: Recipe) -> None:
    """Raise InvalidArgument for a secret that does not exist."""
    for text in recipe.secrets:
        kind, source = secret_source(text)
        if kind == "env" and source not in os.environ:
            raise invalid("--secret", source, "expected a variable of this environment", "variable")
        if kind == "file" and not Path(source).is_file():
            raise invalid("--secret", source, "expected a file that exists", "file")


class Workspace(NamedTuple):
    """Where a build works."""

    storage: Storage
    work: Path
    """The folder of this build's files."""


class Build:
    """A build that runs in buildah. As a context manager it ends buildah."""

    def __init__(
        self,
        recipe: Recipe,
        found: Sources,
        storage: Storage,
        work: Path,
        registry: "Endpoint | None" = None,
    ) -> None:
        """Start it; the registry has base images. Raises PyswarmError."""
        self._recipe = recipe
        self._found = found
        self._iidfile = work / "iid"
        ignorefile = work / "ignored"
        ignored = "".join(f"{line}\n" for line in ignore_lines(found))
        ignorefile.write_text(ignored, errors="surrogateescape")
        wanted = bases.references(images(recipe, found))
        inputs = Inputs(
            directory=str(found.directory),
            dockerfile=str(found.dockerfile),
            ignorefile=str(ignorefile),
            iidfile=str(self._iidfile),
            policy=str(storage.policy()),
            registries=tuple(bases.flags(wanted, registry, work)) if registry else (),
            authfile=str(bases.logins(registry, work)) if registry else "",
        )
        enter: Sequence[str] = ()
        if recipe.network == "none":
            _pull(recipe, inputs, [str(one) for one in wanted], storage)
            enter = WITHOUT_NETWORK
        self._process = subprocess.Popen(
            [*enter, "buildah", *words(recipe, inputs)],
            env=storage.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def __enter__(self) -> "Build":
        self._process.__enter__()
        return self

    def __exit__(self, *raised: object) -> None:
        _end(self._process)
        self._process.__exit__(None, None, None)

    def finish(self, display: "Display") -> str:
        """Show the progress to the end; returns the image's id.

        Raises BuildFailed with the step, and PyswarmError.
        """
        from cli.image.building.progress import Place, Progress

        progress = Progress(self._recipe.target, self._found, display)
        assert self._process.stdout is not None
        for line in _lines(self._process.stdout):
            progress.line(line)
        code = self._process.wait()
        progress.end(failed=code != 0, place=Place.here(self._found.directory))
        return self._iidfile.read_text().strip()


def images(recipe: Recipe, found: Sources) -> tuple[str, ...]:
    """The images that the build takes."""
    return found.content.images(recipe.given_args(os.environ), recipe.target)


def _pull(recipe: Recipe, inputs: Inputs, wanted: Sequence[str], storage: Storage) -> None:
    """Pull base images for a build that has no network."""
    flags = ["--quiet", "--policy", "always" if recipe.pull else "missing"]
    flags += ["--signature-policy", inputs.policy]
    flags += ["--authfile", inputs.authfile] if inputs.authfile else []
    for image in wanted:
        storage.run(*inputs.registries, "pull", *flags, image)


def _lines(output: IO[bytes]) -> Iterator[str]:
    while line := output.readline(_LINE_BYTES):
        yield line.decode(errors="replace").removesuffix("\n").removesuffix("\r")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a build that was interrupted. A terminal's Ctrl-C ends it as well."""
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_END_S)
        process.kill()
        process.wait()


def _version() -> Version:
    done = subprocess.run(["buildah", "--version"], capture_output=True, text=True, check=False)
    return version_in(done.stdout)
