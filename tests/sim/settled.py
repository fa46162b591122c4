"""What must come true once nothing goes wrong any more.

`unsettled` says what is still missing, empty when the fleet is as its users asked, or says why not.
"""

from collections.abc import Collection, Iterator, Mapping

from msgspec.structs import replace

from agent.network.base import HOST_BRIDGE
from agent.network.overlay.fake import Fabric
from agent.tasks.ocispec_resources import cgroup_limits
from controller.brain.allocator.audit import audit
from controller.brain.decide import decide
from pyswarm_core.clock import Instant
from pyswarm_core.decision import Dirty
from pyswarm_core.ids import NodeId, ServiceId, TaskId
from pyswarm_core.indexes.in_place import awaits_in_place, refuses_networks
from pyswarm_core.indexes.rollout import is_outdated
from pyswarm_core.indexes.tasks import is_desired, waits_for_node
from pyswarm_core.limits import PENDING_SHOWN
from pyswarm_core.objects import Node, Service, Task, shortened
from pyswarm_core.specs import ContainerMode, ReplicatedMode, RestartCondition
from pyswarm_core.state import State
from pyswarm_core.states import Availability, NodeState, TaskState, is_terminal, occupies
from tests.sim import dependencies, stack_rules
from tests.sim.asked import Asked
from tests.sim.behaviours import is_restless
from tests.sim.checked import spec_of
from tests.sim.connections import wrong_endpoints
from tests.sim.containers import is_container, left_over, wrong_layers, wrong_networks
from tests.sim.controllers import Machine
from tests.sim.hosts import Host
from tests.sim.placement import satisfies
from tests.sim.rand import SeededIds
from tests.sim.rollout_states import is_beside_failed, is_new, is_paused, is_rolling, serves
from tests.sim.room import held_room
from tests.sim.stops import Stops
from tests.sim.view import View
from tests.sim.volumes import to_move, waits_for_data, wrong_copies

_ENDS_BADLY = (TaskState.FAILED, TaskState.REJECTED, TaskState.COMPLETE)


