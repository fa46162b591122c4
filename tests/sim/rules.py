"""The invariants by name: what a run that fails says it broke, and what a mutant must break.

Nothing in the simulator compares a text of the product: a rule looks at states, numbers and types.
"""

from collections.abc import Callable
from enum import StrEnum

import msgspec


class Rule(StrEnum):
    """What may never happen, or must happen in time."""

    # Stored, after every revision
    FORWARD = "a task's state and desired state only grow, and its node never changes"
    ONE_DESIRED = "a slot has at most one task of each template that should run"
    FENCE = "every write compares the leader key's exact revision in its writer's own term"
    BASE = "an update that fails returns to the last spec whose update was completed"
    SPECS = "a stored spec is a user's or a rollback's; what was acknowledged stays"
    STACKS = "a stack has all that its version says, unless it is being applied or removed"
    NETWORKS_APART = "VNIs and subnets are unique, blocks disjoint and inside their subnet"
    BLOCKS_FREE = "a block that is given back has no containers in it"
    VIRTUAL_IPS = "a virtual address is one service's, and in no node's block"
    TASK_ADDRESSES = "an address of a network is one living task's"
    PUBLISHED_PORTS = "a published port leads to one service"
    HOST_PORTS = "a port of a host is one living task's"
    HISTORY = "ended tasks are forgotten beyond the history limit"
    AUDITED = "a user's change and its audit record are stored together, and once"
    SIZES = "values, texts and transactions stay within their limits"
    # Decided, before it is applied
    PURE = "deciding twice gives the same and changes nothing"
    RECORDED = "a decision changes of a service only what it records, and only if that changed"
    EXPLAINED = "a task that waits says why, in a text of limited length"
    ELIGIBLE = "a task is placed on a node that is ready and active"
    CONSTRAINTS = "a task is placed where its constraints hold"
    RESOURCES = "the reservations on a node fit"
    HOST_PORT_FREE = "a task is placed where its host ports are free"
    MAX_PER_NODE = "a node gets no more tasks of a service than the maximum per node"
    IMAGE_DISK = "a node whose disk is full gets only tasks whose images it has"
    KERNEL = "a task is placed where the kernel carries its networks"
    ADDRESSES_LEFT = "a node has an address for every task of a network"
    PARALLELISM = "an update has at most as many slots in flight as its parallelism allows"
    START_FIRST = "with start-first, an old task ends when the new one of its slot serves"
    DEPENDENCIES = "tasks start once the conditions of their service's dependencies have held"
    DEPENDENTS_FIRST = "of services that end together, those that depend on others end first"
    KEPT = "a task of the service's template on a fit node is not shut down"
    PAUSED_NODE = "a global service keeps its task on a paused node and is updated elsewhere"
    PAUSED = "a paused or completed update takes down nothing"
    FAILURES = "an update pauses or is rolled back if and only if too many slots failed"
    COMPLETED = "an update is completed when all its new tasks run and have proven themselves"
    UPDATE_STATES = "an update moves along the table of its states"
    BACKOFF = "the restart delay doubles, and begins anew after a long run"
    SPINNING = "a slot whose tasks end at once gets at most one new task a second"
    RESTART_DELAY = "a replacement starts when its restart delay is over"
    RESTART_ATTEMPTS = "a task is replaced as often as its restart policy allows"
    SLICE = "a decision writes a limited number of tasks"
    ONE_CONTAINER = "a container has one task at a time, on the node of its writable layer"
    AUTO_REMOVED = "a container removes itself only if it says so, and once it has ended"
    # On hosts and between them
    LAYER_KEPT = "one task has a container's layer, which is deleted after the container alone"
    DATA_STAYS = "a task starts where the data of its volumes is, and no other one of its slot runs"
    VERSIONS = "no version in use is removed, and an agent holds what its tasks use alone"
    SWAPS = "a container's secrets and configs are whole, and those that its agent has recorded"
    STARTED_ONCE = "a task is started at most once"
    STOPS_WAIT = "nobody is sent to a process that was asked to stop"
    DRAINED = "nobody is sent to a process that its agent stops by itself, within two seconds"
    STOPPED_FOR = "a task is stopped for its desired state, its health or its users, nothing else"
    CHECKED = "a task runs once it is healthy, and serves once it is ready"
    STALE = "nobody is sent for long to a process that is gone"
    CRASH = "no process ends by an exception, no term by anything but its lease"
    ENDLESS = "events do not cause events without end at one time"
    # In the end
    SETTLED = "the fleet becomes what its users asked for, or says why not"
    REACHABLE = "tasks of one network reach each other"
    QUIET = "a settled fleet writes nothing, and memory equals store"
    # Within a time
    TAKEOVER = "another controller leads soon after a leader's end"
    VERDICT = "a dead host is soon down"
    NO_VERDICT = "a live host is not declared down"
    AVAILABLE = "as many slots serve during an update as its order and parallelism imply"
    ROLLED_OUT = "in calm weather an update ends as its settings say, in time"
    REPLACEMENT = "what ran on a dead host soon runs elsewhere"
    ORPHANS = "tasks of a host that stays down are orphaned after a day, and not before"
    KEYS = "keys of encrypted networks are replaced twice a day"


class Violation(msgspec.Struct, frozen=True):
    """A rule that was broken, and how."""

    rule: Rule
    text: str


Fail = Callable[[Rule, str], None]
