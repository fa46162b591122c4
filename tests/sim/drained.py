"""A rule about stops that an agent begins by itself: of an unhealthy task, or on request.

The controller's own stops are `connections.NobodyIsSentToTheStopping`'s.
"""

from collections.abc import Iterator

from pyswarm_core.ids import TaskId
from pyswarm_core.states import TaskState
from tests.sim.clock import Scheduler
from tests.sim.connections import DRAIN_MAX, sends_to
from tests.sim.hosts import Host
from tests.sim.marks import Marks
from tests.sim.view import View


class DrainedFirst:
    """The container gets its stop signal when no host sends connections to it any more, or
    DRAIN_MAX after its agent reported that it does not serve.
    """

    def __init__(self, scheduler: Scheduler, hosts: list[Host], marks: Marks) -> None:
        self._scheduler = scheduler
        self._hosts = hosts
        self._marks = marks

    def stopping(self, task_id: TaskId, view: View) -> Iterator[str]:
        """The container gets its stop signal now: who would still send to it?"""
        task = view.tasks.get(task_id)
        if task is None or task.desired_state > TaskState.RUNNING:
            return
        own = next((host for host in self._hosts if task_id in host.served), None)
        if own is None:
            return
        left_at = own.served[task_id]
        if left_at and self._scheduler.now >= left_at + DRAIN_MAX:
            self._marks.hit("a task left the backends before its agent stopped it")
            return
        for host in self._hosts:
            for service_id, network_id in sends_to(host, task_id) if host.up else ():
                yield (
                    f"its agent stops {task_id} while {host.name} sends connections for"
                    f" {service_id} on {network_id} to it"
                )
