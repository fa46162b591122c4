"""Parts of the state index: which blocks nobody needs, and which services wait for a node. PURE
(mutable: `State` alone changes them).
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple, TypeVar

import numpy as np

from pyswarm_core.clock import Instant
from pyswarm_core.ids import NetworkId, NodeId, ServiceId
from pyswarm_core.nodetable import BoolColumn, IntColumn, NodeTable
from pyswarm_core.objects import Network, Service
from pyswarm_core.ports import HostPort, host_ports
from pyswarm_core.specs import ServiceSpec

K = TypeVar("K")
V = TypeVar("V")


def drop(index: dict[K, V], key: K, holder: V) -> None:
    """The holder has the key no more. What was loaded may give a key to two: one is indexed."""
    if index.get(key) == holder:
        del index[key]


class IdleBlocks:
    """By network, the numbers of the nodes whose blocks are to be given back.

    A node needs its blocks of a network while it has a task on it, and while it cannot say that it
    has none: that is, until it is ready or removed.
    """

    def __init__(
        self,
        nodes: dict[int, NodeId],
        table: NodeTable,
        load: dict[NetworkId, dict[NodeId, int]],
    ) -> None:
        self.networks: dict[NetworkId, dict[int, None]] = {}
        """Only networks with such blocks."""
        self._nodes = nodes
        self._table = table
        self._load = load
        self._held: dict[NetworkId, dict[int, None]] = {}
        self._networks_of: dict[int, dict[NetworkId, None]] = {}

    def put_network(self, network_id: NetworkId, network: Network | None) -> None:
        """The network's blocks are these; None if it was removed."""
        blocks = network.blocks if network else ()
        old = self._held.get(network_id, {})
        new = self._held[network_id] = dict.fromkeys([block.node_number for block in blocks])
        for number in [number for number in old if number not in new]:
            del self._networks_of[number][network_id]
            if not self._networks_of[number]:
                del self._networks_of[number]
            self.refresh(network_id, number)
        if not new:
            del self._held[network_id]
        for number in [number for number in new if number not in old]:
            self._networks_of.setdefault(number, {})[network_id] = None
            self.refresh(network_id, number)

    def put_node(self, number: int) -> None:
        """The node of that number came, went, or is ready or no longer ready."""
        for network_id in self._networks_of.get(number, ()):
            self.refresh(network_id, number)

    def refresh(self, network_id: NetworkId, number: int) -> None:
        """The blocks of one node, or its tasks on the network, changed."""
        idle = self.networks.get(network_id)
        if number in self._held.get(network_id, ()) and not self._needs(network_id, number):
            if idle is None:
                idle = self.networks[network_id] = {}
            idle[number] = None
        elif idle and number in idle:
            del idle[number]
            if not idle:
                del self.networks[network_id]

    def _needs(self, network_id: NetworkId, number: int) -> bool:
        node_id = self._nodes.get(number)
        row = self._table.rows.get(node_id) if node_id else None
        if node_id is None or row is None:
            return False
        on_network = self._load.get(network_id)
        return bool(on_network and node_id in on_network) or not self._table.ready[row]


class Footprint(NamedTuple):
    """What a task takes of its node."""

    nano_cpus: int = 0
    memory_bytes: int = 0
    networks: tuple[NetworkId, ...] = ()
    ports: tuple[HostPort, ...] = ()


NO_FOOTPRINT = Footprint()


def footprint_of(spec: ServiceSpec) -> Footprint:
    """What a task made from the spec takes of its node."""
    template = spec.task_template
    reservations = template.resources.reservations
    return Footprint(
        reservations.nano_cpus,
        reservations.memory_bytes,
        template.overlays,
        host_ports(spec.endpoint_spec),
    )


class Needs(NamedTuple):
    """What one task of each waiting service takes of a node, who waits longest first."""

    services: tuple[ServiceId, ...]
    nano_cpus: IntColumn
    memory_bytes: IntColumn
    takes: BoolColumn
    """Whether it needs anything that tasks give back when they end."""


class Unplaced:
    """Services with tasks that wait for a node, each with the instant since when."""

    def __init__(self, services: Mapping[ServiceId, Service]) -> None:
        self.since: dict[ServiceId, Instant] = {}
        self._services = services
        self._needs: Needs | None = None

    def __len__(self) -> int:
        return len(self.since)

    def __iter__(self) -> Iterator[ServiceId]:
        return iter(self.since)

    def __contains__(self, service_id: object) -> bool:
        return service_id in self.since

    def add(self, service_id: ServiceId, since: Instant) -> None:
        """It has a task that waits; if others do already, nothing changes."""
        if service_id not in self.since:
            self.since[service_id] = since
            self._needs = None

    def discard(self, service_id: ServiceId) -> None:
        """None of its tasks waits."""
        if self.since.pop(service_id, None) is not None:
            self._needs = None

    def respecified(self, service_id: ServiceId) -> None:
        """Its spec changed."""
        if service_id in self.since:
            self._needs = None

    @property
    def needs(self) -> Needs:
        """What they need of a node."""
        if self._needs is None:
            known = [service_id for service_id in self.since if service_id in self._services]
            services = tuple(self.in_order(known))
            specs = [self._services[service_id].spec for service_id in services]
            taken = [footprint_of(spec) for spec in specs]
            self._needs = Needs(
                services,
                np.array([one.nano_cpus for one in taken], np.int64),
                np.array([one.memory_bytes for one in taken], np.int64),
                np.array([one != NO_FOOTPRINT for one in taken], np.bool_),
            )
        return self._needs

    def in_order(self, services: Iterable[ServiceId]) -> list[ServiceId]:
        """Those of the services that wait, who waits longest first."""
        waiting = [service_id for service_id in services if service_id in self.since]
        return sorted(waiting, key=lambda service_id: (self.since[service_id], service_id))
