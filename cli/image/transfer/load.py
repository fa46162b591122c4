"""`pyswarm image load` and `pyswarm load`."""

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from cli import session
from cli.failures import Failures
from cli.image import refused
from cli.lazy import Verb
from pyswarm_core.docker.reference import parse_reference
from pyswarm_core.errors import InvalidArgument, invalid

_PLATFORM = "an archive of `docker save` has each image for one platform"


@click.command(
    cls=Verb,
    help="Load images from a tar archive or STDIN into the fleet's registry\n\n"
    "Example: pyswarm load -i web.tar",
)
@click.option(
    "-i", "--input", "file", default="", metavar="FILE", help="Read from tar archive file"
)
@click.option("-q", "--quiet", is_flag=True, help="Suppress the load output")
def load(*, file: str, quiet: bool) -> None:
    del quiet  # as Docker's, it leaves out progress, of which there is none
    from cli.image.transfer import archives, skopeo, sources
    from cli.registry.opening import opened

    with skopeo.folder() as folder, _archive(file, folder) as path:
        found = archives.entries(path)
        with Failures() as failures, opened(session.connection(), write=True) as registry:
            for entry in found:
                if not entry.names:
                    with failures.collected():
                        raise InvalidArgument(
                            "an image of the archive has no name: save it again by its name, or use"
                            " `pyswarm import` for a file system"
                        )
                for name in entry.names:
                    with failures.collected():
                        image = parse_reference(name)
                        to = sources.to_registry(registry, image)
                        failure = f"{image.familiar} could not be loaded"
                        sources.copy(sources.Source(entry.place), to, failure)
                        click.echo(f"Loaded image: {image.familiar}")


load.params.append(refused.valued("--platform", _PLATFORM))


@contextmanager
def _archive(file: str, folder: Path) -> Iterator[Path]:
    """The file, or one with what standard input has. Raises InvalidArgument."""
    if file and file != "-":
        if not Path(file).is_file():
            raise invalid("--input", file, "expected a file that exists")
        link = folder / "input.tar"  # skopeo reads a colon in a path as the beginning of a name
        link.symlink_to(Path(file).resolve())
        yield link
        return
    if sys.stdin.isatty():
        raise InvalidArgument("--input: requested load from stdin, but stdin is a terminal")
    path = folder / "input.tar"
    with path.open("wb") as out:
        shutil.copyfileobj(sys.stdin.buffer, out)
    yield path
