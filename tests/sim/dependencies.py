"""Services that depend on each other: what users do, and the rules, judged task by task."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from controller.api.changes.services import Update, remove_service, update_service
from pyswarm_core.clock import Instant
from pyswarm_core.decision import Decision, Writes
from pyswarm_core.ids import IdSource, TaskId
from pyswarm_core.kinds import SERVICE
from pyswarm_core.objects import HealthState, Service, Task
from pyswarm_core.specs import GlobalMode, ReplicatedMode, ServiceSpec
from pyswarm_core.stacks.dependencies import Dependency, DependencyCondition
from pyswarm_core.state import State
from pyswarm_core.states import (
    Availability,
    NodeState,
    TaskState,
    UpdateState,
    ends_by_itself,
    is_terminal,
)
from tests.sim.marks import Marks
from tests.sim.membership import is_free
from tests.sim.placement import Problem, satisfies
from tests.sim.rand import Chance
from tests.sim.rollout_states import is_current, is_new, is_paused, is_rolling, should_run
from tests.sim.rules import Rule
from tests.sim.view import View

if TYPE_CHECKING:
    from tests.sim.workload import Users

CONDITIONS = (
    DependencyCondition.STARTED,
    DependencyCondition.STARTED,
    DependencyCondition.HEALTHY,
    DependencyCondition.COMPLETED,
)


class DependencyUsers:
    """Those who make services depend on others, and end them together."""

    def __init__(self, users: "Users", chance: Chance, view: View, most: int) -> None:
        """`most`: how many services one request may change, which is one transaction."""
        self._users = users
        self._most = most
        self._chance = chance
        self._view = view

    def acts(self) -> list[Callable[[], None]]:
        """What they may do."""
        return [self.depend, self.force, *[self.end_together] * 3, self.start_together]

    def drawn(self, spec: ServiceSpec, number: int) -> ServiceSpec:
        """The spec of the service with this number, mostly with dependencies: also on one that does
        not exist yet.
        """
        if self._chance.hits(0.3):
            return spec
        names = [one.spec.name for one in self._alive()] + [f"s{number + 1}"]
        chosen = self._chance.sample(names, min(len(names), self._chance.choice((1, 1, 2))))
        found = [self._dependency(name) for name in chosen if name != spec.name]
        return replace(spec, depends_on=tuple(found))

    def depend(self) -> None:
        """Other dependencies, and nothing else."""
        service = self._users.some_service()
        if service is not None:
            spec = self.drawn(service.spec, len(self._view.services))
            self._users.update(service, spec, "dependencies")

    def force(self) -> None:
        """All tasks of a service are replaced."""
        service = self._users.some_service()
        if service is not None:
            template = service.spec.task_template
            template = replace(template, force_update=template.force_update + 1)
            spec = replace(service.spec, task_template=template)
            self._users.update(service, spec, "by force")

    def end_together(self) -> None:
        """Several services are stopped or removed in one request."""
        removes = self._chance.hits(0.4)
        self._change("removes" if removes else "stops", stopped=None if removes else True)

    def start_together(self) -> None:
        """Several services are started in one request."""
        self._change("starts", stopped=False)

    def _change(self, what: str, *, stopped: bool | None) -> None:
        chosen = self._chosen()
        if stopped is None:
            self._users.asked.removals.update((one.id, None) for one in chosen)

        def changed(state: State, now: Instant, ids: IdSource) -> tuple[Writes, Any]:
            objects: list[Any] = []
            for one in chosen:
                old = state.services.get(one.id)
                if old is None or old.removing:
                    continue
                if stopped is None:
                    writes, _ = remove_service(state, old.id, now)
                else:
                    spec = replace(old.spec, stopped=stopped)
                    self._users.remember(spec)
                    update = Update(old.id, old.version, spec)
                    writes, _ = update_service(state, update, (), now, ids)
                objects += writes.objects
            return Writes(objects=tuple(objects)), None

        names = " ".join(one.spec.name for one in chosen)
        self._users.send(f"{what} together: {names}", changed)

    def _chosen(self) -> list[Service]:
        """Mostly one that runs and one that it depends on, which runs too."""
        alive = self._alive()
        running = [one for one in alive if self._runs(one)]
        needed = {one.id: {each.service for each in one.spec.depends_on} for one in running}
        pairs = [[one, other] for one in running for other in running]
        pairs = [[one, other] for one, other in pairs if other.spec.name in needed[one.id]]
        if pairs and self._chance.hits(0.8):
            return self._chance.choice(pairs)
        most = min(len(alive), self._most)
        return self._chance.sample(alive, self._chance.randint(0, most))

    def _runs(self, service: Service) -> bool:
        slots = self._view.slots_of(service.id).values()
        return any(should_run(task) and task.node_id for held in slots for task in held)

    def _alive(self) -> list[Service]:
        return list(filter(is_free, self._view.services.values()))

    def _dependency(self, name: str) -> Dependency:
        chance = self._chance
        return Dependency(
            service=name,
            condition=chance.choice(CONDITIONS),
            restart=chance.hits(0.4),
            required=chance.hits(0.7),
        )


def started_too_early(task_id: TaskId, view: View) -> Iterator[str]:
    """What is wrong with the start of a process, by what is stored."""
    task = view.tasks.get(task_id)
    service = view.services.get(task.service_id) if task is not None else None
    if task is not None and service is not None:
        for _, text in _placed(service, task):
            yield f"{text}, and starts"


def waits(service: Service) -> bool:
    """Whether tasks of its template may not start yet."""
    return bool(service.spec.depends_on) and not is_current(service, service.gate.released_version)


def follows(old: Service, new: Service) -> bool:
    """Whether a decision has the tasks of a service replaced, and changes nothing else of its spec,
    because of a dependency.
    """
    template = old.spec.task_template
    forced = replace(template, force_update=template.force_update + 1)
    return (
        any(one.restart for one in old.spec.depends_on)
        and new.gate.seen != old.gate.seen
        and new.spec == replace(old.spec, task_template=forced)
    )


def as_asked(spec: ServiceSpec) -> ServiceSpec:
    """The spec without what decisions change of it for its dependencies' sake."""
    if not any(one.restart for one in spec.depends_on):
        return spec
    return replace(spec, task_template=replace(spec.task_template, force_update=0))


