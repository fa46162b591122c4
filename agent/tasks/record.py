"""What an agent remembers of one task, on disk and in memory. PURE value.

A record exists before anything else of the task does and until the store has forgotten the task;
whoever restarts the agent can tell from it alone what was asked, what was begun and what must never
be done twice.
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
    """What its service publishes."""
    login: RegistryLogin | None = None
    """For pulling the image; forgotten once that is over."""
    desired_state: TaskState = TaskState.RUNNING
    state: TaskState = TaskState.ACCEPTED
    detail: TaskDetail = NO_DETAIL
    image_id: str = ""
    """The image it was prepared from; such an image is in use."""
    stop_signal: str = ""
    """What the prepared container wants as its stop signal: the spec's, the image's or SIGTERM."""
    accepted_at: Instant = Instant(0)
    ready_at: Instant = Instant(0)
    started_at: Instant = Instant(0)
    kill_at: Instant = Instant(0)
    """When SIGKILL is due: at the end of the grace period, then again and again until the exit is
    seen; 0 while nobody asked it to stop.
    """
    clean: bool = False
    """It has ended and nothing of it is left but its log."""
    unassigned: bool = False
    """The store has forgotten it: forget it too, once it is clean."""

    @property
    def name(self) -> str:
        """`web.1`, or `web.<node id>` for a global service."""
        return f"{self.service_name}.{self.node_id if self.global_service else self.slot}"

    @property
    def ended(self) -> bool:
        return is_terminal(self.state)

    @property
    def wake_at(self) -> Instant:
        """When the machine must be sent a Tick, whatever else happens meanwhile."""
        return self.kill_at if self.kill_at and not self.ended else NEVER

    @property
    def tcp_ports(self) -> frozenset[int]:
        """Where it must listen before it may receive connections."""
        return frozenset(p.target_port for p in self.ports if p.protocol is Protocol.TCP)

    @property
    def starts_to_serve(self) -> bool:
        """It runs and shall run on, but nobody is sent to it yet."""
        running = self.state is TaskState.RUNNING and not self.kill_at
        frozen = self.desired_state is TaskState.FROZEN
        return running and not frozen and not self.detail.serving

    def status(self) -> TaskStatus:
        """What the controller is told of it."""
        return TaskStatus(self.task_id, self.state, self.detail)
