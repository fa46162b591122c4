"""Laws about connections: nobody is sent to a process that was asked to stop, nor to one that is
gone, and in the end every host sends to exactly the tasks that serve.

What a host sends to is what its dataplane was given last.
"""

from collections.abc import Iterator

import msgspec
from msgspec.structs import replace

from agent.network.base import Backend, DesiredEndpoint, EndpointKey
from controller.leader.loop import Loop
from pyswarm_core.clock import SECOND, Instant
from pyswarm_core.ids import NetworkId, NodeId, ServiceId, TaskId
from pyswarm_core.limits import BARRIER_MAX
from pyswarm_core.objects import Service, Task
from pyswarm_core.specs import PublishMode
from pyswarm_core.states import NodeState, TaskState, occupies
from tests.sim.clock import Scheduler
from tests.sim.containers import is_container
from tests.sim.controllers import Machine
from tests.sim.hosts import Host
from tests.sim.marks import Marks
from tests.sim.rules import Rule
from tests.sim.stops import Stops
from tests.sim.view import Change, View

DISCONNECTED_WAITED_FOR = 3 * SECOND
"""So long a stop waits for hosts whose agents are silent."""
DRAIN_MAX = 2 * SECOND
"""So long a stop that an agent begins by itself waits for hosts that send connections to the task.
"""

Stale = tuple[str, EndpointKey, TaskId]


class _Decision(msgspec.Struct, frozen=True):
    at: Instant
    down: frozenset[NodeId]
    """Nodes that its leader believed to be down: they are not waited for."""


class NobodyIsSentToTheStopping:
    """A container gets its stop signal when no live host sends connections to it any more, or
    BARRIER_MAX after the decision. A stop that its agent had begun goes on.
    """

    rule = Rule.STOPS_WAIT

    def __init__(
        self,
        scheduler: Scheduler,
        machines: list[Machine],
        hosts: list[Host],
        marks: Marks,
        stops: Stops,
    ) -> None:
        self._scheduler = scheduler
        self._machines = machines
        self._hosts = hosts
        self._marks = marks
        self._stops = stops
        self._decided: dict[TaskId, _Decision] = {}

    def broken_by(self, change: Change, view: View) -> Iterator[str]:
        """Remember who was to stop since when; nothing stored breaks this law."""
        for old, new in change.tasks:
            if new is None or new.desired_state <= TaskState.RUNNING:
                continue
            if old is not None and old.desired_state <= TaskState.RUNNING:
                self._decided[new.id] = _Decision(self._scheduler.now, self._down(change.client))
        yield from ()

    def stopping(self, task_id: TaskId, view: View) -> Iterator[str]:
        """The container gets its stop signal now: who would still send to it?"""
        decision = self._decided.get(task_id)
        task = view.tasks.get(task_id)
        leaders = [machine for machine in self._machines if machine.loop is not None]
        if decision is None or task is None or len(leaders) != 1:
            return
        late = self._scheduler.now >= decision.at + BARRIER_MAX
        if task.detail.serving and late:
            self._marks.hit("stop waited as long as it may")
        if late or task.node_id in decision.down or self._is_drained(task_id):
            return
        loop = leaders[0].loop
        assert loop is not None
        for host in self._hosts:
            if host.up and self._counts(host, loop, decision):
                for service_id, network_id in sends_to(host, task_id):
                    if network_id in left(task, view):  # which ended its connections there
                        continue
                    yield (
                        f"task {task_id} is stopped while {host.name} sends connections for"
                        f" {service_id} on {network_id} to it"
                    )

    def _is_drained(self, task_id: TaskId) -> bool:
        """Whether its agent had begun to stop it by itself, and has waited as long as it may."""
        own = next((host for host in self._hosts if task_id in host.served), None)
        if own is None or own.worker is None:
            return False
        record, left_at = own.worker.records.get(task_id), own.served[task_id]
        unhealthy = record is not None and bool(record.unhealthy)
        if not unhealthy and task_id not in self._stops.asked:
            return False
        return bool(left_at) and self._scheduler.now >= left_at + DRAIN_MAX

    def _counts(self, host: Host, loop: Loop, decision: _Decision) -> bool:
        node = loop.state.nodes.get(host.node_id) if host.node_id else None
        if node is None or node.id in decision.down or node.status.state is NodeState.DOWN:
            return False
        waited = self._scheduler.now - decision.at
        if node.status.state is NodeState.DISCONNECTED and waited >= DISCONNECTED_WAITED_FOR:
            return False
        told = [e for e in loop.events.kept() if e.type == "node" and e.id == node.id]
        return not any(event.action == "down" for event in told)

    def _down(self, client: str) -> frozenset[NodeId]:
        loop = next((m.loop for m in self._machines if m.name == client), None)
        nodes = loop.state.nodes.values() if loop is not None else ()
        return frozenset(n.id for n in nodes if n.status.state is NodeState.DOWN)


