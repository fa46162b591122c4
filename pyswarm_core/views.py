"""The controller's answers as values: objects with what is known about them. PURE.

Field names are those of control.proto.
"""

import msgspec

from pyswarm_core.clock import Instant
from pyswarm_core.identity.audit import AuditRecord
from pyswarm_core.logs.lines import LogLines
from pyswarm_core.model import Model
from pyswarm_core.objects import (
    Cluster,
    HealthState,
    Network,
    Node,
    NodeResources,
    Service,
    Task,
)
from pyswarm_core.specs import HealthConfig, PortConfig, TaskSpec
from pyswarm_core.states import TaskState, UpdateState

ANY_TIME = Instant(0)


class Info(msgspec.Struct, frozen=True):
    """The fleet in numbers, and the controller that answered."""

    cluster: Cluster
    controller: str
    leader: str
    version: str
    nodes: int
    nodes_ready: int
    services: int
    tasks: int
    tasks_running: int
    store: str
    revision: int
    join_addr: str
    nodes_disconnected: int
    nodes_held: int
    down_per_minute: int
    nodes_filtered: int
    protocol: int = 1
    nodes_other_protocol: int = 0
    """Nodes whose agents have another protocol than the controller."""
    registry: str = ""
    """Where nodes reach this controller's registry; empty: it has none."""
    registry_problem: str = ""
    """Why it does not serve; empty: it does."""


class ServiceSummary(msgspec.Struct, frozen=True):
    """A service and how many of its tasks run."""

    service: Service
    running: int
    desired: int
    """Desired replicas: the spec's number, or the eligible nodes of a global service."""
    quarantined: bool = False
    """Something failed for it, and it is left out until it changes: `why` has the reason."""
    unlisted: int = 0
    """How many of the desired tasks wait for a node and do not exist yet."""


class SlotProgress(msgspec.Struct, frozen=True):
    """The newest task of one slot."""

    slot: int
    node: str
    state: TaskState
    message: str
    error: str


class ServiceProgress(msgspec.Struct, frozen=True):
    """The progress of a service at one moment."""

    running: int = 0
    desired: int = 0
    updated: int = 0
    """Running tasks of the newest template."""
    converged: bool = False
    slots: tuple[SlotProgress, ...] = ()
    """At most SLOTS_SHOWN, first those that do not run."""
    gone: bool = False
    """The service was removed, and all of its tasks have ended."""
    alive: int = 0
    """Tasks that have not ended, of any desired state, without those on lost hosts."""
    completed: int = 0
    """Slots whose newest task, of the newest template, ended with 0 and is not restarted."""
    failure: str = ""
    """Why tasks will not run unless the user changes something."""
    update_state: str = ""
    """The UpdateState of its last update or rollback; empty: it was never updated."""
    update_message: str = ""
    update_to: int = 0
    """The spec version of the update's tasks."""
    stable_in: int = 0
    """Nanoseconds until all tasks, which are updated, have run as long as they are monitored."""
    filled: bool = False
    """As many tasks as desired run or have completed, whatever their template, and no other task
    remains. A service whose update is paused comes no further.
    """
    per_node: bool = False
    """Its slots are nodes: it is a global service."""

    @property
    def is_paused(self) -> bool:
        """Whether its update or rollback is paused and some of its tasks are not updated."""
        is_paused = self.update_state in (UpdateState.PAUSED, UpdateState.ROLLBACK_PAUSED)
        return is_paused and self.desired > 0 and not self.converged


class TaskView(msgspec.Struct, frozen=True):
    """A task with the names of its service, node and image."""

    task: Task
    name: str
    service_name: str
    node_name: str
    image: str
    spec: TaskSpec | None


class NodeView(msgspec.Struct, frozen=True):
    """A node, its tasks and their reservations."""

    node: Node
    leader: bool
    tasks: int
    reserved: NodeResources
    controller: bool = False
    """A controller runs there."""
    other_protocol: bool = False
    """Its agent has another protocol than the controller."""


