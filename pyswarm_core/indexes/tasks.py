"""Parts of the state index: the tasks of one service by slot, idle blocks, and services that wait
for a node. PURE (mutable: only `State` changes them).
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple, TypeVar

import numpy as np

from pyswarm_core.clock import Instant
from pyswarm_core.docker.generic_resources import counted
from pyswarm_core.ids import NetworkId, NodeId, ServiceId
from pyswarm_core.indexes.dependents import keeps_templates
from pyswarm_core.indexes.generics import Counts
from pyswarm_core.indexes.nodes import BoolColumn, IntColumn, NodeTable
from pyswarm_core.indexes.rollout import Rollout, updated_as
from pyswarm_core.limits import UNFINISHED_MAX
from pyswarm_core.objects import Block, Network, Service, Task
from pyswarm_core.ports import HostPort, host_ports
from pyswarm_core.specs import ServiceSpec
from pyswarm_core.states import TaskState, is_terminal, lives

K = TypeVar("K")
V = TypeVar("V")

_RUNNING = TaskState.RUNNING
_ASSIGNED = TaskState.ASSIGNED
_REMOVE = TaskState.REMOVE


def drop(index: dict[K, V], key: K, holder: V) -> None:
    """Remove the key if the holder has it. Stored objects may give a key to two: one is indexed."""
    if index.get(key) == holder:
        del index[key]


_NO_BLOCKS: Mapping[int, tuple[str, ...]] = {}
_NO_NETWORKS: Mapping[NetworkId, None] = {}


class IdleBlocks:
    """The node of each block; by network, the numbers of the nodes whose blocks are idle.

    A node needs its blocks of a network while it has a task on it, and while its agent cannot
    report that it has none: until it is ready or removed.
    """

    def __init__(
        self,
        nodes: dict[int, NodeId],
        table: NodeTable,
        load: dict[NetworkId, dict[NodeId, int]],
    ) -> None:
        self.networks: dict[NetworkId, dict[int, None]] = {}
        """Only networks with idle blocks."""
        self.derived: dict[NetworkId, object] = {}
        """The allocator's data about a network's blocks, until the network is removed."""
        self._nodes = nodes
        self._table = table
        self._load = load
        self._held: dict[NetworkId, dict[int, tuple[str, ...]]] = {}
        self._networks_of: dict[int, dict[NetworkId, None]] = {}

    def of_network(self, network_id: NetworkId) -> Mapping[int, tuple[str, ...]]:
        """The network's blocks by the number of their node."""
        return self._held.get(network_id, _NO_BLOCKS)

    def networks_of(self, number: int) -> Mapping[NetworkId, None]:
        """The networks of which the node with that number has blocks."""
        return self._networks_of.get(number, _NO_NETWORKS)

    def put_network(
        self, network_id: NetworkId, before: Network | None, network: Network | None
    ) -> tuple[tuple[Block, ...], tuple[Block, ...]]:
        """Set the network's blocks; None if it was removed, or is new. Return the removed and the
        added blocks.
        """
        gone, came = changed_blocks(
            before.blocks if before else (), network.blocks if network else ()
        )
        held = self._held.setdefault(network_id, {})
        for block in gone:
            _take_block(held, block)
        for block in came:
            held[block.node_number] = (*held.get(block.node_number, ()), block.cidr)
        if not held:
            del self._held[network_id]
        for number in dict.fromkeys([block.node_number for block in (*gone, *came)]):
            networks = self._networks_of.setdefault(number, {})
            if number in held:
                networks[network_id] = None
            else:
                networks.pop(network_id, None)
            if not networks:
                del self._networks_of[number]
            self.refresh(network_id, number)
        if network is None:
            self.derived.pop(network_id, None)
        return gone, came

    def put_node(self, number: int) -> None:
        """Update the node with that number: it was added or removed, or its readiness changed."""
        for network_id in self._networks_of.get(number, ()):
            self.refresh(network_id, number)

    def refresh(self, network_id: NetworkId, number: int) -> None:
        """Update one node's blocks of the network, or its number of tasks on it."""
        idle = self.networks.get(network_id)
        if number in self._held.get(network_id, ()) and not self._needs(network_id, number):
            if idle is None:
                idle = self.networks[network_id] = {}
            idle[number] = None
        elif idle and number in idle:
            del idle[number]
            if not idle:
                del self.networks[network_id]

    def _needs(self, network_id: NetworkId, number: int) -> bool:
        node_id = self._nodes.get(number)
        row = self._table.rows.get(node_id) if node_id else None
        if node_id is None or row is None:
            return False
        on_network = self._load.get(network_id)
        return bool(on_network and node_id in on_network) or not self._table.ready[row]


