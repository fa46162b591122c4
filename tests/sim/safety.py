"""What must hold after every committed revision. Each law is an object of its own.

A law sees the change and the store's view after it, and returns sentences about what is wrong.
"""

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network
from typing import Protocol

from msgspec.structs import replace

from controller.store.base import NO_LEASE, Compare
from pyswarm_core import limits
from pyswarm_core.ids import NetworkId, ServiceId, TaskId
from pyswarm_core.indexes.tasks import is_desired
from pyswarm_core.kinds import NETWORK, SERVICE
from pyswarm_core.objects import Network, Service, Task
from pyswarm_core.specs import ServiceSpec
from pyswarm_core.states import (
    DESIRED_STATES,
    DESIRED_TRANSITIONS,
    TaskState,
    is_terminal,
)
from tests.sim.asked import Asked
from tests.sim.audited import ChangesAreRecorded
from tests.sim.bases import UpdatesReturn
from tests.sim.checked import ChecksDecide
from tests.sim.containers import LayersAreKept, OneTask, RemovedByItself
from tests.sim.controllers import KEYS
from tests.sim.dependencies import as_asked
from tests.sim.hosts import Host
from tests.sim.marks import Marks
from tests.sim.membership import stack_of
from tests.sim.payloads import FilesAreWhole, VersionsAreKept, as_named
from tests.sim.rollout_states import is_beside_failed, is_new, is_paused, is_rolling
from tests.sim.rules import Rule
from tests.sim.stack_rules import StacksAreWhole
from tests.sim.unique import HostPorts, PublishedPorts, TaskAddresses, VirtualAddresses
from tests.sim.view import Change, View
from tests.sim.volumes import DataStays

TXN_BYTES_MAX = 1_400_000
"""etcd's default request limit is 1.5 MiB; the rest is the encoding's."""


class Law(Protocol):
    """One invariant of what is stored."""

    rule: Rule

    def broken_by(self, change: Change, view: View) -> Iterable[str]:
        """What the change did that it must not do."""
        ...


class TasksMoveForward:
    """State and desired state only grow, a node is written once, nothing else ever changes."""

    rule = Rule.FORWARD

    def __init__(self) -> None:
        self._gone: dict[TaskId, None] = {}

    def broken_by(self, change: Change, view: View) -> Iterator[str]:
        for old, new in change.tasks:
            if new is None:
                if old is not None:
                    self._gone[old.id] = None
            elif old is None:
                if new.id in self._gone:
                    yield f"task {new.id} came back from the dead"
            else:
                yield from _moved(old, new, view)


def _moved(old: Task, new: Task, view: View) -> Iterator[str]:
    if new.state < old.state:
        yield f"task {new.id} moved back from {old.state.word} to {new.state.word}"
    if old.state < TaskState.ASSIGNED < new.state and new.state is not TaskState.SHUTDOWN:
        yield f"task {new.id} became {new.state.word} before it was assigned"
    back = DESIRED_STATES.index(new.desired_state) < DESIRED_STATES.index(old.desired_state)
    if back and (old.desired_state, new.desired_state) not in DESIRED_TRANSITIONS:
        yield f"task {new.id} goes back from {old.desired_state.word} to {new.desired_state.word}"
    if old.node_id and new.node_id != old.node_id and old.node_id in view.nodes:
        yield f"task {new.id} moved from node {old.node_id} to {new.node_id}"
    if (old.slot, old.spec_version, old.created_at) != (
        new.slot,
        new.spec_version,
        new.created_at,
    ):
        yield f"task {new.id} changed its identity: {old} {new}"


class OneDesiredTaskPerSlot:
    """A slot has at most one task that should run and has not ended, and beside it one of the old
    template: during an update, and after a start-first one whose new task failed there.
    """

    rule = Rule.ONE_DESIRED

    def broken_by(self, change: Change, view: View) -> Iterator[str]:
        for key in change.chunks:
            seen: dict[tuple[int, int], Task] = {}
            service = view.services.get(key.service_id)
            tasks = view.chunks.get(key, ())
            for task in tasks:
                if not is_desired(task):
                    continue
                slot = [one for one in tasks if one.slot == task.slot]
                beside = service is not None and _may_be_beside(service, task, slot)
                # An update that begins during another one finds tasks of two earlier versions.
                one = (task.slot, task.spec_version if beside else 0)
                if one in seen:
                    both = f"{seen[one].id} and {task.id}"
                    yield f"slot {task.slot} of {key.service_id} wants {both}"
                seen[one] = task