class NetworkTask(msgspec.Struct, frozen=True):
    """A task that has an address of the network, or is about to get one."""

    name: str
    task_id: str
    node_name: str
    address: str
    state: TaskState
    container_id: str = ""
    """The id by which `ps` lists it; empty: of a controller of an earlier version."""


class NetworkService(msgspec.Struct, frozen=True):
    """A service on the network; without a `vip` its name resolves to its tasks."""

    name: str
    vip: str
    ports: tuple[PortConfig, ...]
    tasks: tuple[NetworkTask, ...]


class NetworkPeer(msgspec.Struct, frozen=True):
    """A host that carries the network, and the revision that its agent applied last."""

    node_name: str
    addr: str
    blocks: tuple[str, ...]
    acknowledged: int


class NetworkMembers(msgspec.Struct, frozen=True):
    """A network and, if requested, its services, tasks and hosts."""

    network: Network
    services: tuple[NetworkService, ...]
    peers: tuple[NetworkPeer, ...]


class EncodedObject(msgspec.Struct, frozen=True):
    """An object as its kind's message."""

    value: bytes


class Event(msgspec.Struct, frozen=True, gc=False):
    """Something that happened to an object."""

    type: str
    """The kind of an object, or task; `events`: some events were dropped because the reader was too
    slow.
    """
    action: str
    id: str = ""
    name: str = ""
    reason: str = ""
    count: int = 1
    """How many equal events this one stands for: a decision about a million tasks has few."""
    at: Instant = Instant(0)
    """When it was recorded; 0 before."""
    revision: int = 0
    caller: str = ""
    """Who requested the change; empty: nobody did."""
    stack: str = ""
    """The stack of the object; empty: it belongs to none."""
    node: str = ""
    """The host of a container; empty for other objects."""
    container: str = ""
    """The name of a container that joined or left a network; empty for other events."""

    @classmethod
    def of(
        cls, kind: str, object_id: str, name: str = "", reason: str = "", count: int = 1
    ) -> "Event":
        """An event that is not recorded yet. `kind` is TYPE.ACTION."""
        type_, _, action = kind.partition(".")
        return cls(type_, action, object_id, name, reason, count)

    @property
    def kind(self) -> str:
        """TYPE.ACTION."""
        return f"{self.type}.{self.action}"


class EventQuery(msgspec.Struct, frozen=True):
    """Which events a user asks for. Has the fields of the request's message."""

    since: Instant = Instant(0)
    """0: from now if the stream follows, otherwise all events that are kept."""
    until: Instant = Instant(0)
    """0: no end."""
    since_revision: int = 0
    """From the events of this revision on; 0: see `since`."""
    filters: tuple[str, ...] = ()
    follow: bool = False


class Events(msgspec.Struct, frozen=True):
    """Events that happened at once."""

    events: tuple[Event, ...]


class AuditRecords(msgspec.Struct, frozen=True):
    """Records of requested changes, in order."""

    records: tuple[AuditRecord, ...]


class NewToken(msgspec.Struct, frozen=True):
    """A token of a user, when it is created: the only time that its text is known."""

    token: str
    token_id: str
    expires_at: Instant
    """0: it does not expire."""


class UserCertificate(msgspec.Struct, frozen=True):
    """A certificate that the fleet's CA issued for a user."""

    chain: str
    """The certificate and those that lead to the root, PEM."""
    user_id: str


class UpdatedCluster(msgspec.Struct, frozen=True):
    """The fleet after an update of its settings."""

    cluster: Cluster
    unlock_key: str = ""
    """The key of a fleet whose autolock this update set."""
    warnings: tuple[str, ...] = ()


class LogsQuery(msgspec.Struct, frozen=True):
    """The logs to read. Has the fields of the request's message."""

    ref: str
    follow: bool = False
    tail: int = -1
    """The last lines of each task, at most so many; all if negative."""
    since: Instant = ANY_TIME
    until: Instant = ANY_TIME
    """No bound if 0. Following ends at `until`."""
    grep: str = ""
    """Lines that match this regular expression; empty: all."""
    previous: bool = False
    """The log of the task before the newest one of each slot."""
    container: bool = False
    """The ref is that of a container, as in `docker logs`."""
    details: bool = False
    """Sources have `details`."""


