"""Validation of a node's reports about its tasks. PURE.

An agent is not trusted: the addresses that it reports become backends, which every other agent
programs into its kernel. An address or a port that the task cannot have is left out; the rest of
the report counts.
"""

from collections.abc import Iterable, Sequence
from ipaddress import AddressValueError, IPv4Address, IPv4Network
from itertools import islice

from msgspec.structs import replace

from pyswarm_core.clock import SECOND, Instant
from pyswarm_core.identity.limits import CLOCK_SKEW_MAX
from pyswarm_core.ids import WHOLE_HOST, NetworkId, NodeId
from pyswarm_core.limits import DETAIL_LENGTH_MAX, FAULT_LENGTH_MAX, FAULTS_MAX
from pyswarm_core.objects import Node, NodeFault, Task, TaskAddress, TaskStatus
from pyswarm_core.ports import CHOSEN_BY_AGENTS
from pyswarm_core.specs import PREDEFINED_NETWORKS, PortConfig, PublishMode
from pyswarm_core.state import State

_Blocks = list[tuple[int, int]]
"""First and last address of each."""


class Reports:
    """Validates one message of one node."""

    def __init__(self, state: State, node_id: NodeId) -> None:
        self.refused: list[str] = []
        """What was left out, a line each, for the log."""
        self._state = state
        self._node = state.nodes.get(node_id)
        self._blocks: dict[NetworkId, _Blocks] = {}

    def checked(self, statuses: Iterable[TaskStatus]) -> list[TaskStatus]:
        """The statuses without impossible values. Those of other nodes' tasks are unchanged: they
        are ignored later.
        """
        return [self._checked(status) for status in statuses]

    def _checked(self, status: TaskStatus) -> TaskStatus:
        told = status.detail
        texts = told.message, told.error, told.in_place_error, told.command, told.image_volumes
        if not (told.addresses or told.ports or any(texts)):
            return status
        task = self._state.tasks.get(status.task_id)
        node = self._node
        if node is None or task is None or task.node_id != node.id or told == task.detail:
            return status
        detail = replace(
            told,
            message=_shown(told.message),
            error=_shown(told.error),
            addresses=self._addresses(node, task, told.addresses),
            ports=self._ports(task, told.ports),
            ran=max(0, told.ran),
            in_place_error=_shown(told.in_place_error),
            command=_shown(told.command),
            image_volumes=_shown(told.image_volumes),
        )
        return status if detail == told else TaskStatus(status.task_id, status.state, detail)

    def _addresses(
        self, node: Node, task: Task, told: tuple[TaskAddress, ...]
    ) -> tuple[TaskAddress, ...]:
        if told == task.detail.addresses:
            return told
        joined = (*self._state.footprint(task).networks, *self._state.networks_left(task))
        kept: dict[NetworkId, TaskAddress] = {}
        for address in told:
            if self._has(node, joined, address) and address.network_id not in kept:
                kept[address.network_id] = address
            else:
                self._refuse(task, f"address {address.address[:64]!r}")
        return tuple(kept.values())

    def _has(self, node: Node, joined: Sequence[NetworkId], told: TaskAddress) -> bool:
        """Whether the node may give the task this address."""
        try:
            number = int(IPv4Address(told.address))
        except AddressValueError:
            return False
        if told.network_id in PREDEFINED_NETWORKS:
            return True  # of its host alone: no other host receives it
        if told.network_id not in joined:
            return False
        return any(first < number < last for first, last in self._blocks_of(node, told.network_id))

    def _blocks_of(self, node: Node, network_id: NetworkId) -> _Blocks:
        found = self._blocks.get(network_id)
        if found is None:
            cidrs = self._state.idle_blocks.of_network(network_id).get(node.number, ())
            try:
                ranges = [IPv4Network(cidr) for cidr in cidrs]
            except ValueError:
                ranges = []  # the network is quarantined
            found = [(int(one.network_address), int(one.broadcast_address)) for one in ranges]
            self._blocks[network_id] = found
        return found

    def _ports(self, task: Task, told: tuple[PortConfig, ...]) -> tuple[PortConfig, ...]:
        if told == task.detail.ports:
            return told
        service = self._state.services.get(task.service_id)
        spec = service.made_from(task.spec_version) if service else None
        left = [port for port in spec.endpoint_spec.ports if _of_host(port)] if spec else []
        kept = []
        for port in told:
            requested = next((one for one in left if _fulfils(port, one)), None)
            if requested is None:
                self._refuse(task, f"port {port.published_port}")
            else:
                left.remove(requested)
                kept.append(port)
        return tuple(kept)

    def _refuse(self, task: Task, what: str) -> None:
        self.refused.append(f"task {task.id} cannot have {what}")


def faults(state: State, told: Iterable[NodeFault]) -> tuple[NodeFault, ...]:
    """The faults that a node reports, of existing networks, up to the number that is kept."""
    found = []
    for fault in islice(told, FAULTS_MAX):
        if not fault.network_id or fault.network_id in state.networks:
            reason = printable(fault.reason[:FAULT_LENGTH_MAX])[:FAULT_LENGTH_MAX]
            found.append(replace(fault, reason=reason))
    return tuple(dict.fromkeys(found))


def clock_fault(clock: int, now: Instant) -> NodeFault | None:
    """The fault of a host whose clock, just sent, differs from this one; 0: it was not sent."""
    skew = clock - now
    if not clock or abs(skew) < CLOCK_SKEW_MAX:
        return None
    # Rounded to a power of two, so that a reason that is stored does not change all the time.
    at_least = 1 << (abs(skew) // SECOND).bit_length() - 1
    return NodeFault(
        network_id=WHOLE_HOST,
        reason=f"its clock is at least {at_least} s {'ahead of' if skew > 0 else 'behind'} the"
        " controller's: set both by NTP; certificates are refused when they differ by an hour",
        blocks=False,
    )


def printable(text: str) -> str:
    """The text in one line without characters that a terminal interprets."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else " " if c in "\n\r\t" else ascii(c)[1:-1] for c in text)


def _shown(text: str) -> str:
    """The text in printable characters, no longer than the stored length: an escape has more
    characters than the character it replaces.
    """
    return printable(text)[:DETAIL_LENGTH_MAX]


def _of_host(port: PortConfig) -> bool:
    return port.publish_mode is PublishMode.HOST


def _fulfils(told: PortConfig, requested: PortConfig) -> bool:
    """Whether an agent may report this of a port that the spec requests."""
    if requested.published_port:
        return told == requested
    chosen = told.published_port in CHOSEN_BY_AGENTS
    return chosen and replace(told, published_port=0) == requested