def changed_blocks(
    before: tuple[Block, ...], after: tuple[Block, ...]
) -> tuple[tuple[Block, ...], tuple[Block, ...]]:
    """The removed and the added blocks. Usually a few were removed in several places and the others
    kept their order, or some were added at the end.
    """
    if after[: len(before)] == before:
        return (), after[len(before) :]
    shorter = min(len(before), len(after))
    first = next((i for i in range(shorter) if before[i] != after[i]), shorter)
    rest = shorter - first
    last = next((i for i in range(rest) if before[-1 - i] != after[-1 - i]), rest)
    old = Counter(before[first : len(before) - last])
    new = Counter(after[first : len(after) - last])
    return tuple((old - new).elements()), tuple((new - old).elements())


def _take_block(held: dict[int, tuple[str, ...]], block: Block) -> None:
    left = list(held[block.node_number])
    left.remove(block.cidr)
    if left:
        held[block.node_number] = tuple(left)
    else:
        del held[block.node_number]


class Footprint(NamedTuple):
    """The resources that a task takes of its node."""

    nano_cpus: int = 0
    memory_bytes: int = 0
    networks: tuple[NetworkId, ...] = ()
    ports: tuple[HostPort, ...] = ()
    generic: Counts = ()


NO_FOOTPRINT = Footprint()


def footprint_of(spec: ServiceSpec) -> Footprint:
    """The resources that a task of the spec takes of its node."""
    template = spec.task_template
    reservations = template.resources.reservations
    return Footprint(
        reservations.nano_cpus,
        reservations.memory_bytes,
        template.overlays,
        host_ports(spec.endpoint_spec),
        tuple(counted(reservations.generic_resources).items()),
    )


class Needs(NamedTuple):
    """The needs of one task of each waiting service, the longest wait first: none if its update is
    paused, as tasks of several templates may wait.
    """

    services: tuple[ServiceId, ...]
    nano_cpus: IntColumn
    memory_bytes: IntColumn
    takes: BoolColumn
    """Whether it needs anything that other tasks release when they end."""


class Unplaced:
    """Services with tasks that wait for a node, each with the time since when."""

    def __init__(self, services: Mapping[ServiceId, Service]) -> None:
        self.since: dict[ServiceId, Instant] = {}
        self._services = services
        self._needs: Needs | None = None

    def __len__(self) -> int:
        return len(self.since)

    def __iter__(self) -> Iterator[ServiceId]:
        return iter(self.since)

    def __contains__(self, service_id: object) -> bool:
        return service_id in self.since

    def add(self, service_id: ServiceId, since: Instant) -> None:
        """Add the service; nothing changes if it waits already."""
        if service_id not in self.since:
            self.since[service_id] = since
            self._needs = None

    def discard(self, service_id: ServiceId) -> None:
        """Remove the service: none of its tasks waits."""
        if self.since.pop(service_id, None) is not None:
            self._needs = None

    def respecified(self, service_id: ServiceId) -> None:
        """Update the needs of the service after its spec changed."""
        if service_id in self.since:
            self._needs = None

    @property
    def needs(self) -> Needs:
        """The resources that they need of a node."""
        if self._needs is None:
            services = self.in_order(one for one in self.since if one in self._services)
            found = [self._services[one] for one in services]
            mixed = [keeps_templates(one) for one in found]
            taken = [
                NO_FOOTPRINT if several else footprint_of(one.spec)
                for one, several in zip(found, mixed, strict=True)
            ]
            needs = zip(mixed, taken, strict=True)
            takes = [several or need != NO_FOOTPRINT for several, need in needs]
            self._needs = Needs(
                tuple(services),
                np.array([one.nano_cpus for one in taken], np.int64),
                np.array([one.memory_bytes for one in taken], np.int64),
                np.array(takes, np.bool_),
            )
        return self._needs

    def in_order(self, services: Iterable[ServiceId]) -> list[ServiceId]:
        """The waiting services among these, the longest wait first."""
        waiting = [service_id for service_id in services if service_id in self.since]
        return sorted(waiting, key=lambda service_id: (self.since[service_id], service_id))


