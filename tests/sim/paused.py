"""Rules about paused nodes: they get no tasks and keep those that they have.

In unrest every decision is looked at; the drill updates a global service while a node is paused.
"""

from collections.abc import Callable, Iterator

import msgspec
from msgspec.structs import replace

from pyswarm_core.clock import MILLISECOND, SECOND
from pyswarm_core.decision import Decision
from pyswarm_core.ids import NodeId, TaskId
from pyswarm_core.indexes.tasks import waits_for_node
from pyswarm_core.kinds import SERVICE
from pyswarm_core.objects import Node, Service, Task
from pyswarm_core.specs import (
    ContainerSpec,
    FailureAction,
    GlobalMode,
    ServiceSpec,
    TaskSpec,
)
from pyswarm_core.state import State
from pyswarm_core.states import Availability, NodeState, TaskState, UpdateState
from tests.sim.marks import Marks
from tests.sim.placement import Problem, occupies
from tests.sim.rand import Chance
from tests.sim.rollout_states import is_current, may_stay, serves, should_run
from tests.sim.rollouts import Rollouts
from tests.sim.rules import Fail, Rule
from tests.sim.view import View
from tests.sim.workload import Users

STEP = 50 * MILLISECOND
PER_NODE = 40 * SECOND
"""One node's update takes at most this long beside its delay."""
AFTERWARDS = 20 * SECOND


def problems(state: State, decision: Decision) -> Iterator[Problem]:
    """A decision ends the task that a global service has on a paused node, for nothing that the
    node or the users of the service have done.
    """
    written = {service.id: service for service in decision.writes.of(SERVICE)}
    gone = dict.fromkeys(decision.writes.removed_tasks)
    ending = [(state.tasks.get(i), "forgotten") for i in gone]
    ending += [
        (state.tasks.get(task.id), "shut down")
        for task in decision.writes.tasks
        if task.desired_state > TaskState.RUNNING >= task.state
    ]
    for task, what in ending:
        if task is None or not should_run(task) or not _is_on_paused(state, task):
            continue
        if task.state < TaskState.ASSIGNED:
            continue  # it only waited for the node, which gets no task now
        service = written.get(task.service_id) or state.services.get(task.service_id)
        if service is None or service.removing or not service.spec.mode.per_node:
            continue
        slot = state.tasks_of_service(service.id).slots.get(task.slot, ())
        alone = sum(map(should_run, slot)) == 1
        if alone and may_stay(state, service, task):
            yield Rule.PAUSED_NODE, f"{task.id} of {service.spec.name} is {what} on a paused node"


def _is_on_paused(state: State, task: Task) -> bool:
    node = state.nodes.get(task.node_id)
    return node is not None and is_paused(node)


def is_paused(node: Node) -> bool:
    """Whether it gets no tasks, and keeps those that it has."""
    return node.spec.availability is Availability.PAUSE


class _Watched(msgspec.Struct):
    """A global service, and the task that it has on the paused node."""

    service: Service
    node: Node
    task: Task
    others: int