class Settled:
    """The end that every run must reach."""

    def __init__(
        self,
        view: View,
        machines: list[Machine],
        hosts: list[Host],
        asked: Asked,
        stops: Stops,
    ) -> None:
        self._view = view
        self.machines = machines
        self._hosts = hosts
        self._asked = asked
        self._stops = stops

    def unsettled(self) -> list[str]:
        """What is not as it should be, yet."""
        leaders = [machine for machine in self.machines if machine.loop is not None]
        if len(leaders) != 1:
            return [f"{len(leaders)} controllers lead"]
        loop = leaders[0].loop
        assert loop is not None
        connected = {session.node_id for session in loop.sessions}
        found = [*self._promises(), *self._nodes(connected), *filter(None, audit(loop.state))]
        found += [
            f"{machine.name} names {machine.controller.leader!r} as the leader"
            for machine in self.machines
            if machine.up
            and machine.controller is not None
            and machine.controller.leader != leaders[0].name
        ]
        for service in self._view.services.values():
            found += self._service(service)
        for host in self._hosts:
            found += self._host(host)
        found += wrong_layers(self._view, self._hosts)
        found += wrong_copies(self._view, self._hosts)
        found += to_move(loop.state, leaders[0].process)
        found += dependencies.unsettled(loop.state, self.is_restless)
        found += stack_rules.unsettled(self._view, self._asked.stacks, self._held_by_lost_host)
        found += self._stops.still_running(self._view)
        return found

    def restless(self) -> bool:
        """Whether some service's containers end by themselves, or those of an earlier spec that are
        left: then there is no quiet.
        """
        left = (task for task in self._view.tasks.values() if is_desired(task))
        specs = (spec for task in left if (spec := spec_of(task, self._view)))
        return any(map(_restless, self._view.services.values())) or any(map(is_restless, specs))

    def is_restless(self, service: Service) -> bool:
        """Whether its containers end by themselves."""
        return _restless(service)

    def undecided(self, now: Instant, ids: SeededIds) -> list[str]:
        """What a new leader would write although everything is settled."""
        loop = next(m.loop for m in self.machines if m.loop is not None)
        dirty = Dirty()
        dirty.services.update(loop.state.services)
        dirty.nodes.update(loop.state.nodes)
        decision = decide(loop.state, dirty, now, ids.fork(), cost=1 << 40)
        return [f"a new leader would write {decision.writes}"] if decision.writes else []

    def drifted(self) -> Iterator[str]:
        """Where the leader's memory differs from the store (all is quiet)."""
        loop = next(m.loop for m in self.machines if m.loop is not None)
        yield from _differences(loop.state, self._view)

    # Parts

    def _promises(self) -> Iterator[str]:
        for service_id, index in self._asked.promised.items():
            service = self._view.services.get(service_id)
            if service is None:
                if service_id not in self._asked.removals:
                    yield f"service {service_id} was promised and is gone"
            elif service.version.index < index:
                yield f"service {service.spec.name} forgot promised version {index}"
        for service_id in self._asked.promised_removals:
            service = self._view.services.get(service_id)
            if service is not None and not self._held_by_lost_host(service):
                yield f"service {service.spec.name} was removed and is still there"

    def _held_by_lost_host(self, service: Service) -> bool:
        """A task of a host that never returns is kept until its orphanage is certain."""
        lost = {host.node_id for host in self._hosts if host.lost}
        return service.removing and any(
            task.node_id in lost
            for tasks in self._view.slots_of(service.id).values()
            for task in tasks
        )

    def _nodes(self, connected: Collection[NodeId]) -> Iterator[str]:
        """`connected`: those with a session; a new leader waits for one before it judges a node."""
        for host in self._hosts:
            node = self._view.nodes.get(host.node_id) if host.node_id else None
            if node is None:
                if not host.lost and not host.removed:
                    yield f"host {host.name} is no node"
                continue
            expected = NodeState.DOWN if host.lost else NodeState.READY
            if node.status.state is not expected:
                yield f"node {host.name} is {node.status.state}, not {expected}"
            elif not host.lost and node.id not in connected:
                yield f"node {host.name} has no session with the leader"

    def _service(self, service: Service) -> Iterator[str]:
        slots = self._view.slots_of(service.id)
        name = service.spec.name
        if service.removing:
            if slots and not self._held_by_lost_host(service):
                yield f"service {name} is being removed and has tasks in slots {sorted(slots)}"
            return
        yield from left_over(service, slots)
        if is_container(service) and service.pinned_node not in ("", *self._view.nodes):
            return  # its layer is lost: it waits for its users
        desired = {n: [t for t in tasks if is_desired(t)] for n, tasks in slots.items()}
        if service.spec.stopped:
            for task in (task for tasks in desired.values() for task in tasks):
                yield f"{name} is stopped and has task {task.id}"
            return
        yield from self._update(service, slots, desired)
        if isinstance(service.spec.mode, ReplicatedMode | ContainerMode):
            replicas = service.spec.mode.replicas
            filled = [
                n
                for n, tasks in slots.items()
                if desired[n] or self._given_up(service, tasks) or self._is_held(service, tasks)
            ]
            if len(filled) != replicas and not _few_shown(desired):
                yield f"{name} fills slots {filled} of {replicas}"
        else:
            yield from self._global(service, slots, desired)
        for number, tasks in desired.items():
            for task in tasks:
                yield from self._desired(service, number, task, slots[number])

    def _global(
        self, service: Service, slots: dict[int, list[Task]], desired: dict[int, list[Task]]
    ) -> Iterator[str]:
        for node in self._view.nodes.values():
            if node.status.state is not NodeState.READY or not satisfies(service.spec, node):
                continue
            have = (
                _few_shown(desired)
                or bool(desired.get(node.number))
                or self._given_up(service, slots.get(node.number, []))
            )
            if node.spec.availability is Availability.ACTIVE and not have:
                yield f"{service.spec.name} has no task on {node.description.hostname}"

    def _given_up(self, service: Service, tasks: list[Task]) -> bool:
        """Whether the slot's last task ended, and its restart policy leaves it at that for now; or
        its newest one did, and an outdated one that ran on beside it is not replaced.
        """
        kept = [task for task in tasks if task.desired_state is not TaskState.REMOVE]
        ended = [task for task in kept[-1:] if is_new(service, task)]
        if (last := self._stops.last_of(tasks)) is not None:
            ended.append(last)
        return any(self._is_left_ended(service, task) for task in ended)

    def _goes_on(self, service: Service, slot: list[Task]) -> bool:
        """Whether the slot's new task failed and is not restarted: the outdated one runs on."""
        return is_beside_failed(service, slot) and self._given_up(service, slot)

    def _is_held(self, service: Service, tasks: list[Task]) -> bool:
        """Whether a task has its layer or the only copy of a volume on a node that is down: the
        slot gets no other until the node returns, also if an update told the task to end.
        """
        for task in tasks:
            node = self._view.nodes.get(task.node_id)
            stays = is_container(service) or waits_for_data(service, self._view, task)
            is_over = is_terminal(task.state) or task.desired_state is TaskState.REMOVE
            if stays and not is_over and node and node.status.state is NodeState.DOWN:
                return True
        return False

    def _is_left_ended(self, service: Service, last: Task) -> bool:
        """Whether the task ended, and the restart policy may leave it at that for now."""
        policy = service.spec.task_template.restart_policy
        if last.state not in _ENDS_BADLY:
            return False
        if last.id in self._stops.before_start.get(service.id, ()):
            return False  # it is to run again
        return (
            _restless(service)
            or policy.condition is RestartCondition.NONE
            or (
                policy.condition is RestartCondition.ON_FAILURE and last.state is TaskState.COMPLETE
            )
            or policy.max_attempts > 0
        )

    def _desired(
        self, service: Service, number: int, task: Task, slot: list[Task]
    ) -> Iterator[str]:
        label = f"{service.spec.name}.{number} ({task.id[:6]})"
        if task.state < TaskState.ASSIGNED:
            if not task.detail.message:
                yield f"{label} waits and does not say why"
            return
        if self._is_held(service, [task]):
            return  # it stays on the node of its layer, or of its volumes
        node = self._view.nodes.get(task.node_id)
        if node is None or node.status.state is not NodeState.READY:
            yield f"{label} should run on {task.node_id}, which is not ready"
            return
        if node.spec.availability is Availability.DRAIN:
            yield f"{label} should run on {node.description.hostname}, which is being drained"
        if not satisfies(service.spec, node):
            yield f"{label} is on {node.description.hostname} against its constraints"
        if _restless(service):
            return
        stays = _is_left(service, node) or self._goes_on(service, slot)
        if is_outdated(service, task) and not stays and not self._update_waits(service):
            yield f"{label} is outdated"
        if task.state is not TaskState.RUNNING:
            yield f"{label} is {task.state.word}: {task.detail}"

    def _update(
        self, service: Service, slots: dict[int, list[Task]], desired: dict[int, list[Task]]
    ) -> Iterator[str]:
        """An update that nothing holds up is completed; no slot keeps two versions."""
        if not _restless(service):
            yield from held_room(self._view, service, desired)
        if _restless(service) or self._update_waits(service):
            return
        for number, tasks in desired.items():
            nodes = [node for t in tasks if (node := self._view.nodes.get(t.node_id)) is not None]
            if any(_is_left(service, node) for node in nodes):
                continue
            if len({is_new(service, task) for task in tasks}) > 1:
                yield f"slot {number} of {service.spec.name} keeps two versions"
        given_up = any(
            not desired[number] and self._given_up(service, tasks)
            for number, tasks in slots.items()
        )
        if is_rolling(service) and not given_up:
            yield f"the update of {service.spec.name} is not completed: {service.update_status}"

    def _update_waits(self, service: Service) -> bool:
        """Whether it is paused, a new task does not serve (and says why), or an outdated one cannot
        end because its node is down: then the update goes no further.
        """
        slots = self._view.slots_of(service.id).values()
        return (
            is_paused(service)
            or dependencies.waits(service)
            or any(self._is_held(service, [t for t in held if not is_desired(t)]) for held in slots)
            or any(
                is_desired(task) and not serves(task) and is_new(service, task)
                for held in slots
                for task in held
            )
        )

    def _host(self, host: Host) -> Iterator[str]:
        if host.lost or host.worker is None or host.node_id not in self._view.nodes:
            return
        tasks = self._view.tasks_of_node(host.node_id)
        restless = {s.id for s in self._view.services.values() if _restless(s)}
        records = {i: r for i, r in host.worker.records.items() if r.service_id not in restless}
        stored = {i: t for i, t in tasks.items() if t.service_id not in restless}
        for task_id in sorted({*records, *stored}):
            record, task = records.get(task_id), stored.get(task_id)
            if record is None and task is not None:
                if occupies(task.state):
                    yield f"{host.name} does not know task {task_id} ({task.state.word})"
            elif task is None:
                yield f"{host.name} still has task {task_id}, which the store forgot"
            elif task.state is TaskState.RUNNING and task.desired_state > TaskState.RUNNING:
                yield f"{host.name}: task {task_id} is to stop and runs"
            elif record is not None and not (
                record.state is task.state
                and replace(task.detail, told_to_end=False)
                in (record.detail, shortened(record.detail))
            ):
                states = f"{record.state.word}, stored {task.state.word}"
                yield f"{host.name}: task {task_id} is {states}"
        yield from self._wrong_limits(host, stored)
        yield from wrong_endpoints(self._view, host, restless)
        should = {i for i, t in stored.items() if t.state is TaskState.RUNNING}
        runs = {i for i in host.running() if not self._belongs(i, restless)}
        if should != runs:
            yield f"{host.name} runs {sorted(runs)}, should run {sorted(should)}"
        left = set(host.dataplane.overlay.tasks) - {
            i for i, r in host.worker.records.items() if not r.clean
        }
        if left:
            yield f"{host.name} has left network interfaces of {sorted(left)}"

    def _wrong_limits(self, host: Host, stored: Mapping[TaskId, Task]) -> Iterator[str]:
        """Containers with other limits than their service's, whose tasks are not to be replaced."""
        for task_id, task in stored.items():
            service = self._view.services.get(task.service_id)
            container = host.engine.containers.get(task_id)
            if service is None or container is None or task.state is not TaskState.RUNNING:
                continue
            limits = cgroup_limits(service.spec.task_template.resources)
            if is_outdated(service, task):
                continue
            if container.limits != limits:
                yield f"{host.name}: task {task_id} has the limits {container.limits}"
            elif awaits_in_place(service, task):
                yield f"{host.name}: task {task_id} has new limits, which its agent did not report"
            elif is_container(service) and not refuses_networks(service, task):
                plugs = host.dataplane.overlay.tasks.get(task_id, ())
                yield from wrong_networks(service, task, plugs)

    def _belongs(self, task_id: str, services: set[ServiceId]) -> bool:
        task = self._view.tasks.get(task_id)  # type: ignore[call-overload]
        return task is not None and task.service_id in services


