"""`pyswarm image save` and `pyswarm save`."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from cli import session
from cli.lazy import Verb
from pyswarm_core.errors import InvalidArgument, PyswarmError, reason_of

if TYPE_CHECKING:
    from cli.calls.connection import Connection
    from cli.registry.opening import Endpoint


@click.command(
    cls=Verb,
    help="Save one or more images to a tar archive (streamed to STDOUT by default)\n\n"
    "Example: pyswarm save -o web.tar web:1 web:2",
)
@click.option("-o", "--output", default="", metavar="FILE", help="Write to a file")
@click.option(
    "--platform", default="", metavar="OS[/ARCH[/VARIANT]]", help="Save only the given platform"
)
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
def save(*, output: str, platform: str, images: tuple[str, ...]) -> None:
    from cli.image.finding import require_reference
    from cli.image.transfer import archives, skopeo
    from cli.registry.opening import opened

    for image in images:
        require_reference(image)
    if not output and sys.stdout.isatty():
        raise InvalidArgument(
            "--output: a terminal is no place for an archive: use -o FILE, or redirect"
        )
    connection = session.connection()
    with skopeo.folder() as folder:
        made = []
        with opened(connection) as registry:
            for number, image in enumerate(images):
                archive = folder / f"{number}.tar"
                _save(connection, registry, image, archive, platform)
                made.append(archive)
        _deliver(lambda out: archives.merge(made, out), output)


def _save(
    connection: "Connection", registry: "Endpoint", image: str, archive: Path, platform: str
) -> None:
    from cli.image.transfer import skopeo, sources

    with sources.found(connection, registry, image, archive.parent) as found:
        name = f":{found.name}" if found.name else ""
        flags = (*skopeo.platform_flags(platform), "copy", *found.flags)
        place = (found.place, f"docker-archive:{archive}{name}")
        skopeo.run([*flags, *place], f"{image} could not be saved")


def _deliver(write: Callable[[IO[bytes]], None], output: str) -> None:
    """Write the archive to the file, which gets its name once it is complete, or to stdout."""
    if not output:
        write(sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return
    partial = Path(f"{output}.part")
    try:
        with partial.open("wb") as file:
            write(file)
        partial.replace(output)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        raise PyswarmError(f"--output: {output} cannot be written: {reason_of(error)}") from None
