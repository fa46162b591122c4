"""States of tasks, nodes and updates, the tables of their transitions, and what kernels lack. PURE.

A task's state only moves forward, in the order of the enum (swarmkit's order). Every possible
transition is an edge of `TRANSITIONS`, whose value says when it happens; code that moves a task
consults the table, tests walk it, and docs/task-model.md draws it. `DESIRED_TRANSITIONS` is the
same for desired states, `NODE_TRANSITIONS` for nodes, which may return to a state,
`UPDATE_TRANSITIONS` for updates of services.
"""

from collections.abc import Mapping
from enum import IntEnum, StrEnum
from types import MappingProxyType


class TaskState(IntEnum):
    """The state of a task, and (those of DESIRED_STATES) its desired state."""

    NEW = 0
    PENDING = 1
    ASSIGNED = 2
    ACCEPTED = 3
    PREPARING = 4
    READY = 5
    STARTING = 6
    RUNNING = 7
    COMPLETE = 8
    SHUTDOWN = 9
    FAILED = 10
    REJECTED = 11
    REMOVE = 12
    ORPHANED = 13
    FROZEN = 14

    @property
    def word(self) -> str:
        """The lower-case word in tables, logs and metrics."""
        return self.name.lower()


DESIRED_STATES = (
    TaskState.READY,
    TaskState.RUNNING,
    TaskState.FROZEN,
    TaskState.SHUTDOWN,
    TaskState.REMOVE,
)
"""In their order, which is not that of their numbers."""
TERMINAL_STATES = frozenset(
    {
        TaskState.COMPLETE,
        TaskState.SHUTDOWN,
        TaskState.FAILED,
        TaskState.REJECTED,
        TaskState.ORPHANED,
    }
)


class NodeState(StrEnum):
    """What the leader knows about a node. UNKNOWN: a new leader has received nothing from it yet.
    DISCONNECTED: its agent is silent; the node keeps its tasks and gets no new ones.
    """

    UNKNOWN = "unknown"
    READY = "ready"
    DISCONNECTED = "disconnected"
    DOWN = "down"


class Availability(StrEnum):
    """The operator's setting of a node's availability."""

    ACTIVE = "active"
    PAUSE = "pause"
    DRAIN = "drain"


class InvalidTransition(Exception):
    """A transition of a task or node that its table does not have: a bug, never user input."""


_S = TaskState

TRANSITIONS: Mapping[tuple[TaskState, TaskState], str] = MappingProxyType(
    {
        (_S.NEW, _S.PENDING): "its networks are allocated",
        (
            _S.NEW,
            _S.ASSIGNED,
        ): "its networks are allocated and a node was found in the same decision",
        (_S.PENDING, _S.ASSIGNED): "the scheduler found a node",
        (_S.NEW, _S.SHUTDOWN): "no longer desired before it had a node",
        (_S.PENDING, _S.SHUTDOWN): "no longer desired before it had a node",
        (_S.ASSIGNED, _S.ACCEPTED): "the agent wrote its record",
        (_S.ASSIGNED, _S.SHUTDOWN): "no longer desired before the agent saw it",
        (_S.ASSIGNED, _S.REJECTED): "the agent cannot run it at all",
        (_S.ACCEPTED, _S.PREPARING): "the agent began to pull and to make rootfs and network",
        (_S.ACCEPTED, _S.SHUTDOWN): "no longer desired",
        (_S.ACCEPTED, _S.REJECTED): "the agent cannot run it at all",
        (_S.PREPARING, _S.READY): "everything but the process exists",
        (_S.PREPARING, _S.SHUTDOWN): "no longer desired while preparing",
        (_S.PREPARING, _S.REJECTED): "image, network or container could not be made",
        (_S.READY, _S.STARTING): "its desired state reached running",
        (_S.READY, _S.SHUTDOWN): "no longer desired while waiting to start",
        (_S.READY, _S.FAILED): "the prepared container vanished",
        (_S.STARTING, _S.RUNNING): "the process was started, and its health check succeeded if any",
        (_S.STARTING, _S.COMPLETE): "ended with 0 before it counted as running",
        (_S.STARTING, _S.FAILED): "could not be started, ended early, or was unhealthy",
        (_S.STARTING, _S.SHUTDOWN): "no longer desired while starting",
        (_S.RUNNING, _S.COMPLETE): "ended by itself with exit code 0",
        (
            _S.RUNNING,
            _S.FAILED,
        ): "ended by itself otherwise (exit code, signal, out of memory), or was unhealthy",
        (_S.RUNNING, _S.SHUTDOWN): "received a stop request",
        **{
            (state, _S.ORPHANED): "its node was lost for good or removed"
            for state in (_S.ASSIGNED, _S.ACCEPTED, _S.PREPARING, _S.READY, _S.STARTING, _S.RUNNING)
        },
    }
)

