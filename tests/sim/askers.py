"""Users who have the agents of tasks stop and signal their processes."""

import signal
from collections.abc import Callable

from agent.tasks.events import StopRequested
from pyswarm_core.objects import Task
from tests.sim.hosts import Host
from tests.sim.marks import Marks
from tests.sim.net import Net
from tests.sim.stops import Stops

USER = "user"
SIGNALS = (signal.SIGHUP, signal.SIGTERM, signal.SIGKILL)


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