def _few_shown(desired: dict[int, list[Task]]) -> bool:
    """Whether so many tasks wait for a node that no more are stored."""
    tasks = [task for held in desired.values() for task in held]
    return sum(map(waits_for_node, tasks)) >= PENDING_SHOWN


def _is_left(service: Service, node: Node) -> bool:
    """Whether updates of the service leave the node's task as it is."""
    return service.spec.mode.per_node and node.spec.availability is Availability.PAUSE


def _restless(service: Service) -> bool:
    return is_restless(service.spec)


def _differences(state: State, view: View) -> Iterator[str]:
    tasks = {
        task.id: task if task is slot[-1] else replace(task, restarted_at=())
        for service_id in state.services
        for slot in state.tasks_of_service(service_id).slots.values()
        for task in slot  # when restarts were is stored of a slot's newest task alone
    }
    for name, mine, stored in (
        ("service", state.services, view.services),
        ("network", state.networks, view.networks),
        ("task", tasks, view.tasks),
    ):
        for key in sorted({*mine, *stored}):
            if mine.get(key) != stored.get(key):
                yield f"{name} {key}: leader {mine.get(key)}, store {stored.get(key)}"


def unreachable(view: View, hosts: list[Host], fabric: Fabric) -> Iterator[str]:
    """Running tasks of one network reach each other by address."""
    by_node: dict[NodeId | None, Host] = {h.node_id: h for h in hosts if not h.lost}
    running = [
        (by_node[t.node_id], t)
        for t in view.tasks.values()
        if t.state is TaskState.RUNNING and t.detail.addresses and t.node_id in by_node
        and t.id in by_node[t.node_id].running()
    ]  # fmt: skip
    pairs = 0
    for host, task in running:
        for far, other in running:
            for address in other.detail.addresses:
                mine = [a for a in task.detail.addresses if a.network_id == address.network_id]
                local = address.network_id == HOST_BRIDGE
                if local or not mine or other.id == task.id or pairs > 60:
                    continue
                pairs += 1
                if not fabric.reaches(host.address, task.id, address.address):
                    yield (
                        f"{task.id[:6]} on {host.name} does not reach {other.id[:6]} on {far.name}"
                        f" at {address.address}"
                    )