def left(task: Task, view: View) -> set[NetworkId]:
    """The networks that a container was disconnected from."""
    service = view.services.get(task.service_id)
    if service is None or not is_container(service):
        return set()
    ingress = (network.id for network in view.networks.values() if network.spec.ingress)
    return set(view.networks) - {*service.spec.task_template.overlays, *ingress}


def sends_to(host: Host, task_id: TaskId) -> Iterator[EndpointKey]:
    """The endpoints by which somebody on the host would be sent to the task."""
    for key, endpoint in host.dataplane.endpoints.items():
        if any(backend.task_id == task_id for backend in endpoint.backends) and (
            endpoint.ports or _has_clients(host, key[1])
        ):
            yield key


def _has_clients(host: Host, network_id: NetworkId) -> bool:
    return any(host.addresses(running, network_id) for running in host.running())


def stale(hosts: list[Host]) -> set[Stale]:
    """What hosts send to and does not run."""
    running = {task_id for host in hosts for task_id in host.running()}
    return {
        (host.name, key, backend.task_id)
        for host in hosts
        if host.up
        for key, endpoint in host.dataplane.endpoints.items()
        for backend in endpoint.backends
        if backend.task_id not in running
    }


def wrong_endpoints(view: View, host: Host, ignored: set[ServiceId]) -> Iterator[str]:
    """Where what the host sends to differs from what is stored."""
    assert host.node_id is not None
    expected = _desired(view, host.node_id)
    have = {key: replace(e, digest=0) for key, e in host.dataplane.endpoints.items()}
    for key in sorted({*expected, *have}):
        if key[0] not in ignored and expected.get(key) != have.get(key):
            yield f"{host.name} reaches {key} by {have.get(key)}, should by {expected.get(key)}"


def _desired(view: View, node_id: NodeId) -> dict[EndpointKey, DesiredEndpoint]:
    alive = {s.id: s for s in view.services.values() if not s.removing}
    on_node: set[str] = set()
    for task in view.tasks_of_node(node_id).values():
        service = view.services.get(task.service_id)
        template = service.template(task.spec_version) if service else None
        if template is not None and occupies(task.state):
            on_node.update(joined.target for joined in template.networks)
    return {
        (service.id, network.id): _endpoint(view, service, network.id)
        for service in alive.values()
        for network in view.networks.values()
        if any(joined.target == network.id for joined in service.spec.task_template.networks)
        and (network.spec.ingress or network.id in on_node)
    }


def _endpoint(view: View, service: Service, network_id: NetworkId) -> DesiredEndpoint:
    ingress = view.networks[network_id].spec.ingress
    joined = [n for n in service.spec.task_template.networks if n.target == network_id]
    vips = [v.addr for v in service.endpoint.virtual_ips if v.network_id == network_id]
    return DesiredEndpoint(
        service_id=service.id,
        service_name=service.spec.name,
        network_id=network_id,
        global_service=service.spec.mode.per_node,
        vip=vips[0] if vips else "",
        aliases=tuple(alias for network in joined for alias in network.aliases),
        backends=tuple(
            Backend(task.id, task.slot, held.address)
            for _, tasks in sorted(view.slots_of(service.id).items())
            for task in tasks
            if _serves(task)
            for held in task.detail.addresses
            if held.network_id == network_id
        ),
        ports=tuple(
            port
            for port in service.endpoint.ports
            if ingress and port.publish_mode is PublishMode.INGRESS
        ),
    )


def _serves(task: Task) -> bool:
    running = task.state is TaskState.RUNNING is task.desired_state
    return running and task.detail.serving
