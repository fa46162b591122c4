"""The events of a task, and the effects that a step requests. PURE values."""

from enum import Enum

import msgspec

from agent.health.verdict import CheckKind
from agent.tasks.record import InPlaceChange, Interface
from pyswarm_core.clock import Instant
from pyswarm_core.objects import TaskAddress
from pyswarm_core.specs import HealthConfig, PortConfig, RegistryLogin
from pyswarm_core.states import TaskState
from pyswarm_core.views import CheckResult


class Effect(Enum):
    """What the worker carries out. Each comment names the events that follow."""

    PREPARE = "prepare"  # Prepared, PrepareFailed or PrepareAborted
    ABORT_PREPARE = "abort prepare"  # ends PREPARE soon
    START = "start"  # Started or StartFailed
    AWAIT_LISTENING = "await listening"  # Serving once the task listens; none if it ends before
    PUBLISH = "publish"  # none: forwards the host ports to the task
    WITHDRAW = "withdraw"  # Withdrawn: host ports are not forwarded any more, or a second passed
    STOP = "stop"  # sends the stop signal; Exited follows the exit
    CHANGE_IN_PLACE = "change in place"  # NetworksJoining if it needs other interfaces;
    # ChangedInPlace: carries out `Record.in_place_change` in the container
    KILL = "kill"  # sends SIGKILL to every process of the cgroup; Exited follows the exit
    CLEAN = "clean"  # Cleaned
    FORGET = "forget"  # none: removes record and log


class TaskEvent(msgspec.Struct, frozen=True):
    """Base of the events of a task."""


class Accepted(TaskEvent, frozen=True):
    """The task is new on this node, or a restarted agent found it half prepared."""


class Desired(TaskEvent, frozen=True):
    """The controller sent a desired state."""

    state: TaskState
    service_name: str = ""
    """The present name of its service; empty: the controller sent none."""


class InPlaceRequested(TaskEvent, frozen=True):
    """The controller sent what a spec version set that changes in running containers, perhaps not
    for the first time.
    """

    change: InPlaceChange


class LoginReceived(TaskEvent, frozen=True):
    """The controller sent the registry login of a task whose record on disk has none; None: the
    task needs no login any more.
    """

    login: RegistryLogin | None


class NetworksJoining(TaskEvent, frozen=True):
    """Interfaces are about to be made or removed, or a change was undone: from now on the container
    may have these.
    """

    interfaces: tuple[Interface, ...]


class ChangedInPlace(TaskEvent, frozen=True):
    """The container has the limits and networks of this change. With an error it has the former
    networks, except for interfaces in the record that could not be undone, and the former limits,
    unless the networks alone were refused or undoing failed: the next change writes all limits.
    """

    change: InPlaceChange
    error: str = ""
    networks_refused: bool = False
    """The error is about the networks: the limits were changed."""
    interfaces: tuple[Interface, ...] | None = None
    """Those that it has; None: they did not change."""


class Unassigned(TaskEvent, frozen=True):
    """The task was deleted from the store."""


class Prepared(TaskEvent, frozen=True):
    """Everything but the running process exists."""

    image_id: str
    stop_signal: str
    pid: int
    addresses: tuple[TaskAddress, ...] = ()
    ports: tuple[PortConfig, ...] = ()
    healthcheck: HealthConfig = HealthConfig()
    """The image's HEALTHCHECK; no test: it has none."""
    command: str = ""
    """Its command line as shell words, cut; empty: that of the spec."""
    mounted_images: tuple[str, ...] = ()
    """The ids of the images that its mounts show."""
    image_volumes: str = ""
    """As in the details of its task."""
    generic_resources: dict[str, str] = {}
    """As in its record."""


class PrepareFailed(TaskEvent, frozen=True):
    """Image, network or container could not be made; the text says why."""

    error: str


class PrepareAborted(TaskEvent, frozen=True):
    """Preparing ended on request (ABORT_PREPARE)."""


class Started(TaskEvent, frozen=True):
    """The process runs. A restarted agent repeats this event: effects of the former one may be
    lost.
    """


class Serving(TaskEvent, frozen=True):
    """The task listens on every TCP port that its service publishes."""


class Checked(TaskEvent, frozen=True):
    """A check of the running process has a result. Checks need no effect: the worker makes them
    when they are due (`Record.due`).
    """

    kind: CheckKind
    result: CheckResult
    counts: bool = True
    """False: the agent lacked a resource to make it."""


class StopRequested(TaskEvent, frozen=True):
    """A user requested that the process be stopped; the restart policy decides what follows."""

    signal: str = ""
    """A signal instead of the task's stop signal; empty: the stop signal."""
    timeout: int = 0
    """The grace period in nanoseconds; 0: the spec's."""


class PauseChanged(TaskEvent, frozen=True):
    """The process is being paused, or goes on."""

    paused: bool


class Withdrawn(TaskEvent, frozen=True):
    """Host ports forward no new connection to the task."""


class StartFailed(TaskEvent, frozen=True):
    """The process could not be started; the text says why."""

    error: str


class Exited(TaskEvent, frozen=True):
    """The process ended."""

    code: int
    signal: int = 0
    oom: bool = False
    at: Instant = Instant(0)
    """0: unknown."""
    error: str = ""
    """Set if the code does not explain the end: nobody saw it, or the program never ran."""


class Progress(TaskEvent, frozen=True):
    """Preparing made progress; the message describes it for users."""

    message: str


class Cleaned(TaskEvent, frozen=True):
    """Container and network are removed; the log remains."""


class TimerFired(TaskEvent, frozen=True):
    """The task's timer fired; its deadline may have passed."""
