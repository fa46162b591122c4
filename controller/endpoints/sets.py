"""How services are reached: the endpoint sets that nodes are told. PURE (mutable; one owner).

An endpoint is one service on one network: its name, its virtual address, and its backends, the
tasks that may receive connections. `Endpoints` holds each as the bytes of its message, made once
per change and sent to many, and a log of which changed when: a session remembers how far it has
read, so marking a change costs nothing per session, and one that lags asks once for all it missed.
"""

from collections.abc import Iterable, Iterator
from functools import reduce
from operator import xor

from pyswarm_core.api.v1 import dispatcher_pb2
from pyswarm_core.codec import to_proto
from pyswarm_core.columns import endpoint_digest, pack_ids
from pyswarm_core.errors import told
from pyswarm_core.ids import NetworkId, NodeId, ServiceId
from pyswarm_core.limits import ENDPOINT_CHANGES
from pyswarm_core.objects import Service, Task
from pyswarm_core.specs import PublishMode
from pyswarm_core.state import State
from pyswarm_core.states import TaskState

EndpointKey = tuple[ServiceId, NetworkId]


def is_backend(task: Task) -> bool:
    """Whether it may receive connections."""
    return (
        task.state is TaskState.RUNNING
        and task.desired_state is TaskState.RUNNING
        and task.detail.serving
    )


def overlays_of(state: State, task: Task) -> tuple[NetworkId, ...]:
    """The networks of the fleet on which the task has an address."""
    addresses = task.detail.addresses
    return tuple([a.network_id for a in addresses if a.network_id in state.networks])


class Endpoints:
    """All endpoints of one term."""

    def __init__(self, state: State) -> None:
        self.sequence = 0
        """Rises with every change."""
        self.mesh: NetworkId | None = None
        """The ingress network while any service publishes through it: every node carries it."""
        self.failed: dict[str, str] = {}
        """Services whose endpoints could not be worked out, as `service/<id>`, and why. Nodes keep
        what they were told of them.
        """
        self._state = state
        self._of_service: dict[ServiceId, tuple[NetworkId, ...]] = {}
        self._on_network: dict[NetworkId, dict[ServiceId, None]] = {}
        self._made: dict[EndpointKey, bytes] = {}
        self._digests: dict[NetworkId, int] = {}
        self._log: dict[EndpointKey, int] = {}
        self._log_begins = 0
        self.refresh(state.services)

    def __contains__(self, service_id: ServiceId) -> bool:
        return service_id in self._of_service

    def refresh(self, services: Iterable[ServiceId]) -> dict[NetworkId, None]:
        """Look at these services anew; the networks on which any of their endpoints changed."""
        changed: dict[NetworkId, None] = {}
        for service_id in services:
            try:
                self._refresh(service_id, changed)
            except Exception as error:
                self.failed[f"service/{service_id}"] = told(error)
            else:
                self.failed.pop(f"service/{service_id}", None)
        return changed

    def _refresh(self, service_id: ServiceId, changed: dict[NetworkId, None]) -> None:
        before = self._of_service.get(service_id, ())
        service = self._state.services.get(service_id)
        now = _networks(self._state, service) if service else ()
        if now != before:
            self._move(service_id, before, now)
        for network_id in before:
            if network_id not in now:
                changed[network_id] = None
        for network_id in now:
            if network_id not in before or self._remake(service_id, network_id):
                changed[network_id] = None
                self._note((service_id, network_id))

    def touch(self) -> None:
        """Have everybody who may be concerned say that they know all that there is to know."""
        self.sequence += 1

    def nodes(self, network_id: NetworkId) -> Iterable[NodeId]:
        """Those that are told of the network's endpoints, or were until just now."""
        network = self._state.networks.get(network_id)
        if network is not None and network.spec.ingress:
            return self._state.nodes
        return self._state.network_load.get(network_id, ())

    def on_network(self, network_id: NetworkId) -> Iterator[EndpointKey]:
        """All endpoints there."""
        return ((service_id, network_id) for service_id in self._on_network.get(network_id, ()))

    def message(self, key: EndpointKey) -> bytes | None:
        """A ServiceEndpoint message; None if there is no such endpoint (any more), or it cannot be
        worked out.
        """
        made = self._made.get(key)
        if made is None and key[1] in self._of_service.get(key[0], ()):
            try:
                made = self._made[key] = endpoint_message(self._state, *key)
            except Exception as error:
                self.failed[f"service/{key[0]}"] = told(error)
                return None
            self._fold(key, made)
        return made

    def digest(self, networks: Iterable[NetworkId]) -> int:
        """Of all endpoints on these networks: what a node that was told of them acknowledges."""
        return reduce(xor, (self._digests.get(network_id, 0) for network_id in networks), 0)

    def remembers(self, sequence: int) -> bool:
        """Whether everything that changed since then is known."""
        return sequence >= self._log_begins

    def changed_since(self, sequence: int) -> list[EndpointKey]:
        """What changed since then, gone ones too."""
        found: list[EndpointKey] = []
        for key in reversed(self._log):
            if self._log[key] <= sequence:
                break
            found.append(key)
        return found

    def _remake(self, service_id: ServiceId, network_id: NetworkId) -> bool:
        """Whether the message differs from the one that was told, if it ever was."""
        key = (service_id, network_id)
        told = self._made.get(key)
        if told is None:
            return False
        made = self._made[key] = endpoint_message(self._state, service_id, network_id)
        if made == told:
            return False
        self._fold(key, told)
        self._fold(key, made)
        return True

    def _fold(self, key: EndpointKey, message: bytes) -> None:
        """The message comes to, or goes from, its network's digest."""
        digest = self._digests.get(key[1], 0) ^ endpoint_digest(message)
        if digest:
            self._digests[key[1]] = digest
        else:
            self._digests.pop(key[1], None)

    def _move(
        self, service_id: ServiceId, before: tuple[NetworkId, ...], now: tuple[NetworkId, ...]
    ) -> None:
        for network_id in before:
            if network_id not in now:
                if made := self._made.pop((service_id, network_id), None):
                    self._fold((service_id, network_id), made)
                self._note((service_id, network_id))
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

    def _note(self, key: EndpointKey) -> None:
        self.sequence += 1
        self._log.pop(key, None)
        self._log[key] = self.sequence
        if len(self._log) > ENDPOINT_CHANGES:
            oldest = next(iter(self._log))
            self._log_begins = self._log.pop(oldest)


