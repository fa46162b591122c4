"""`inspect` of several objects: one JSON array, and an error that names those not found.

Objects that exist are printed even if others do not, as in Docker. `Networks` derives the IPv6
addresses of objects; only IPv4 addresses are stored.
"""

from collections.abc import Callable, Sequence
from typing import Any

import click

from cli.client import Client
from pyswarm_core.addresses import address6
from pyswarm_core.docker import documents, objects
from pyswarm_core.errors import NotFound
from pyswarm_core.ids import NetworkId
from pyswarm_core.objects import Network
from pyswarm_core.specs import PREDEFINED_NETWORKS


class Networks:
    """The networks of objects, each read once."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._known: dict[NetworkId, Network | None] = {}

    def addresses(self, network_id: NetworkId, address: str) -> list[str]:
        """The address and, if the network has IPv6, the IPv6 address derived from it."""
        if network_id not in self._known:
            self._known[network_id] = self._read(network_id)
        network = self._known[network_id]
        if network is None or not network.subnet6:
            return [address]
        return [address, address6(network.subnet, network.subnet6, address)]

    def _read(self, network_id: NetworkId) -> Network | None:
        if network_id in PREDEFINED_NETWORKS:
            return None
        try:
            return self._client.network(network_id)
        except NotFound:
            return None


def network_document(
    client: Client, ref: str, *, verbose: bool = False, whole: bool = False
) -> dict[str, Any]:
    """The document of a network; see `objects.of_network`."""
    return objects.of_network(client.network_members(ref), verbose=verbose, whole=whole)


def is_template(form: str) -> bool:
    """Whether `--format` is a template, which may name any key."""
    return form not in ("", "json")


def inspect_all(
    refs: Sequence[str], form: str, read: Callable[[str], dict[str, Any]], *, whole: bool = False
) -> None:
    """Print the documents that `read` returns; JSON without their empty fields unless `whole`.

    Raises NotFound with all names that do not exist.
    """
    found, missing = [], []
    for ref in refs:
        try:
            found.append(read(ref))
        except NotFound as error:
            missing.append(str(error))
    if found or not form:
        for line in documents.show(found, form, whole=whole):
            click.echo(line)
    if missing:
        raise NotFound("; ".join(missing))