class ServiceTasks:
    """The tasks of one service. `slots` maps a slot to its tasks, oldest first."""

    __slots__ = (
        "_regroup",
        "crowded",
        "leaving",
        "pending",
        "placed",
        "rollout",
        "running",
        "service",
        "slots",
        "storied",
        "unfinished",
        "unsettled",
        "versions",
    )

    def __init__(self, service: Service | None = None) -> None:
        self.slots: dict[int, tuple[Task, ...]] = {}
        self.running = 0
        """Desired tasks that run."""
        self.pending = 0
        """Tasks that wait for a node."""
        self.placed: dict[NodeId, int] = {}
        """How many tasks with a node are desired there and have not ended."""
        self.unsettled: dict[int, None] = {}
        """Slots that may need a change by themselves: those that are not settled."""
        self.leaving: dict[int, None] = {}
        """Slots whose tasks are all to be removed: they count as no replica."""
        self.crowded: dict[int, None] = {}
        """Those of them that get no further task before some have ended, because they have too
        many.
        """
        self.storied: dict[int, None] = {}
        """Slots with more than one task, in which failures may be found; the last to get a task is
        last.
        """
        self.versions: dict[int, int] = {}
        """How many desired tasks that have not ended there are of each spec version."""
        self.unfinished: dict[int, int] = {}
        """How many tasks that have not ended there are of each spec version, desired or not."""
        self.service = service
        """As far as its update is concerned: as of its last change that matters for `rollout`."""
        self.rollout: Rollout | None = None
        """The progress of an update by slot, while one goes on or any desired task is outdated."""
        self._regroup = service is not None and service.is_updating
        """Whether versions were added or removed since `regroup`."""

    def __iter__(self) -> Iterator[Task]:
        return (task for tasks in self.slots.values() for task in tasks)

    def put_slot(self, slot: int, tasks: tuple[Task, ...], history_kept: int) -> None:
        """Set the tasks of the slot; it is settled only with at most `history_kept` ended ones."""
        before = self.slots.get(slot)
        self.slots[slot] = tasks
        if not is_settled(tasks) or history_kept < len(tasks) - 1:
            self.unsettled[slot] = None
        elif slot in self.unsettled:
            del self.unsettled[slot]
        if tasks[-1].desired_state is _REMOVE and _leaves(tasks):
            self.leaving[slot] = None
            if len(tasks) >= UNFINISHED_MAX:
                self.crowded[slot] = None
            else:
                self.crowded.pop(slot, None)
        elif slot in self.leaving:
            del self.leaving[slot]
            self.crowded.pop(slot, None)
        if len(tasks) > 1:
            if before and before[-1].id != tasks[-1].id:
                self.storied.pop(slot, None)
            self.storied[slot] = None
        elif slot in self.storied:
            del self.storied[slot]
        if self.rollout is not None:
            self.rollout.put(slot, self.rollout.shown(tasks))

    def put_living(self, before: Task, task: Task, history_kept: int) -> None:
        """Set a task that has a node, and has not ended, to another such state."""
        if task.desired_state <= _RUNNING:
            self.running += (task.state is _RUNNING) - (before.state is _RUNNING)
        slot = task.slot
        held = self.slots[slot]
        if len(held) > 1:
            held = tuple([task if other.id == task.id else other for other in held])
            self.put_slot(slot, held, history_kept)
            return
        self.slots[slot] = (task,)
        if self.rollout is not None:
            self.rollout.put(slot, task)

    def put_first(self, first: Mapping[int, Task]) -> None:
        """Set tasks of slots that were empty and are settled by them, in bulk."""
        self.slots.update(zip(first, zip(first.values()), strict=True))
        self._count_settled(first.values())
        if self.rollout is not None:
            for slot, task in first.items():
                self.rollout.put(slot, task)
        self.regroup()

    def forget_slot(self, slot: int) -> None:
        """Remove the slot: it has no task any more."""
        del self.slots[slot]
        self.unsettled.pop(slot, None)
        self.leaving.pop(slot, None)
        self.crowded.pop(slot, None)
        self.storied.pop(slot, None)
        if self.rollout is not None:
            self.rollout.drop(slot)

    def count(self, task: Task, sign: int) -> None:
        """Add a task that has not ended to the counts, or subtract it."""
        version, state = task.spec_version, task.state
        _add(self.unfinished, version, sign)
        if task.desired_state > _RUNNING:
            return
        self._regroup |= _add(self.versions, version, sign)
        if state is _RUNNING:
            self.running += sign
        if state < _ASSIGNED:
            self.pending += sign
        elif task.node_id:
            _add(self.placed, task.node_id, sign)

    def regroup(self) -> None:
        """Keep `rollout` exactly while it is needed. Called when tasks and counts agree."""
        if not self._regroup:
            return
        self._regroup = False
        service = self.service
        if service is None:
            self.rollout = None
            return
        refuses = any(version < service.in_place_version for version in self.versions)
        if self.rollout is None and (service.is_updating or self.outdated or refuses):
            self.rollout = Rollout(service, self.slots)  # which alone finds who refuses limits
        if not (service.is_updating or self.outdated):
            self.rollout = None

    @property
    def outdated(self) -> int:
        """How many desired tasks that have not ended are outdated."""
        service = self.service
        if service is None:
            return 0
        versions = self.versions.items()
        refusing = len(self.rollout.refusing) if self.rollout else 0
        return refusing + sum(
            count for version, count in versions if not service.is_current(version)
        )

    def expect(self, service: Service) -> None:
        """Set the service that the tasks belong to."""
        before, self.service = self.service, service
        if before is None or updated_as(before) != updated_as(service):
            self.rollout = None
            self._regroup = True
            self.regroup()

    def _count_settled(self, tasks: Collection[Task]) -> None:
        """Count tasks with a node, desired, that settle their slots, in bulk."""
        for state, count in Counter([task.state for task in tasks]).items():
            if state is _RUNNING:
                self.running += count
        for version, count in Counter([task.spec_version for task in tasks]).items():
            self._regroup |= _add(self.versions, version, count)
            _add(self.unfinished, version, count)
        for node_id, count in Counter([task.node_id for task in tasks]).items():
            _add(self.placed, node_id, count)