def _networks(state: State, service: Service) -> tuple[NetworkId, ...]:
    """Where it has endpoints. A service on its way out is nobody's any more."""
    if service.removing:
        return ()
    targets = [NetworkId(joined.target) for joined in service.spec.task_template.networks]
    return tuple([network_id for network_id in targets if network_id in state.networks])


def endpoint_message(state: State, service_id: ServiceId, network_id: NetworkId) -> bytes:
    """The service as the network's tasks reach it: a ServiceEndpoint, backends by slot."""
    service = state.services[service_id]
    message = dispatcher_pb2.ServiceEndpoint(
        service_id=service_id,
        service_name=service.spec.name,
        network_id=network_id,
        vip=next((v.addr for v in service.endpoint.virtual_ips if v.network_id == network_id), ""),
    )
    setattr(message, "global", service.spec.mode.global_ is not None)
    for joined in service.spec.task_template.networks:
        if joined.target == network_id:
            message.aliases.extend(joined.aliases)
    if state.networks[network_id].spec.ingress:
        for port in service.endpoint.ports:
            if port.publish_mode is PublishMode.INGRESS:
                to_proto(port, message.ports.add())
    backends = list(_backends(state, service_id, network_id))
    message.task_ids = pack_ids(task.id for task, _ in backends)
    message.addresses = b"".join([address for _, address in backends])
    message.slots.extend([task.slot for task, _ in backends])
    return message.SerializeToString(deterministic=True)


def _backends(
    state: State, service_id: ServiceId, network_id: NetworkId
) -> Iterator[tuple[Task, bytes]]:
    slots = state.tasks_of_service(service_id).slots
    for slot in sorted(slots):
        for task in slots[slot]:
            if is_backend(task):
                for held in task.detail.addresses:
                    if held.network_id == network_id:
                        yield task, bytes(map(int, held.address.split(".")))
