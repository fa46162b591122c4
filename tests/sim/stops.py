"""Users who have agents stop and signal processes, who stop and start services; and what of it the
rules have to know.
"""

import signal
from collections.abc import Callable, Iterator

from agent.tasks.events import StopRequested
from pyswarm_core.ids import ServiceId, TaskId
from pyswarm_core.kinds import SERVICE
from pyswarm_core.objects import Task
from pyswarm_core.states import TaskState
from tests.sim.hosts import Host
from tests.sim.marks import Marks
from tests.sim.net import Net
from tests.sim.rules import Rule
from tests.sim.view import Change, View

USER = "user"
SIGNALS = (signal.SIGHUP, signal.SIGTERM, signal.SIGKILL)


class Stops:
    """What users asked of tasks, and what the store says of tasks and services that were told to
    stop. It is a law that nothing stored breaks.
    """

    rule = Rule.STOPPED_FOR

    def __init__(self, marks: Marks) -> None:
        self._marks = marks
        self.asked: dict[TaskId, None] = {}
        """Tasks that somebody asked their agents to stop or to signal."""
        self.accepted: dict[TaskId, None] = {}
        """Those whose agents have begun to stop them."""
        self.told: dict[TaskId, None] = {}
        """Tasks that were to end before they had ended."""
        self.before_start: dict[ServiceId, frozenset[TaskId]] = {}
        """The tasks that a service had when it was last started."""

    def broken_by(self, change: Change, view: View) -> Iterator[str]:
        """Remember what is stored."""
        for old, new in change.of(SERVICE):
            if old is not None and new is not None and old.spec.stopped and not new.spec.stopped:
                self._marks.hit("service started")
                tasks = [t.id for slot in view.slots_of(new.id).values() for t in slot]
                self.before_start[new.id] = frozenset(tasks)
        for before, task in change.tasks:
            if task is None or task.desired_state <= TaskState.RUNNING:
                continue
            lived = before is None or before.desired_state <= TaskState.RUNNING
            if lived and task.state <= TaskState.RUNNING:
                self.told[task.id] = None
        yield from ()

    def still_running(self, view: View) -> Iterator[str]:
        """Tasks that have not ended although their agents accepted to stop them."""
        for task_id in self.accepted:
            task = view.tasks.get(task_id)
            if task is not None and task.state <= TaskState.RUNNING:
                yield f"task {task_id} was stopped by its users and is {task.state.word}"


class Askers:
    """Users who speak to the agents of tasks, by way of the controller."""

    def __init__(
        self,
        net: Net,
        hosts: list[Host],
        stops: Stops,
        marks: Marks,
        tell: Callable[[str, str], None],
    ) -> None:
        self._marks = marks
        self._net = net
        self._hosts = hosts
        self._stops = stops
        self._tell = tell

    def stop(self, task: Task) -> None:
        """`task stop`."""

        def ask(host: Host) -> None:
            worker = host.adopted
            assert worker is not None
            worker.handle(task.id, StopRequested())
            record = worker.records.get(task.id)
            if record is not None and record.stops:
                self._stops.accepted[task.id] = None
                self._marks.hit("task stopped by its users")

        self._ask(task, "stop", ask)

    def signal(self, task: Task, number: int) -> None:
        """`task signal`."""

        def ask(host: Host) -> None:
            host.engine.signal(task.id, number)

        self._ask(task, f"signal {number}", ask)

    def _ask(self, task: Task, what: str, ask: Callable[[Host], None]) -> None:
        host = next((one for one in self._hosts if one.node_id == task.node_id), None)
        if host is None:
            return
        self._tell(USER, f"{what} task {task.id[:6]} on {host.name}")
        self._stops.asked[task.id] = None

        def arrived() -> None:
            if host.up and host.process is not None:
                host.process.call_soon(answer)

        def answer() -> None:
            record = host.adopted.records.get(task.id) if host.adopted else None
            if record is not None and record.process_runs:
                ask(host)

        self._net.send(USER, host.name, arrived)
