"""The endpoint sets that nodes receive. PURE (mutable; one owner).

An endpoint is one service on one network: its name, virtual address, published ports and backends.
`Endpoints` holds each as the bytes of its message, made once per change for all nodes, and a log of
changes. A session has a position in the log: a change costs nothing per session, and a session that
is behind reads all that it missed at once.

Messages are made in slices of ENDPOINT_SLICE slots. Services that change meanwhile are marked and
refreshed again.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import reduce
from operator import xor
from typing import NamedTuple

from controller.brain.slices import Slices, batches
from pyswarm_core.api.v1 import dispatcher_pb2
from pyswarm_core.codec import to_proto
from pyswarm_core.errors import with_place
from pyswarm_core.ids import NetworkId, NodeId, ServiceId
from pyswarm_core.indexes.columns import endpoint_digest, pack_ids
from pyswarm_core.kinds import SERVICE
from pyswarm_core.limits import ENDPOINT_CHANGES, ENDPOINT_LEAST, ENDPOINT_SLICE, NODES_MAX
from pyswarm_core.objects import Service, Task
from pyswarm_core.specs import PublishMode
from pyswarm_core.state import State
from pyswarm_core.states import TaskState

EndpointKey = tuple[ServiceId, NetworkId]

_RUNNING = TaskState.RUNNING
_OCTETS = {str(number): number for number in range(256)}


def is_backend(task: Task) -> bool:
    """Whether the task may receive connections."""
    return (
        task.state is TaskState.RUNNING
        and task.desired_state is TaskState.RUNNING
        and task.detail.serving
    )


def overlays_of(state: State, task: Task) -> tuple[NetworkId, ...]:
    """The networks of the fleet on which the task has an address."""
    addresses = task.detail.addresses
    return tuple([a.network_id for a in addresses if a.network_id in state.networks])


class _Made(NamedTuple):
    message: bytes
    digest: int


class Endpoints:
    """All endpoints of one term, none before the first `refresh`."""

    def __init__(self, state: State) -> None:
        self.sequence = 0
        """Rises with every change."""
        self.mesh: NetworkId | None = None
        """The ingress network while a service publishes a port on it; every node has it."""
        self.looked_at = 0
        """The work done so far: slots, and ENDPOINT_LEAST for each service and endpoint."""
        self.failed: dict[str, str] = {}
        """Services whose endpoints could not be made, as `service/<id>`, and why. Nodes keep their
        last ones.
        """
        self._state = state
        self._of_service: dict[ServiceId, tuple[NetworkId, ...]] = {}
        self._on_network: dict[NetworkId, dict[ServiceId, None]] = {}
        self._made: dict[EndpointKey, _Made] = {}
        self._digests: dict[NetworkId, int] = {}
        self._log: dict[EndpointKey, int] = {}
        self._log_begins = 0
        self._slice_ends = ENDPOINT_SLICE

    def __contains__(self, service_id: ServiceId) -> bool:
        return service_id in self._of_service

    def refresh(self, services: Iterable[ServiceId]) -> Slices[dict[NetworkId, None]]:
        """Make the endpoints of these services anew; return the networks with changed ones."""
        changed: dict[NetworkId, None] = {}
        for service_id in tuple(services):
            try:
                yield from self._refresh(service_id, changed)
            except Exception as error:
                self.failed[SERVICE.object_name(service_id)] = with_place(error)
            else:
                self.failed.pop(SERVICE.object_name(service_id), None)
            if self._look(ENDPOINT_LEAST):
                yield
        return changed

    def _refresh(self, service_id: ServiceId, changed: dict[NetworkId, None]) -> Slices[None]:
        before = self._of_service.get(service_id, ())
        service = self._state.services.get(service_id)
        now = _networks(self._state, service) if service else ()
        if now != before:
            self._move(service_id, before, now)
        for network_id in before:
            if network_id not in now:
                changed[network_id] = None
        for network_id in now:
            is_changed = yield from self._remake(service_id, network_id)
            if network_id not in before or is_changed:
                changed[network_id] = None
                self._mark_changed((service_id, network_id))

    def _look(self, slots: int) -> bool:
        """Count the work; return whether the slice is over."""
        self.looked_at += slots
        if self.looked_at < self._slice_ends:
            return False
        self._slice_ends = self.looked_at + ENDPOINT_SLICE
        return True

    def touch(self) -> None:
        """Make all sessions on changed networks send, and so acknowledge, the current revision."""
        self.sequence += 1

    def nodes(self, network_id: NetworkId) -> Iterable[NodeId]:
        """The nodes that have, or just had, the network's endpoints."""
        network = self._state.networks.get(network_id)
        if network is not None and network.spec.ingress:
            return self._state.nodes
        return self._state.network_load.get(network_id, ())

    def nodes_of(self, networks: Iterable[NetworkId]) -> Collection[NodeId]:
        """The nodes that have endpoints of any of these networks; all nodes if it takes more than
        NODES_MAX lookups to find them.
        """
        found: dict[NodeId, None] = {}
        looks = 0
        for network_id in networks:
            nodes = dict.fromkeys(self.nodes(network_id))
            looks += len(nodes) + 1
            if looks > NODES_MAX:
                return tuple(self._state.nodes)
            found.update(nodes)
        return found

    def on_network(self, network_id: NetworkId) -> Iterator[EndpointKey]:
        """All endpoints on the network."""
        return ((service_id, network_id) for service_id in self._on_network.get(network_id, ()))

    def message(self, key: EndpointKey) -> bytes | None:
        """A ServiceEndpoint message; None if there is no such endpoint, or it could not be made."""
        made = self._made.get(key)
        return made.message if made else None

    def digest(self, networks: Iterable[NetworkId]) -> int:
        """The digest of all endpoints on these networks, as a node with them acknowledges it."""
        return reduce(xor, (self._digests.get(network_id, 0) for network_id in networks), 0)

    def remembers(self, sequence: int) -> bool:
        """Whether the log holds all changes since then."""
        return sequence >= self._log_begins

    def changed_since(self, sequence: int) -> list[EndpointKey]:
        """The endpoints that changed since then, removed ones too."""
        found: list[EndpointKey] = []
        for key in reversed(self._log):
            if self._log[key] <= sequence:
                break
            found.append(key)
        return found

    def _remake(self, service_id: ServiceId, network_id: NetworkId) -> Slices[bool]:
        """Make the message; return whether it differs from the last one."""
        key = (service_id, network_id)
        backends = Backends(network_id)
        slots = self._state.tasks_of_service(service_id).slots
        for part in batches(sorted(slots), ENDPOINT_SLICE):
            backends.add(slots, part)
            if self._look(len(part)):
                yield
        if self._look(ENDPOINT_LEAST):
            yield
        # No slice ends from here until the change is marked: a digest goes with a position.
        message = endpoint_message(self._state, service_id, network_id, backends)
        before = self._made.get(key)
        is_changed = before is None or before.message != message
        if is_changed:
            made = self._made[key] = _Made(message, endpoint_digest(message))
            self._fold(network_id, made.digest ^ (before.digest if before else 0))
        return is_changed

    def _fold(self, network_id: NetworkId, change: int) -> None:
        """Add endpoints to the network's digest, or remove them."""
        digest = self._digests.get(network_id, 0) ^ change
        if digest:
            self._digests[network_id] = digest
        else:
            self._digests.pop(network_id, None)

    def _move(
        self, service_id: ServiceId, before: tuple[NetworkId, ...], now: tuple[NetworkId, ...]
    ) -> None:
        for network_id in before:
            if network_id not in now:
                if made := self._made.pop((service_id, network_id), None):
                    self._fold(network_id, made.digest)
                self._mark_changed((service_id, network_id))
                services = self._on_network[network_id]
                del services[service_id]
                if not services:
                    del self._on_network[network_id]
                    self.mesh = None if network_id == self.mesh else self.mesh
        for network_id in now:
            self._on_network.setdefault(network_id, {})[service_id] = None
            if self._state.networks[network_id].spec.ingress:
                self.mesh = network_id
        if now:
            self._of_service[service_id] = now
        else:
            del self._of_service[service_id]

    def _mark_changed(self, key: EndpointKey) -> None:
        self.sequence += 1
        self._log.pop(key, None)
        self._log[key] = self.sequence
        if len(self._log) > ENDPOINT_CHANGES:
            oldest = next(iter(self._log))
            self._log_begins = self._log.pop(oldest)


