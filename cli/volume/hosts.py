"""The hosts that have copies of volumes. SHELL."""

from collections.abc import Callable, Iterable
from contextlib import suppress

from cli.client import Client
from pyswarm_core.errors import PermissionDenied
from pyswarm_core.ids import short
from pyswarm_core.volumes.volume import Volume


def hosts_of(client: Client, volumes: Iterable[Volume]) -> Callable[[Volume], list[str]]:
    """The hostnames of a volume's nodes; ids of removed ones, and for users who see no nodes."""
    names: dict[str, str] = {}
    if any(volume.copies for volume in volumes):
        with suppress(PermissionDenied):
            names = {view.node.id: view.node.description.hostname for view in client.nodes()}
    return lambda volume: [names.get(one, short(one)) for one in volume.copies]