def problems(state: State, decision: Decision, now: Instant, marks: Marks) -> Iterator[Problem]:
    """What is wrong with a decision."""
    for service in decision.writes.of(SERVICE):
        old = state.services[service.id]
        if follows(old, service):
            marks.hit("service followed a dependency")
        if service.gate.released_version != old.gate.released_version and not waits(service):
            yield from _released(state, old, service, marks)
    for task in decision.writes.tasks:
        service, known = state.services[task.service_id], state.tasks.get(task.id)
        if task.state >= TaskState.ASSIGNED:
            if known is None or known.state < TaskState.ASSIGNED:
                yield from _placed(service, task)
        elif known is None and waits(service):
            marks.hit("task waited for a dependency")
        if known is not None and should_run(known) and not should_run(task):
            yield from _too_soon(state, service, task, now)


def _released(state: State, old: Service, new: Service, marks: Marks) -> Iterator[Problem]:
    if _returns(old, new):
        return
    marks.hit("service released")
    for one in new.spec.depends_on:
        if lacks := lacking(state, one):
            yield Rule.DEPENDENCIES, f"{new.spec.name} is released, and {one.service} {lacks}"


def _placed(service: Service, task: Task) -> Iterator[Problem]:
    if waits(service) and task.spec_version > service.gate.released_version:
        yield Rule.DEPENDENCIES, f"{task.id} of {service.spec.name} does not wait"


def _returns(old: Service, new: Service) -> bool:
    """Whether it is rolled back automatically: what ran before runs again at once."""
    status = new.update_status
    is_back = status is not None and status.state is UpdateState.ROLLBACK_STARTED
    return is_back and new.spec_version != old.spec_version