DESIRED_TRANSITIONS: Mapping[tuple[TaskState, TaskState], str] = MappingProxyType(
    {
        (_S.READY, _S.RUNNING): "its restart delay is over",
        (_S.READY, _S.SHUTDOWN): "replaced, or no longer desired",
        (_S.READY, _S.REMOVE): "its slot was given up or its service removed",
        (_S.RUNNING, _S.FROZEN): "kept aside while another version receives its connections",
        (_S.RUNNING, _S.SHUTDOWN): "replaced, or no longer desired",
        (_S.RUNNING, _S.REMOVE): "its slot was given up or its service removed",
        (_S.FROZEN, _S.RUNNING): "its version receives connections again",
        (_S.FROZEN, _S.SHUTDOWN): "its version is no longer needed for a rollback",
        (_S.FROZEN, _S.REMOVE): "its slot was given up or its service removed",
        (_S.SHUTDOWN, _S.REMOVE): "its slot was given up or its service removed",
    }
)

_N = NodeState

NODE_TRANSITIONS: Mapping[tuple[NodeState, NodeState], str] = MappingProxyType(
    {
        (_N.UNKNOWN, _N.READY): "its agent sent a message",
        (_N.UNKNOWN, _N.DISCONNECTED): "no session in time, but its host answers probes",
        (_N.UNKNOWN, _N.DOWN): "no session in time, and no probe was answered",
        (_N.READY, _N.UNKNOWN): "a new leader loaded it and has received nothing from it yet",
        (_N.READY, _N.DISCONNECTED): "it missed a heartbeat, but its host answers probes",
        (_N.READY, _N.DOWN): "it missed a heartbeat, and no probe was answered",
        (
            _N.DISCONNECTED,
            _N.UNKNOWN,
        ): "a new leader loaded it and has received nothing from it yet",
        (_N.DISCONNECTED, _N.READY): "its agent sent a message again",
        (_N.DISCONNECTED, _N.DOWN): "no probe answered, its agent's grace over, or joined anew",
        (_N.DOWN, _N.READY): "its agent sent a message again",
    }
)


_BY_ITSELF = frozenset({TaskState.COMPLETE, TaskState.FAILED, TaskState.REJECTED})


def ends_by_itself(state: TaskState) -> bool:
    """Whether the task ended without a request."""
    return state in _BY_ITSELF


def is_terminal(state: TaskState) -> bool:
    """Whether a task in this state has ended."""
    return state in TERMINAL_STATES


def lives(desired: TaskState) -> bool:
    """Whether a task with this desired state keeps its container until that ends by itself: it is
    to run, or is frozen.
    """
    return desired <= TaskState.RUNNING or desired is TaskState.FROZEN


def occupies(state: TaskState) -> bool:
    """Whether a task in this state holds its node's resources (it has a node and has not ended)."""
    return TaskState.ASSIGNED <= state <= TaskState.RUNNING


_NEVER_REPORTED = frozenset({TaskState.REMOVE, TaskState.ORPHANED, TaskState.FROZEN})


def reported_by_agent(state: TaskState) -> bool:
    """Whether this state may come from an agent."""
    return state >= TaskState.ACCEPTED and state not in _NEVER_REPORTED


