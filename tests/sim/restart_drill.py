"""A drill in calm weather: a container dies again and again, later once more after a long run.

Each time its successor starts when the restart delay is over, and not much later.
"""

from collections.abc import Callable, Iterator

from pyswarm_core.clock import MILLISECOND, MINUTE, SECOND
from pyswarm_core.ids import TaskId
from pyswarm_core.objects import Service, Task
from pyswarm_core.specs import ReplicatedMode, RestartCondition
from tests.sim.hosts import Host
from tests.sim.marks import Marks
from tests.sim.restarts import delay_of
from tests.sim.rollout_states import is_current, is_rolling, serves
from tests.sim.rules import Fail, Rule
from tests.sim.runtime import Container
from tests.sim.settled import Settled
from tests.sim.view import View

STEP = 20 * MILLISECOND
DEATHS = 3
LATE = 15 * SECOND
"""So much later than the delay a successor may start: the slowest image takes nine seconds."""
LONG_RUN = 11 * MINUTE


class RestartDrill:
    """What is tried, with one task."""

    def __init__(
        self, view: View, settled: Settled, hosts: list[Host], marks: Marks, fail: Fail
    ) -> None:
        self._view = view
        self._settled = settled
        self._hosts = hosts
        self._marks = marks
        self._fail = fail

    def die_again_and_again(
        self, now: Callable[[], int], run: Callable[[int], None], skip: Callable[[int], None]
    ) -> None:
        """`skip` lets time pass in which nothing happens."""
        found = next(self._candidates(), None)
        if found is None:
            return
        service, task = found
        self._marks.hit("drill: a container died again and again")
        for death in range(DEATHS + 1):
            if death == DEATHS:
                skip(LONG_RUN)
                task = self._running(task)
            container = self._container(task.id)
            if container is None:
                return
            successor = self._replaced(service, task, container, now, run)
            if successor is None:
                return
            task = successor

    def _candidates(self) -> Iterator[tuple[Service, Task]]:
        for service in self._view.services.values():
            policy = service.spec.task_template.restart_policy
            if (
                service.removing
                or is_rolling(service)
                or self._settled.is_restless(service)
                or not isinstance(service.spec.mode, ReplicatedMode)
                or policy.condition is RestartCondition.NONE
                or policy.max_attempts
                or not policy.max_delay
            ):
                continue
            for tasks in self._view.slots_of(service.id).values():
                task = tasks[-1]
                if serves(task) and is_current(service, task.spec_version):
                    yield service, task

    def _running(self, task: Task) -> Task:
        return self._view.slots_of(task.service_id)[task.slot][-1]

    def _container(self, task_id: TaskId) -> Container | None:
        for host in self._hosts:
            container = host.engine.containers.get(task_id)
            if container is not None and container.running:
                return container
        return None

    def _replaced(
        self,
        service: Service,
        task: Task,
        container: Container,
        now: Callable[[], int],
        run: Callable[[int], None],
    ) -> Task | None:
        """End the task's container; its successor, once that serves."""
        policy = service.spec.task_template.restart_policy
        again = now() - container.started_at < LONG_RUN
        restarts = task.consecutive_restarts + 1 if again else 1
        delay = delay_of(policy, restarts)
        died = now()
        engine = next(h.engine for h in self._hosts if h.engine.containers.get(task.id))
        engine.end(container, 1)
        while now() < died + delay + LATE:
            run(STEP)
            successor = self._running(task)
            started = self._container(successor.id) if successor.id != task.id else None
            if started is None or not serves(successor):
                continue
            if started.started_at < died + delay:
                early = (died + delay - started.started_at) / SECOND
                self._fail(Rule.RESTART_DELAY, f"{successor.id} started {early:.3f} s early")
            return successor
        if self._running(task).id == task.id or self._container(self._running(task).id) is None:
            text = f"restart {restarts} of {task.id} has not started {LATE / SECOND} s late"
            if not self._waits(task):
                self._fail(Rule.RESTART_DELAY, f"{text}: {policy}")
        return None

    def _waits(self, task: Task) -> bool:
        """Whether the successor has no node, and says why."""
        successor = self._running(task)
        return not successor.node_id and bool(successor.detail.message)