class LogSource(msgspec.Struct, frozen=True):
    """A task that has written lines."""

    task_id: str
    task_name: str
    node_name: str
    details: str = ""
    """`KEY=VALUE,...`"""


class Logs(msgspec.Struct, frozen=True):
    """Lines, or a warning that some are missing."""

    warning: str = ""
    sources: tuple[LogSource, ...] = ()
    source_of: tuple[int, ...] = ()
    """The index of each line's source; empty: all are of the first."""
    lines: LogLines = LogLines()
    of_service: bool = False
    """There may be lines of several tasks."""


class TaskStats(msgspec.Struct, frozen=True):
    """One reading of a container. Times are nanoseconds, `at` of a clock of its host that never
    steps back; all but memory and pids count from the container's start.
    """

    task_id: str
    at: int = 0
    """0: it does not run."""
    cpu_ns: int = 0
    memory_bytes: int = 0
    memory_limit_bytes: int = 0
    pids: int = 0
    received_bytes: int = 0
    sent_bytes: int = 0
    read_bytes: int = 0
    written_bytes: int = 0


class NamedStats(msgspec.Struct, frozen=True):
    """A task with a reading of its container."""

    name: str
    node_name: str
    stats: TaskStats
    container_id: str = ""
    """The id that `ps` shows; empty: its controller sends none."""

    @property
    def id(self) -> str:
        """The id of the container."""
        return self.container_id or self.stats.task_id


class StatsPart(msgspec.Struct, frozen=True):
    """A sample of one node, which replaces its former one, or a warning that it is missing. Without
    a node: all tasks that do not run.
    """

    node_name: str
    tasks: tuple[NamedStats, ...]
    warning: str


class CheckResult(Model, frozen=True):
    """One result of a check."""

    started_at: Instant
    duration: int
    """Nanoseconds."""
    exit_code: int
    """0: success; negative: it exceeded its timeout or could not be made."""
    output: str = ""
    """At most EXEC_OUTPUT_MAX bytes."""


class TaskCheck(Model, frozen=True):
    """A check of a task as its agent has it. `kind` is health or readiness."""

    kind: str
    config: HealthConfig
    """As it is in effect: no field is left to the image or to a default."""
    state: HealthState
    failing_streak: int = 0
    results: tuple[CheckResult, ...] = ()
    """The last ones, oldest first."""


class Ca(Model, frozen=True):
    """The newest root certificate, and who has a certificate of a former root."""

    certificate: str
    """PEM."""
    digest: str = ""
    """As in join tokens."""
    is_finished: bool = True
    nodes: int = 0
    """Nodes that are not down."""
    left: tuple[str, ...] = ()
    """Hostnames of those that have not renewed their certificate."""
    down: tuple[str, ...] = ()
    """Hostnames of nodes that are down and have not: they renew when they return."""
    was_rotated: bool = False


class ContainerSize(msgspec.Struct, frozen=True):
    """The bytes of a task's container: of its writable layer (negative: it has too many files to
    be measured), and of its image.
    """

    task_id: str
    written_bytes: int
    image_bytes: int


class FileChange(Model, frozen=True):
    """A file of a container that differs from its image. `kind` is A, C or D, as in Docker."""

    kind: str
    path: str


class ProcessRow(Model, frozen=True):
    """One process, a cell per title."""

    cells: tuple[str, ...] = ()


class ProcessTable(Model, frozen=True):
    """The processes of a container, as `ps` of its host prints them."""

    titles: tuple[str, ...] = ()
    rows: tuple[ProcessRow, ...] = ()


class ContainerEnd(Model, frozen=True):
    """How a container ended."""

    exit_code: int = 0
    error: str = ""
    """Why it could not be started, or was killed."""