class UpdateState(StrEnum):
    """The state of an update or a rollback, in Swarm's words."""

    UPDATING = "updating"
    PAUSED = "paused"
    COMPLETED = "completed"
    ROLLBACK_STARTED = "rollback_started"
    ROLLBACK_PAUSED = "rollback_paused"
    ROLLBACK_COMPLETED = "rollback_completed"

    @property
    def is_rollback(self) -> bool:
        """Whether it is a rollback's."""
        return self in _ROLLBACK

    @property
    def is_paused(self) -> bool:
        """Whether it waits for a user."""
        return self in _PAUSED

    @property
    def is_unfinished(self) -> bool:
        """Whether it goes on, or is paused."""
        return self not in _COMPLETED


_ROLLBACK = frozenset(
    {UpdateState.ROLLBACK_STARTED, UpdateState.ROLLBACK_PAUSED, UpdateState.ROLLBACK_COMPLETED}
)
_PAUSED = frozenset({UpdateState.PAUSED, UpdateState.ROLLBACK_PAUSED})
_COMPLETED = frozenset({UpdateState.COMPLETED, UpdateState.ROLLBACK_COMPLETED})


_U = UpdateState
_BEGUN = "a user changed the task template"
_REPLACED = "a user changed the service again, which replaces what was unfinished"
_UNDONE = "a user requested the rollback"

UPDATE_TRANSITIONS: Mapping[tuple[UpdateState | None, UpdateState], str] = MappingProxyType(
    {
        (None, _U.UPDATING): _BEGUN,
        (None, _U.ROLLBACK_STARTED): _UNDONE,
        (_U.UPDATING, _U.UPDATING): _REPLACED,
        (_U.UPDATING, _U.PAUSED): "more slots failed than tolerated",
        (_U.UPDATING, _U.COMPLETED): "every slot runs the template, the newest long enough",
        (_U.UPDATING, _U.ROLLBACK_STARTED): "more slots failed than tolerated, or requested",
        (_U.PAUSED, _U.UPDATING): "a user resumed or replaced it",
        (_U.PAUSED, _U.ROLLBACK_STARTED): _UNDONE,
        (_U.COMPLETED, _U.UPDATING): _BEGUN,
        (_U.COMPLETED, _U.ROLLBACK_STARTED): _UNDONE,
        (_U.ROLLBACK_STARTED, _U.UPDATING): _REPLACED,
        (_U.ROLLBACK_STARTED, _U.ROLLBACK_STARTED): _REPLACED,
        (_U.ROLLBACK_STARTED, _U.ROLLBACK_PAUSED): "more slots failed than tolerated",
        (
            _U.ROLLBACK_STARTED,
            _U.ROLLBACK_COMPLETED,
        ): "every slot runs the template, the newest long enough",
        (_U.ROLLBACK_PAUSED, _U.UPDATING): _BEGUN,
        (_U.ROLLBACK_PAUSED, _U.ROLLBACK_STARTED): "a user resumed or replaced it",
        (_U.ROLLBACK_COMPLETED, _U.UPDATING): _BEGUN,
        (_U.ROLLBACK_COMPLETED, _U.ROLLBACK_STARTED): _UNDONE,
    }
)
"""Which state of an update follows which, and when; None: the service was never updated."""


class Capability(StrEnum):
    """A part of the kernel that some networks or containers need and some hosts lack."""

    ESP = "esp"
    """IPsec with AES-GCM, for encrypted networks."""
    IPV6 = "ipv6"
    """IPv6, for dual-stack networks."""
    USERNS = "userns"
    """User namespaces over image layers, for `--userns auto`."""
    APPARMOR = "apparmor"
    """AppArmor, for `--security-opt apparmor=PROFILE`."""


NETWORK_CAPABILITIES = (Capability.ESP, Capability.IPV6)
"""Those that networks need; containers need the others."""
KERNEL_WITH = {
    Capability.ESP: "IPsec ESP and AES-GCM (CONFIG_XFRM_USER, CONFIG_INET_ESP, CONFIG_CRYPTO_GCM)",
    Capability.IPV6: "IPv6 (CONFIG_IPV6, and not ipv6.disable=1)",
    Capability.USERNS: "user namespaces and idmapped mounts (CONFIG_USER_NS, Linux 5.19, images on"
    " ext4, XFS or btrfs)",
    Capability.APPARMOR: "AppArmor (CONFIG_SECURITY_APPARMOR, apparmor=1)",
}
"""The kernel configuration that each capability needs, for messages."""
