"""Directories that `x-pyswarm: {upload: true}` copies into volumes. SHELL.

A volume that has no files yet is filled before its first task starts; into one that has, the files
are copied while its tasks run, and files that are no longer in the directory stay.
"""

import asyncio
import os
from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING

import click

from cli.container.spec.sources import named_nodes
from pyswarm_core.docker.units import decimal_size
from pyswarm_core.errors import InvalidArgument, reason_of
from pyswarm_core.volumes.volume import Volume, VolumeSpec

if TYPE_CHECKING:
    from cli.client import Client
    from compose.mapping.mapped import Mapped, Upload


def upload(client: "Client", mapped: "Mapped", *, quiet: bool = False) -> None:
    """Create the volumes, and copy the directories into them. Raises PyswarmError."""
    specs = {one.name: one for one in mapped.spec.volumes}
    for one in mapped.uploads:
        size = _upload(client, one, specs, _node(mapped, one.volume))
        if not quiet:
            told = f"{decimal_size(size)} of {one.directory} are in volume {one.volume}"
            click.echo(f"Uploaded {told}", err=True)


def _node(mapped: "Mapped", volume: str) -> str:
    """The node that the constraints of a service demand which mounts the volume; empty: any."""
    for service in mapped.spec.services:
        template = service.task_template
        if volume in template.volumes and (named := named_nodes(template.placement.constraints)):
            return named[0][1]
    return ""


def _upload(client: "Client", one: "Upload", specs: Mapping[str, VolumeSpec], wanted: str) -> int:
    volume = client.create_volume(specs[one.volume])
    try:
        if not volume.copies:
            return _fill(client, volume, wanted, one.directory)
        return max([_copy(client, volume, node, one.directory) for node in volume.copies])
    except OSError as error:
        raise InvalidArgument(
            f"upload of {one.directory}: {reason_of(error, named=one.directory)}"
        ) from None


def _fill(client: "Client", volume: Volume, node: str, directory: str) -> int:
    """Make the first copy of the volume."""
    from cli.volume.archiving import streaming
    from cli.volume.archiving.progress import Progress
    from pyswarm_core.streams.requests import WriteVolumeRequest

    request = WriteVolumeRequest(ref=volume.id, node=node)
    return asyncio.run(
        streaming.restore(client, request, _Packed(directory), Progress(shown=False))
    )


def _copy(client: "Client", volume: Volume, node: str, directory: str) -> int:
    """Copy into the copy of a node."""
    from cli.container.files import local
    from pyswarm_core.streams.requests import WriteVolumeRequest

    departure = local.Departure(f"{directory}/.", keep=False, follow=False)
    request = WriteVolumeRequest(
        ref=volume.id, node=node, path="/", name=departure.name, directory=True
    )
    return asyncio.run(local.from_files(client, request, departure))


class _Packed:
    """The archive of a directory, whose files belong to root."""

    size = 0

    def __init__(self, directory: str) -> None:
        """Raises OSError."""
        self._descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def chunks(self) -> Generator[bytes]:
        """The archive. Raises OSError for a file that cannot be read."""
        from pyswarm_core.aio.archives.packing import pack

        return pack(self._descriptor, "", lambda _: (0, 0))

    def close(self) -> None:
        """Close the directory."""
        os.close(self._descriptor)