def _networks(state: State, service: Service) -> tuple[NetworkId, ...]:
    """The networks on which the service has endpoints; none if it is being removed."""
    if service.removing:
        return ()
    targets = [NetworkId(joined.target) for joined in service.spec.task_template.networks]
    return tuple([network_id for network_id in targets if network_id in state.networks])


class Backends:
    """The columns of the tasks that may receive connections on one network."""

    def __init__(self, network_id: NetworkId) -> None:
        self.message = dispatcher_pb2.ServiceEndpoint(network_id=network_id)
        self._network_id = network_id
        self._ids: list[bytes] = []
        self._addresses: list[bytes] = []

    def add(self, tasks: Mapping[int, Iterable[Task]], slots: Iterable[int]) -> None:
        """Add the backends of these slots; a slot that is gone has none."""
        network_id = self._network_id
        backends: list[Task] = []
        addresses: list[str] = []
        for slot in slots:
            for task in tasks.get(slot, ()):
                if task.state is not _RUNNING or task.desired_state is not _RUNNING:
                    continue
                detail = task.detail
                if not detail.serving:
                    continue
                for held in detail.addresses:
                    if held.network_id == network_id:
                        backends.append(task)
                        addresses.append(held.address)
        if not backends:
            return
        # All at once takes a third of the time of one by one.
        packed = bytes(map(_OCTETS.__getitem__, ".".join(addresses).split(".")))
        if len(packed) != 4 * len(addresses):
            raise ValueError("an address has not four octets")
        self._addresses.append(packed)
        self._ids.append(pack_ids([task.id for task in backends]))
        self.message.slots.extend([task.slot for task in backends])

    def settle(self) -> dispatcher_pb2.ServiceEndpoint:
        """The message with all columns."""
        self.message.task_ids = b"".join(self._ids)
        self.message.addresses = b"".join(self._addresses)
        return self.message


def endpoint_message(
    state: State, service_id: ServiceId, network_id: NetworkId, backends: Backends
) -> bytes:
    """A ServiceEndpoint: the service on one network, backends by slot."""
    service = state.services[service_id]
    message = backends.settle()
    message.service_id = service_id
    message.service_name = service.spec.name
    vips = (vip.addr for vip in service.endpoint.virtual_ips if vip.network_id == network_id)
    message.vip = next(vips, "")
    setattr(message, "global", service.spec.mode.per_node)
    for joined in service.spec.task_template.networks:
        if joined.target == network_id:
            message.aliases.extend(joined.aliases)
    if state.networks[network_id].spec.ingress:
        for port in service.endpoint.ports:
            if port.publish_mode is PublishMode.INGRESS:
                to_proto(port, message.ports.add())
    return message.SerializeToString(deterministic=True)
