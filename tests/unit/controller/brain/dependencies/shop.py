"""Services that depend on each other, and short names for what happens to them."""

from collections.abc import Iterable

from msgspec.structs import replace

from controller.api.changes.services import Update, remove_service, update_service
from pyswarm_core.clock import SECOND
from pyswarm_core.decision import Dirty, Writes
from pyswarm_core.ids import ServiceId
from pyswarm_core.objects import HealthState, Service, Task, TaskDetail
from pyswarm_core.specs import HealthConfig, ServiceSpec
from pyswarm_core.stacks.dependencies import Dependency, DependencyCondition
from pyswarm_core.states import TaskState
from tests.fixtures import build
from tests.fixtures.brain_world import BrainWorld

STARTED, HEALTHY, COMPLETED = DependencyCondition
RUNS = TaskDetail(serving=True)
IS_HEALTHY = TaskDetail(serving=True, health=HealthState.HEALTHY)


def needs(
    service: str,
    condition: DependencyCondition = STARTED,
    *,
    required: bool = True,
    restart: bool = False,
) -> Dependency:
    """A dependency."""
    return Dependency(service=service, condition=condition, required=required, restart=restart)


def service(
    name: str,
    *depends_on: Dependency,
    replicas: int | None = 1,
    condition: str = "any",
    check: tuple[str, ...] = (),
) -> Service:
    """A service without a restart delay."""
    template = build.template(condition=condition, delay=0)
    container = replace(template.container_spec, healthcheck=HealthConfig(test=check))
    made = build.service(name, replicas=replicas, spec=replace(template, container_spec=container))
    return replace(made, spec=replace(made.spec, depends_on=depends_on))


class Shop(BrainWorld):
    """A fleet of three nodes with these services."""

    def __init__(self, *services: Service) -> None:
        super().__init__(build.state(nodes=build.nodes(3), services=list(services)))

    def of(self, name: str) -> Service:
        """The stored service."""
        return self.state.services[ServiceId(name)]

    def tell(self, *names: str) -> None:
        """Decide because these services changed."""
        dirty = Dirty()
        dirty.services.update(map(ServiceId, names))
        self.settle(dirty)

    def come(
        self, name: str, state: TaskState = TaskState.RUNNING, detail: TaskDetail | None = None
    ) -> None:
        """All desired tasks of the service that have a node come so far; that is decided."""
        for task in self.desired(name):
            if task.node_id:
                self.report(task.node_id, task, state, detail)
        self.tell(name)

    def end(self, name: str, exit_code: int = 0) -> None:
        """All tasks of the service that run end by themselves; that is decided."""
        state = TaskState.FAILED if exit_code else TaskState.COMPLETE
        self.come(name, state, TaskDetail(exit_code=exit_code, ran=SECOND))

    def stop_tasks(self, name: str) -> None:
        """The agents report the ends of the tasks that they were told to end; that is decided."""
        for task in self.tasks(name):
            if task.desired_state > TaskState.RUNNING and task.state <= TaskState.RUNNING:
                self.report(task.node_id, task, TaskState.SHUTDOWN)
        self.tell(name)

    def tasks(self, name: str) -> list[Task]:
        """All stored tasks of the service."""
        return list(self.state.tasks_of_service(ServiceId(name)))

    def states(self, name: str) -> list[str]:
        """The states of its desired tasks."""
        return [task.state.word for task in self.desired(name)]

    def messages(self, name: str) -> set[str]:
        """The messages of its desired tasks."""
        return {task.detail.message for task in self.desired(name)}

    def update(self, name: str, spec: ServiceSpec) -> None:
        """A user's update; that is decided."""
        old = self.of(name)
        change = Update(old.id, old.version, spec)
        writes, _ = update_service(self.state, change, (), self.now, self.ids)
        self.state.apply(writes)
        self.tell(name)

    def change(self, name: str, **fields: object) -> None:
        """A user's update of these fields; that is decided."""
        self.update(name, replace(self.of(name).spec, **fields))

    def force(self, name: str) -> None:
        """A user's update that replaces all tasks; that is decided."""
        spec = self.of(name).spec
        template = spec.task_template
        forced = replace(template, force_update=template.force_update + 1)
        self.update(name, replace(spec, task_template=forced))

    def apply(self, *services: Service) -> None:
        """These are made, or changed otherwise; that is decided."""
        self.state.apply(Writes(objects=services))
        self.tell(*(one.id for one in services))

    def together(self, names: Iterable[str], *, stopped: bool) -> None:
        """A user stops or removes all of these at once; that is decided."""
        found: list[Service] = []
        for name in names:
            old = self.of(name)
            if stopped:
                change = Update(old.id, old.version, replace(old.spec, stopped=True))
                writes, _ = update_service(self.state, change, (), self.now, self.ids)
            else:
                writes, _ = remove_service(self.state, old.id, self.now)
            found += [one for one in writes.objects if isinstance(one, Service)]
        self.apply(*found)
