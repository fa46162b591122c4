"""The record of one task that an agent keeps on disk and in memory. PURE value.

A record exists before anything else of the task, and until the task is deleted from the store. From
the record alone a restarted agent knows what was requested, what was begun and what must not be
done twice.
"""

from pyswarm_core.clock import NEVER, Instant
from pyswarm_core.ids import NodeId, ServiceId, TaskId
from pyswarm_core.model import Model
from pyswarm_core.objects import NO_DETAIL, TaskDetail, TaskStatus
from pyswarm_core.specs import PortConfig, Protocol, RegistryLogin, TaskSpec
from pyswarm_core.states import TaskState, is_terminal


class Record(Model, frozen=True):
    """One task as its agent sees it."""

    task_id: TaskId
    service_id: ServiceId
    service_name: str
    slot: int
    node_id: NodeId
    spec: TaskSpec
    global_service: bool = False
    spec_version: int = 0
    ports: tuple[PortConfig, ...] = ()
    """The ports that its service publishes."""
    login: RegistryLogin | None = None
    """For pulling the image; removed once the image is pulled."""
    desired_state: TaskState = TaskState.RUNNING
    state: TaskState = TaskState.ACCEPTED
    detail: TaskDetail = NO_DETAIL
    image_id: str = ""
    """The image that the container was made from; it is in use until the task is clean."""
    stop_signal: str = ""
    """The stop signal of the prepared container: the spec's, the image's or SIGTERM."""
    accepted_at: Instant = Instant(0)
    ready_at: Instant = Instant(0)
    started_at: Instant = Instant(0)
    kill_at: Instant = Instant(0)
    """When SIGKILL is due: at the end of the grace period, then repeatedly until the exit is seen;
    0 unless the task is being stopped.
    """
    clean: bool = False
    """The task has ended and nothing of it is left but its log."""
    unassigned: bool = False
    """The task was deleted from the store: the record is removed once the task is clean."""

    @property
    def name(self) -> str:
        """`web.1`, or `web.<node id>` for a global service."""
        return f"{self.service_name}.{self.node_id if self.global_service else self.slot}"

    @property
    def ended(self) -> bool:
        return is_terminal(self.state)

    @property
    def wake_at(self) -> Instant:
        """When TimerFired is due, whatever other events come before."""
        return self.kill_at if self.kill_at and not self.ended else NEVER

    @property
    def tcp_ports(self) -> frozenset[int]:
        """The TCP ports on which it must listen before it serves."""
        return frozenset(p.target_port for p in self.ports if p.protocol is Protocol.TCP)

    @property
    def may_begin_serving(self) -> bool:
        """Whether it runs, is not being stopped, is not frozen and does not serve yet."""
        running = self.state is TaskState.RUNNING and not self.kill_at
        frozen = self.desired_state is TaskState.FROZEN
        return running and not frozen and not self.detail.serving

    def status(self) -> TaskStatus:
        """The status that the agent reports."""
        return TaskStatus(self.task_id, self.state, self.detail)
