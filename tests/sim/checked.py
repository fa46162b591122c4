"""Rules about health and readiness: what checks found decides, and nothing else.

The engine remembers what every check of a container found, whoever asked.
"""

from collections.abc import Iterable, Iterator

from pyswarm_core.ids import TaskId
from pyswarm_core.objects import Task
from pyswarm_core.specs import ServiceSpec
from pyswarm_core.states import TaskState
from tests.sim.behaviours import has_health, has_readiness
from tests.sim.hosts import Host
from tests.sim.marks import Marks
from tests.sim.rules import Rule
from tests.sim.stops import Stops
from tests.sim.view import Change, View

RETRIES = 3
"""Docker's default."""


class ChecksDecide:
    """A task with a health check runs once that has succeeded, and serves once it is ready."""

    rule = Rule.CHECKED

    def __init__(self, hosts: dict[str, Host]) -> None:
        self._hosts = hosts

    def broken_by(self, change: Change, view: View) -> Iterator[str]:
        """See `Law`."""
        for _, task in change.tasks:
            if task is None or task.state is not TaskState.RUNNING:
                continue
            spec = spec_of(task, view)
            found = self._found(task.id) if spec is not None else None
            if spec is None or found is None:
                continue
            health, ready = found
            if has_health(spec) and not health:
                yield f"task {task.id} runs, and no health check has succeeded"
            if has_readiness(spec) and task.detail.serving and not ready:
                yield f"task {task.id} serves, and no readiness check has succeeded"

    def _found(self, task_id: TaskId) -> tuple[bool, bool] | None:
        for host in self._hosts.values():
            if (container := host.engine.containers.get(task_id)) is not None:
                health, ready = container.health, container.ready
                return (health.succeeded, ready.succeeded) if health and ready else None
        return None


def spec_of(task: Task, view: View) -> ServiceSpec | None:
    """The spec that the task was made from; None if it is no longer kept."""
    service = view.services.get(task.service_id)
    return service.made_from(task.spec_version) if service else None


class StoppedFor:
    """A container gets its stop signal because its task is to end, is unhealthy, or a user said so;
    never because it is not ready.
    """

    def __init__(self, hosts: Iterable[Host], marks: Marks, stops: Stops) -> None:
        self._hosts = hosts
        self._marks = marks
        self._asked = stops.asked

    def stopping(self, task_id: TaskId, view: View) -> Iterator[str]:
        """The container gets its stop signal now: what for?"""
        task = view.tasks.get(task_id)
        if task is None or task.desired_state > TaskState.RUNNING or task_id in self._asked:
            return
        spec = spec_of(task, view)
        if spec is None:
            return
        for host in self._hosts:
            container = host.engine.containers.get(task_id)
            if container is None or container.health is None:
                continue
            config = spec.task_template.container_spec.healthcheck
            retries = config.retries or RETRIES
            # An agent that was killed meanwhile may not have received what the last checks found.
            whole = host.killed_at < container.started_at
            failed = container.health.counting(config.start_period, whole=whole)
            if has_health(spec) and failed >= retries:
                self._marks.hit("unhealthy task was stopped")
            else:
                yield f"task {task_id} is stopped after {failed} of {retries} failed health checks"