def lacking(state: State, dependency: Dependency) -> str:
    """What a dependency lacks; empty if its condition holds, or it may have failed and is not
    required.
    """
    named = [one for one in state.services.values() if one.spec.name == dependency.service]
    alive = [one for one in named if not one.removing]
    if not alive or alive[0].spec.stopped:
        return "is not there" if dependency.required else ""
    service = alive[0]
    slots = state.tasks_of_service(service.id).slots
    wanted = _wanted(state, service)
    if (
        not any(map(should_run, state.tasks_of_service(service.id)))
        and not wanted
        and isinstance(service.spec.mode, GlobalMode)
    ):
        return "has no node" if dependency.required else ""
    if not dependency.required and (
        is_paused(service) or any(_may_have_failed(held) for held in slots.values())
    ):
        return ""
    is_over = not is_rolling(service) and not is_paused(service)
    done = sum(_is_done(service, dependency, held, is_over=is_over) for held in slots.values())
    if done < wanted:
        return f"has {done} of {wanted} that are {dependency.condition.name}"
    return ""


def _may_have_failed(held: tuple[Task, ...]) -> bool:
    return any(ends_by_itself(task.state) for task in held) or any(
        should_run(task)
        and task.state is TaskState.RUNNING
        and task.detail.health is HealthState.NONE
        for task in held
    )


def _wanted(state: State, service: Service) -> int:
    if isinstance(service.spec.mode, ReplicatedMode):
        return service.spec.mode.replicas
    if not isinstance(service.spec.mode, GlobalMode):
        return 1
    return sum(
        node.status.state is NodeState.READY
        and node.spec.availability is Availability.ACTIVE
        and satisfies(service.spec, node)
        for node in state.nodes.values()
    )


def _is_done(
    service: Service, dependency: Dependency, held: tuple[Task, ...], *, is_over: bool
) -> bool:
    condition = dependency.condition
    new = [task for task in held if is_new(service, task)]
    completed = any(
        task.state is TaskState.COMPLETE and task.status_at >= service.started_at for task in new
    )
    if condition is DependencyCondition.COMPLETED:
        return completed
    runs = [task for task in (held if is_over else new) if should_run(task)]
    runs = [task for task in runs if task.state is TaskState.RUNNING]
    if condition is DependencyCondition.HEALTHY:
        return any(task.detail.health is HealthState.HEALTHY for task in runs)
    return bool(runs) or completed


def _too_soon(state: State, service: Service, task: Task, now: Instant) -> Iterator[Problem]:
    """A task of a service that ends with others ends after those that depend on it."""
    if not (service.removing or service.spec.stopped):
        return
    for other in state.services.values():
        named = any(one.service == service.spec.name for one in other.spec.depends_on)
        grace = other.spec.task_template.container_spec.stop_grace_period
        ends = other.removing or other.spec.stopped
        if not named or not ends or other.id == service.id or now >= other.updated_at + grace:
            continue
        left = [one for one in state.tasks_of_service(other.id) if not is_terminal(one.state)]
        if any(_is_up(state, one) for one in left):
            yield Rule.DEPENDENTS_FIRST, f"{task.id} of {service.spec.name} ends before {left}"


def _is_up(state: State, task: Task) -> bool:
    node = state.nodes.get(task.node_id)
    return node is not None and node.status.state is not NodeState.DOWN


def unsettled(state: State, restless: Callable[[Service], bool]) -> Iterator[str]:
    """Services that wait for nothing any more, or have not followed."""
    for service in state.services.values():
        if service.removing or service.spec.stopped or not service.spec.depends_on:
            continue
        named = {one.service: one for one in service.spec.depends_on}
        others = [one for one in state.services.values() if one.spec.name in named]
        if any(map(restless, others)):
            continue
        name = service.spec.name
        if waits(service):
            if not any(lacking(state, one) for one in service.spec.depends_on):
                yield f"{name} waits for nothing"
            continue
        seen = {one.name: one for one in service.gate.seen}
        for other in others:
            if other.removing or not named[other.spec.name].restart:
                continue
            known = seen.get(other.spec.name)
            if known is None or known.template_version != other.template_version:
                yield f"{name} has not followed {other.spec.name}"
