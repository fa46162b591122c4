"""Duplicate allocations: two holders of a VNI, subnet, block, virtual or task address. PURE.

No decision and no request makes such a state. A new leader checks what it loaded, because that may
come from an older version, a backup or a manual edit. Otherwise users would find the error first.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network

from pyswarm_core.errors import with_place
from pyswarm_core.ids import NetworkId, ServiceId, TaskId
from pyswarm_core.objects import Task
from pyswarm_core.state import State
from pyswarm_core.states import lives, occupies

Held = tuple[IPv4Network, str]
"""Addresses and their holder."""
Holders = dict[NetworkId, dict[str, TaskId]]


def audit(state: State) -> Iterator[str | None]:
    """A sentence for every duplicate allocation; None between slices, where the caller may
    pause and the state may change.
    """
    yield from _tried("networks", _networks(state))
    yield None
    holders: Holders = {network_id: {} for network_id in state.networks}
    for service in list(state.services.values()):
        yield from _tried(f"service {service.spec.name}", _tasks(state, service.id, holders))
        yield None


def _tried(what: str, found: Iterator[str]) -> Iterator[str]:
    """The duplicates found, with the first error as the last sentence."""
    try:
        yield from found
    except Exception as error:
        yield f"{what} cannot be looked at: {with_place(error)}"


def _networks(state: State) -> Iterator[str]:
    networks = state.networks.values()
    vnis: dict[int, str] = {}
    for network in networks:
        name = network.spec.name
        if (first := vnis.setdefault(network.vni, name)) != name:
            yield f"networks {first} and {name} share VNI {network.vni}"
    yield from _overlaps((IPv4Network(n.subnet), f"network {n.spec.name}") for n in networks)
    virtual: defaultdict[NetworkId, list[Held]] = defaultdict(list)
    for service in state.services.values():
        for vip in service.endpoint.virtual_ips:
            virtual[vip.network_id].append((IPv4Network(vip.addr), f"service {service.spec.name}"))
    for network in networks:
        blocks = [(IPv4Network(b.cidr), f"node number {b.node_number}") for b in network.blocks]
        for text in _overlaps([*blocks, *virtual[network.id]]):
            yield f"network {network.spec.name}: {text}"


def _overlaps(held: Iterable[Held]) -> Iterator[str]:
    """Holders whose addresses overlap. Wide ones come before what lies in them."""
    last: Held | None = None
    for addresses, holder in sorted(held):
        if last and last[0].overlaps(addresses):
            yield f"{addresses} of {holder} overlaps {last[0]} of {last[1]}"
        if last is None or addresses.broadcast_address > last[0].broadcast_address:
            last = (addresses, holder)


def _tasks(state: State, service_id: ServiceId, holders: Holders) -> Iterator[str]:
    """The service's tasks whose address an earlier task has. Networks without an object are left
    out: the bridges of all hosts have the same addresses.
    """
    for tasks in state.tasks_of_service(service_id).slots.values():
        for task in tasks:
            if not task.detail.addresses or not _holds(state, task):
                continue
            for held in task.detail.addresses:
                on_network = holders.get(held.network_id)
                if on_network is None or held.network_id not in state.networks:
                    continue
                first = state.tasks.get(on_network.setdefault(held.address, task.id))
                if first is task:
                    continue
                if first is not None and held in first.detail.addresses and _holds(state, first):
                    name = state.networks[held.network_id].spec.name
                    yield f"network {name}: tasks {first.id} and {task.id} have {held.address}"
                on_network[held.address] = task.id


def _holds(state: State, task: Task) -> bool:
    """Whether the task certainly holds its addresses. The addresses of tasks of a removed node are
    free. Those of a task that is to end may be free: a former leader may have known that it ended,
    and not stored it.
    """
    is_there = occupies(task.state) and task.node_id in state.nodes
    return is_there and lives(task.desired_state)