def _add(counts: dict[K, int], key: K, count: int) -> bool:
    """Change the count of a key; return whether the key was added or removed."""
    before = counts.get(key, 0)
    left = before + count
    if left:
        counts[key] = left
    else:
        del counts[key]
    return not (before and left)


def runs_as_desired(task: Task) -> bool:
    """Whether it counts as a running replica."""
    return task.state is _RUNNING and task.desired_state <= _RUNNING


def waits_for_node(task: Task) -> bool:
    """Whether the scheduler has yet to place it."""
    return task.state <= TaskState.PENDING and task.desired_state <= _RUNNING


def is_desired(task: Task) -> bool:
    """Whether it is desired and has not ended."""
    return task.desired_state <= _RUNNING and task.state <= _RUNNING


def stays(task: Task) -> bool:
    """Whether it stays on its node: it is desired or frozen, and has not ended."""
    return task.state <= _RUNNING and lives(task.desired_state)


def is_placed(task: Task) -> bool:
    """Whether it is desired, has not ended, and has a node with room for it."""
    return is_desired(task) and task.state >= _ASSIGNED and bool(task.node_id)


def is_settled(tasks: tuple[Task, ...]) -> bool:
    """Whether a slot needs no change as long as its service's spec and its node stay the same.

    Its newest task has a node, is desired and has not ended; all others have ended.
    """
    newest = tasks[-1]
    if not (newest.desired_state is _RUNNING and _ASSIGNED <= newest.state <= _RUNNING):
        return False
    if not newest.node_id:
        return False
    return len(tasks) == 1 or all(
        task.desired_state is TaskState.SHUTDOWN and is_terminal(task.state) for task in tasks[:-1]
    )


def _leaves(tasks: tuple[Task, ...]) -> bool:
    return all(task.desired_state is _REMOVE for task in tasks)


def split(group: ServiceTasks, run: Iterable[Task]) -> tuple[dict[int, Task], list[Task]]:
    """By slot, the tasks that settle a slot that was empty; and all others, in their order."""
    held = group.slots
    first: dict[int, Task] = {}
    others: list[Task] = []
    others_slots: dict[int, None] = {}
    for task in run:
        slot = task.slot
        if (
            task.desired_state is _RUNNING
            and _ASSIGNED <= task.state <= _RUNNING
            and task.node_id
            and slot not in held
            and slot not in first
            and slot not in others_slots
        ):
            first[slot] = task
        else:
            others.append(task)
            others_slots[slot] = None
    return first, others