class PauseDrill:
    """A node is paused, a global service is updated, the node is used again."""

    def __init__(self, view: View, users: Users, chance: Chance, marks: Marks, fail: Fail) -> None:
        self._view = view
        self._users = users
        self._chance = chance
        self._marks = marks
        self._fail = fail
        self._rollouts = Rollouts(chance, checks=False)
        self._now: Callable[[], int] = lambda: 0
        self._run: Callable[[int], None] = lambda duration: None

    def pause_one(self, now: Callable[[], int], run: Callable[[int], None]) -> None:
        """All of it, where two nodes have room for one more task."""
        self._now, self._run = now, run
        watched = self._begin()
        if watched is None:
            return
        service, node = watched.service, watched.node
        self._set(node.id, Availability.PAUSE)
        self._marks.hit("drill: a node was paused")
        spec = _with_image(service.spec, "web:2")
        self._users.update(service, spec, "drill: a node is paused", leader=True)
        config = spec.update_config
        rounds = -(-watched.others // max(1, config.parallelism or watched.others))
        bound = rounds * (PER_NODE + config.delay) + config.monitor + AFTERWARDS
        done = self._until(lambda: self._is_completed(service), bound, watched)
        status = self._view.services[service.id].update_status
        if not done and not self._is_crowded_out(service):
            text = f"the update of {service.spec.name} is not completed while a node is paused"
            self._fail(Rule.PAUSED_NODE, f"{text}: {config}, {status}")
        self._set(node.id, Availability.ACTIVE)
        done = self._until(lambda: self._is_updated(watched), PER_NODE + AFTERWARDS)
        if not done and not self._is_crowded_out(service):
            text = f"{service.spec.name} is not updated on a node that is used again"
            self._fail(Rule.PAUSED_NODE, f"{text}: {config}, {status}")
        self._users.remove_named(self._view.services[service.id])
        self._run(AFTERWARDS)

    # Inside

    def _begin(self) -> _Watched | None:
        nodes = [node for node in self._view.nodes.values() if _takes_tasks(node)]
        if len(nodes) < 2:
            return None
        config = replace(self._rollouts.config(), failure_action=FailureAction.PAUSE)
        container = ContainerSpec(image="web:1", stop_grace_period=SECOND)
        spec = ServiceSpec(
            name="everywhere",
            task_template=TaskSpec(container_spec=container),
            mode=GlobalMode(),
            update_config=config,
        )
        for _ in range(5):  # a controller that does not lead may be asked
            if self._named(spec.name) is None:
                self._users.create_as(spec)
                self._run(3 * SECOND)
        service = self._named(spec.name)
        if service is None:
            return None
        self._until(lambda: len(self._serving(service)) == len(nodes), AFTERWARDS)
        serving = self._serving(service)
        if len(serving) != len(nodes):
            self._users.remove_named(service)  # some node has no room
            return None
        task = self._chance.choice(serving)
        return _Watched(service, self._view.nodes[task.node_id], task, len(nodes) - 1)

    def _named(self, name: str) -> Service | None:
        services = self._view.services.values()
        return next((s for s in services if s.spec.name == name and not s.removing), None)

    def _serving(self, service: Service) -> list[Task]:
        slots = self._view.slots_of(service.id).values()
        return [task for tasks in slots for task in tasks if serves(task)]

    def _set(self, node_id: NodeId, availability: Availability) -> None:
        def is_set() -> bool:
            return self._view.nodes[node_id].spec.availability is availability

        for _ in range(10):
            if not is_set():
                self._users.set_node(self._view.nodes[node_id], availability)
                self._until(is_set, SECOND)

    def _is_completed(self, service: Service) -> bool:
        status = self._view.services[service.id].update_status
        return status is not None and status.state is UpdateState.COMPLETED

    def _is_updated(self, watched: _Watched) -> bool:
        service = self._view.services[watched.service.id]
        tasks = self._view.slots_of(service.id).get(watched.task.slot, [])
        return any(serves(t) and is_current(service, t.spec_version) for t in tasks) and not any(
            should_run(t) and not is_current(service, t.spec_version) for t in tasks
        )

    def _is_crowded_out(self, service: Service) -> bool:
        """Whether a task waits for a node that others have filled: one that waited for any node
        may get the place of an outdated task.
        """
        tasks = [task for slot in self._view.slots_of(service.id).values() for task in slot]
        waiting = [self._view.nodes.get(task.node_id) for task in tasks if waits_for_node(task)]
        return any(self._is_full(node) for node in waiting if node is not None)

    def _is_full(self, node: Node) -> bool:
        there = self._view.tasks_of_node(node.id).values()
        return 0 < node.description.max_tasks <= sum(map(occupies, there))

    def _until(
        self, holds: Callable[[], bool], bound: int, watched: _Watched | None = None
    ) -> bool:
        """Whether it holds within the bound. What is watched keeps its task meanwhile."""
        deadline = self._now() + bound
        while self._now() < deadline and not holds():
            self._run(STEP)
            if watched is not None:
                self._judge_kept(watched.task.id, watched.node)
        return holds()

    def _judge_kept(self, task_id: TaskId, node: Node) -> None:
        task = self._view.tasks.get(task_id)
        if task is None or not serves(task):
            host = node.description.hostname
            self._fail(Rule.PAUSED_NODE, f"{task_id} does not run on, and {host} is paused: {task}")


def _takes_tasks(node: Node) -> bool:
    ready = node.status.state is NodeState.READY
    return ready and node.spec.availability is Availability.ACTIVE


def _with_image(spec: ServiceSpec, image: str) -> ServiceSpec:
    template = spec.task_template
    container = replace(template.container_spec, image=image)
    return replace(spec, task_template=replace(template, container_spec=container))
