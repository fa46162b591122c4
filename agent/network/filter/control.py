"""The rules that close the control plane to tasks. PURE.

A connection of a task to a port of the control plane is refused on the task's own host: in
`forward` if another host has the address, in the input hook if this host has it. What a task of
another host sends to this host's addresses on a network is refused in the input hook here. Both
hooks follow address translation: a published port of the same number stays open, and another
program's translation to the control plane opens nothing.

The rules match packets of the fleet's devices only. The chain of the input hook is of type `nat`
and sees first packets alone; in `forward`, established connections do not reach the maps.

A task with --allow-fleet-api may connect to the controllers' API, and to no other port of these.
"""

from collections.abc import Iterable, Iterator

from agent.network.base import ControlPlane, DesiredOverlay
from agent.network.filter.published import REFUSED
from agent.network.filter.table import Chain, Elements
from agent.network.names import Names
from pyswarm_core.addresses import address6

CLOSED = "control_plane"
"""The counter of connections to the control plane that were refused, and the chain that refuses."""
FLEET_API = "fleet_api"
"""The chain of connections to the controllers' API."""
METADATA = "metadata"
"""The counter of packets to metadata services that were refused, and the chain that refuses."""
METADATA_ADDRESSES = ("169.254.169.254", "fd00:ec2::254")

_ELSEWHERE, _HERE = "to_control_plane", "to_own_control_plane"
_KEY, _KEY6 = "ipv4_addr . inet_service : verdict", "ipv6_addr . inet_service : verdict"
_Verdicts = dict[tuple[str, int], str]
"""By address and port; by port alone if the address is empty."""


def control_elements(
    control: ControlPlane, overlays: Iterable[DesiredOverlay], names: Names, own_address: str
) -> dict[str, Elements]:
    """The maps of closed ports, and the tasks that may call the API. `own_address`: this host's
    address on the underlay.
    """
    elsewhere: _Verdicts = {}
    here: _Verdicts = {}
    for host in control.hosts:
        for endpoint in host.endpoints:
            verdict = f"goto {FLEET_API if endpoint.api else CLOSED}"
            for address in host.addresses:
                _close(elsewhere, (address, endpoint.port), verdict)
                if not endpoint.anywhere:
                    _close(here, (address, endpoint.port), verdict)
            if endpoint.anywhere and own_address in host.addresses:
                _close(here, ("", endpoint.port), verdict)
    callers = [*_callers(control, overlays, names)]
    return {
        "control_addresses": _addresses(_KEY, elsewhere, six=False),
        "control_addresses6": _addresses(_KEY6, elsewhere, six=True),
        "own_control_addresses": _addresses(_KEY, here, six=False),
        "own_control_addresses6": _addresses(_KEY6, here, six=True),
        "own_control_ports": _map(
            "inet_service : verdict", (f"{p} : {v}" for (a, p), v in here.items() if not a)
        ),
        "fleet_api_callers": _tasks("ifname . ipv4_addr", callers, six=False),
        "fleet_api_callers6": _tasks("ifname . ipv6_addr", callers, six=True),
    }


def control_chains(devices: str) -> dict[str, Chain]:
    """The chains; `forward` jumps to the first. `devices` matches the fleet's own."""
    return {
        _ELSEWHERE: Chain((
            "ip daddr . tcp dport vmap @control_addresses",
            "ip6 daddr . tcp dport vmap @control_addresses6",
        )),
        _HERE: Chain((
            "tcp dport vmap @own_control_ports",
            "ip daddr . tcp dport vmap @own_control_addresses",
            "ip6 daddr . tcp dport vmap @own_control_addresses6",
        )),
        FLEET_API: Chain((
            "iifname . ip saddr @fleet_api_callers return",
            "iifname . ip6 saddr @fleet_api_callers6 return",
            f"goto {CLOSED}",
        )),
        CLOSED: Chain((f"counter name {CLOSED} goto {REFUSED}",)),
        METADATA: Chain((f"counter name {METADATA} goto {REFUSED}",)),
        "to_this_host": Chain(hook="type nat hook input priority 0;", rules=(
            f"iifname {devices} meta l4proto tcp jump {_HERE}",
        )),
    }  # fmt: skip


def to_elsewhere(devices: str) -> str:
    """The rule of `forward` for tasks' connections to other hosts."""
    return f"iifname {devices} ct state != established meta l4proto tcp jump {_ELSEWHERE}"


def no_metadata() -> Iterator[str]:
    """The rules of a bridge whose tasks may not reach metadata services. Before any translation:
    hosts may redirect these addresses to a process of their own.
    """
    for address in METADATA_ADDRESSES:
        yield f"{'ip6' if ':' in address else 'ip'} daddr {address} goto {METADATA}"


def _close(verdicts: _Verdicts, key: tuple[str, int], verdict: str) -> None:
    """One key has one verdict: a port that is not only the API stays closed."""
    if verdicts.setdefault(key, verdict) != verdict:
        verdicts[key] = f"goto {CLOSED}"


def _addresses(type_: str, verdicts: _Verdicts, *, six: bool) -> Elements:
    chosen = ((a, p, v) for (a, p), v in verdicts.items() if a and (":" in a) is six)
    return _map(type_, (f"{address} . {port} : {verdict}" for address, port, verdict in chosen))


def _map(type_: str, items: Iterable[str]) -> Elements:
    return Elements(type_, frozenset(items), values=True)


def _tasks(type_: str, callers: Iterable[tuple[str, str]], *, six: bool) -> Elements:
    chosen = ((device, address) for device, address in callers if (":" in address) is six)
    return Elements(type_, frozenset(f'"{device}" . {address}' for device, address in chosen))


def _callers(
    control: ControlPlane, overlays: Iterable[DesiredOverlay], names: Names
) -> Iterator[tuple[str, str]]:
    """The bridge and the address of each."""
    known = {overlay.network_id: overlay for overlay in overlays}
    for caller in control.callers:
        for held in caller.addresses:
            if (overlay := known.get(held.network_id)) is None:
                continue
            device = names.bridge(overlay.network_id)
            yield device, held.address
            if overlay.subnet6:
                yield device, address6(overlay.subnet, overlay.subnet6, held.address)