def _may_be_beside(service: Service, task: Task, slot: list[Task]) -> bool:
    if is_new(service, task) or service.update_status is None:
        return False
    return is_rolling(service) or is_paused(service) or is_beside_failed(service, slot)


class WritesAreFenced:
    """Every write compares the exact revision that the leader key has in its writer's own term.

    That it exists, or who created it, is not enough: a deposed leader would write into the next
    term, and a transaction whose outcome is unknown could arrive after its repetition.
    """

    rule = Rule.FENCE

    def __init__(self) -> None:
        self._holder: object = None

    def broken_by(self, change: Change, view: View) -> Iterator[str]:
        txn = change.txn
        keys = [*(put.key for put in txn.puts), *(delete.key for delete in txn.deletes)]
        if all(key.startswith(KEYS.controllers) for key in keys):
            return  # each controller's own word, that it lives; or nothing
        fences = [compare for compare in txn.compares if compare.key == KEYS.leader]
        held = next((put for put in txn.puts if put.key == KEYS.leader), None)
        if held is not None and held.lease == NO_LEASE:
            yield f"{change.client} holds the leader key without a lease"
        if held is not None and fences == [Compare.absent(KEYS.leader)]:
            self._holder = change.process
            return
        if not fences or fences[0].mod_revision == 0:
            yield f"{change.client} wrote without comparing the leader key's revision: {fences}"
        if change.process is not self._holder:
            yield f"{change.client} wrote in the term of another"


class SpecsAreTheUsers:
    """A stored spec is one that a user sent, to the letter, or to which a rollback returned
    (`specs.rolled_back`, `specs.requested_return`); its version never goes back.
    """

    rule = Rule.SPECS

    def __init__(self, asked: Asked) -> None:
        self._asked = asked

    def broken_by(self, change: Change, view: View) -> Iterator[str]:
        for old, new in change.of(SERVICE):
            if new is None:
                if not stack_of(SERVICE, old):
                    yield from self._removed(old.id if old else ServiceId(""))
                continue
            if stack_of(SERVICE, new):
                continue  # StacksAreWhole
            known = self._asked.specs.get(new.spec.name, ())
            if _own(new.spec, view) not in [_own(spec, view) for spec in known]:
                yield f"service {new.spec.name} has a spec nobody sent: {new.spec}"
            if old is not None and new.version.index < old.version.index:
                yield f"service {new.spec.name} went back to version {new.version.index}"
            if new.version.index < self._asked.promised.get(new.id, 0):
                yield f"service {new.spec.name} forgot an acknowledged update"
            if new.removing and new.id not in self._asked.removals:
                yield f"service {new.spec.name} is being removed, and nobody asked for it"

    def _removed(self, service_id: ServiceId) -> Iterator[str]:
        if service_id and service_id not in self._asked.removals:
            yield f"service {service_id} was removed, and nobody asked for it"


def _own(spec: ServiceSpec, view: View) -> ServiceSpec:
    """Without the mesh's network, which a service joins by publishing a port; it may follow its
    first service into the store.
    """
    template = spec.task_template
    own = tuple(
        joined
        for joined in template.networks
        if (network := view.networks.get(NetworkId(joined.target))) and not network.spec.ingress
    )
    return as_asked(as_named(replace(spec, task_template=replace(template, networks=own))))


_TURN = 20
"""Revisions that one turn of a leader takes at most, where transactions are small."""


class NetworksStayApart:
    """Subnets and VNIs are unique, blocks disjoint, each with one node.

    A network that takes the subnet of one which was removed in the same turn may be stored before
    that is deleted: docs/store.md.
    """

    rule = Rule.NETWORKS_APART

    def __init__(self) -> None:
        self._overlapping: dict[tuple[str, str], int] = {}
        """Since which revision two networks have one subnet."""

    def broken_by(self, change: Change, view: View) -> Iterator[str]:
        for (first, second), since in list(self._overlapping.items()):
            if not {first, second} <= view.networks.keys():
                del self._overlapping[first, second]
            elif change.revision - since > _TURN:
                yield f"networks {first} and {second} overlap"
        if not any(new for _, new in change.of(NETWORK)):
            return
        networks = list(view.networks.values())
        for index, one in enumerate(networks):
            yield from _blocks_wrong(one)
            for other in networks[:index]:
                if one.vni == other.vni:
                    yield f"networks {one.spec.name} and {other.spec.name} share VNI {one.vni}"
                if IPv4Network(one.subnet).overlaps(IPv4Network(other.subnet)):
                    self._overlapping.setdefault((one.id, other.id), change.revision)


def _blocks_wrong(network: Network) -> Iterator[str]:
    subnet = IPv4Network(network.subnet)
    blocks = [IPv4Network(block.cidr) for block in network.blocks]
    for index, block in enumerate(blocks):
        if not block.subnet_of(subnet):
            yield f"block {block} lies outside of {network.spec.name} ({subnet})"
        if any(block.overlaps(other) for other in blocks[:index]):
            yield f"block {block} of {network.spec.name} is allocated twice"


class BlocksAreFree:
    """A block has no other node's containers in it, unless that node was removed by its users."""

    rule = Rule.BLOCKS_FREE

    def __init__(self, hosts: dict[str, Host]) -> None:
        self._hosts = hosts

    def broken_by(self, change: Change, view: View) -> Iterator[str]:
        for _, network in change.of(NETWORK):
            if network is not None:
                for host in self._hosts.values():
                    yield from self._intruders(network, host, view)

    def _intruders(self, network: Network, host: Host, view: View) -> Iterator[str]:
        node = view.nodes.get(host.node_id) if host.node_id else None
        if node is None or host.lost:
            return
        own = [IPv4Network(b.cidr) for b in network.blocks if b.node_number == node.number]
        for task_id in host.running():
            for address in host.addresses(task_id, network.id):
                if not any(address in block for block in own):
                    yield (
                        f"task {task_id} runs on {host.name} with {address}, which is no longer in"
                        f" a block of its node on {network.spec.name}"
                    )


class HistoryIsTrimmed:
    """A slot remembers as many ended tasks as its cluster and its restart policies ask for.

    Two more may be there for a moment: one that has just ended, one whose end is being decided.
    """

    rule = Rule.HISTORY

    def __init__(self, asked: Asked) -> None:
        self._asked = asked

    def broken_by(self, change: Change, view: View) -> Iterator[str]:
        limit = view.cluster.spec.task_history_limit if view.cluster else 0
        for key in change.chunks:
            ended: dict[int, int] = {}
            for task in view.chunks.get(key, ()):
                if is_terminal(task.state) and task.desired_state is not TaskState.REMOVE:
                    ended[task.slot] = ended.get(task.slot, 0) + 1
            if not ended or max(ended.values()) <= limit + 2:
                continue
            service = view.services.get(key.service_id)
            specs = self._asked.specs.get(service.spec.name, ()) if service else ()
            attempts = [s.task_template.restart_policy.max_attempts for s in specs]
            for slot, count in ended.items():
                if count > max([limit, *attempts]) + 2:
                    yield f"slot {slot} of {key.service_id} remembers {count} ended tasks"


class SizesHold:
    """Nothing is stored beyond its limit."""

    rule = Rule.SIZES

    def __init__(self, puts: int) -> None:
        self._puts = puts

    def broken_by(self, change: Change, view: View) -> Iterator[str]:
        txn = change.txn
        keys = [put.key for put in txn.puts] + [delete.key for delete in txn.deletes]
        operations = sum(not key.startswith(KEYS.audits) for key in keys)
        if operations > self._puts:
            yield f"a transaction of {operations} operations"
        size = sum(len(put.key) + len(put.value) for put in txn.puts)
        if size > TXN_BYTES_MAX:
            yield f"a transaction of {size} bytes"
        for _, service in change.of(SERVICE):
            if service and len(service.previous_specs) > limits.PREVIOUS_SPECS + 64:
                yield f"service {service.spec.name} keeps {len(service.previous_specs)} specs"
        for _, task in change.tasks:
            if task is not None:
                longest = max(len(task.detail.message), len(task.detail.error))
                if longest > limits.DETAIL_LENGTH_MAX:
                    yield f"task {task.id} is stored with a text of {longest} characters"


def laws(asked: Asked, hosts: dict[str, Host], puts: int, marks: Marks) -> list[Law]:
    """All of them; a transaction has at most `puts` operations."""
    return [
        TasksMoveForward(),
        OneDesiredTaskPerSlot(),
        WritesAreFenced(),
        RemovedByItself(asked, hosts, marks),
        OneTask(),
        LayersAreKept(hosts, marks),
        DataStays(hosts, marks),
        VersionsAreKept(hosts, marks),
        FilesAreWhole(hosts, marks),
        SpecsAreTheUsers(asked),
        UpdatesReturn(),
        NetworksStayApart(),
        BlocksAreFree(hosts),
        VirtualAddresses(),
        TaskAddresses(hosts),
        PublishedPorts(),
        HostPorts(hosts),
        HistoryIsTrimmed(asked),
        ChecksDecide(hosts),
        SizesHold(puts),
        StacksAreWhole(asked.stacks, marks),
        ChangesAreRecorded(asked.requests),
    ]
