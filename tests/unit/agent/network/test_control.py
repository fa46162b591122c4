"""The rules that close the control plane: which addresses and ports, for which tasks."""

import msgspec
import pytest

from agent.network import nft
from agent.network.base import (
    ApiCaller,
    ControlPlane,
    DesiredOverlay,
    NetworkFailed,
    Underlay,
    host_bridge,
)
from agent.network.filter.control import CLOSED, METADATA
from agent.network.filter.host import host_table, optional_units
from agent.network.filter.keeper import Keeper
from agent.network.filter.table import Table, change, whole
from agent.network.names import Names
from pyswarm_core.controlplane import (
    ControlEndpoint,
    ControlHost,
    checked_hosts,
    listening_on,
    split_address,
)
from pyswarm_core.ids import NetworkId, TaskId
from pyswarm_core.objects import TaskAddress

NAMES = Names("abc")
OWN, OTHER = "192.168.0.1", "192.168.0.2"
NET = NetworkId("net")
API = ControlEndpoint(port=2377, api=True, anywhere=True)
METRICS = ControlEndpoint(port=9323)
DUAL = DesiredOverlay(
    network_id=NET, name="net", subnet="10.1.0.0/16", subnet6="fd01::/112", vni=4096,
    local_blocks=("10.1.0.0/26",),
)  # fmt: skip


def table(
    *hosts: ControlHost, callers: tuple[ApiCaller, ...] = (), overlay: DesiredOverlay = DUAL
) -> Table:
    control = ControlPlane(hosts=hosts, callers=callers)
    networks = (host_bridge("10.127.0.0/16"), overlay)
    made = host_table(networks, (), (), NAMES, Underlay(address=OWN), control=control)
    assert made is not None
    return made


def items(made: Table, label: str) -> set[str]:
    return set(made.elements[label].items)


def test_ports_of_other_hosts_are_closed_at_each_of_their_addresses() -> None:
    host = ControlHost(addresses=(OTHER, "2001:db8::2"), endpoints=(API, METRICS))
    made = table(host)
    assert items(made, "control_addresses") == {
        f"{OTHER} . 2377 : goto fleet_api",
        f"{OTHER} . 9323 : goto control_plane",
    }
    assert items(made, "control_addresses6") == {
        "2001:db8::2 . 2377 : goto fleet_api",
        "2001:db8::2 . 9323 : goto control_plane",
    }
    assert items(made, "own_control_ports") == set()


def test_what_listens_on_every_address_of_this_host_is_closed_by_its_port() -> None:
    made = table(ControlHost(addresses=("203.0.113.9", OWN), endpoints=(API,)))
    assert items(made, "own_control_ports") == {"2377 : goto fleet_api"}
    assert items(made, "own_control_addresses") == set()


def test_what_listens_on_one_address_of_this_host_is_closed_there_alone() -> None:
    made = table(ControlHost(addresses=(OWN,), endpoints=(METRICS,)))
    assert items(made, "own_control_addresses") == {f"{OWN} . 9323 : goto control_plane"}
    assert items(made, "own_control_ports") == set()


def test_a_port_that_is_not_only_the_api_stays_closed_to_callers() -> None:
    hosts = [
        ControlHost(addresses=(OTHER,), endpoints=(ControlEndpoint(port=2377, api=api),))
        for api in (True, False)
    ]
    for given in (hosts, hosts[::-1]):
        assert items(table(*given), "control_addresses") == {f"{OTHER} . 2377 : goto control_plane"}


def test_a_caller_is_known_by_its_bridge_and_its_addresses() -> None:
    held = (TaskAddress(NET, "10.1.0.5"), TaskAddress(NetworkId("gone"), "10.2.0.5"))
    made = table(callers=(ApiCaller(task_id=TaskId("t"), addresses=held),))
    bridge = NAMES.bridge(NET)
    assert items(made, "fleet_api_callers") == {f'"{bridge}" . 10.1.0.5'}
    assert items(made, "fleet_api_callers6") == {f'"{bridge}" . fd01::5'}


def test_rules_match_packets_of_the_fleets_devices_before_any_accept_of_them() -> None:
    made = table()
    rules = made.chains["forward"].rules
    jump = 'iifname "abc-*" ct state != established meta l4proto tcp jump to_control_plane'
    assert rules.index(jump) < next(n for n, r in enumerate(rules) if "@forwarded_to" in r)
    here = made.chains["to_this_host"]
    assert here.hook == "type nat hook input priority 0;"
    assert here.rules == ('iifname "abc-*" meta l4proto tcp jump to_own_control_plane',)


def test_a_refusal_is_counted_and_sent() -> None:
    made = table()
    assert {CLOSED, METADATA} <= set(made.counters)
    for label in (CLOSED, METADATA):
        assert made.chains[label].rules == (f"counter name {label} goto refused",)


def test_metadata_addresses_are_closed_on_the_networks_that_ask_for_it() -> None:
    chain = f"from_{NAMES.bridge(NET)}"
    closed = {"ip daddr 169.254.169.254 goto metadata", "ip6 daddr fd00:ec2::254 goto metadata"}
    assert not closed & set(table().chains[chain].rules)
    made = table(overlay=msgspec.structs.replace(DUAL, block_metadata=True))
    assert closed <= set(made.chains[chain].rules)
    assert not closed & set(made.chains[f"from_{NAMES.bridge('bridge')}"].rules)


def test_a_changed_address_costs_its_element() -> None:
    one, two = (
        table(ControlHost(addresses=(address,), endpoints=(METRICS,))) for address in (OTHER, OWN)
    )
    text = change("t", one, two)
    place = "inet t control_addresses"
    assert f"delete element {place} {{ {OTHER} . 9323 : goto control_plane }}" in text
    assert f"add element {place} {{ {OWN} . 9323 : goto control_plane }}" in text
    assert "add rule" not in text


def test_what_closes_the_control_plane_is_never_omitted() -> None:
    host = ControlHost(addresses=(OTHER, "2001:db8::2", OWN), endpoints=(API, METRICS))
    caller = ApiCaller(task_id=TaskId("t"), addresses=(TaskAddress(NET, "10.1.0.5"),))
    optional = {unit.label for unit in optional_units(table(host, callers=(caller,)))}
    ours = ("control", "own_control", "to_own", "to_control", "to_this", "fleet_api", METADATA)
    assert not {label for label in optional if label.startswith(ours)}


async def test_a_refused_control_plane_fails_instead_of_being_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """nft refuses every table that closes the port."""

    async def refusal(text: str) -> str:
        return "nft: no" if f"{OTHER} . 9323" in text else ""

    async def apply(text: str) -> None:
        if reason := await refusal(text):
            raise NetworkFailed(reason)

    async def generation() -> int:
        return 1

    monkeypatch.setattr(nft, "apply", apply)
    monkeypatch.setattr(nft, "refusal", refusal)
    made = table(ControlHost(addresses=(OTHER,), endpoints=(METRICS,)))
    assert f"{OTHER} . 9323" in whole("t", made)
    kept = Keeper("t", generation, optional=optional_units)
    with pytest.raises(NetworkFailed, match="nft: no"):
        await kept.sync(made)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.0.0.0:2377", ControlHost(("192.0.2.1",), (ControlEndpoint(2377, anywhere=True),))),
        ("[::]:2377", ControlHost(("192.0.2.1",), (ControlEndpoint(2377, anywhere=True),))),
        (":2377", ControlHost(("192.0.2.1",), (ControlEndpoint(2377, anywhere=True),))),
        ("192.0.2.7:9323", ControlHost(("192.0.2.7",), (ControlEndpoint(9323),))),
        ("[2001:DB8::7]:9323", ControlHost(("2001:db8::7",), (ControlEndpoint(9323),))),
        ("[::ffff:192.0.2.7]:1", ControlHost(("192.0.2.7",), (ControlEndpoint(1),))),
        ("127.0.0.1:9323", None),
        ("localhost:9323", None),
        ("[::1]:9323", None),
        ("[fe80::1]:9323", None),
        ("unix:///run/x", None),
        ("192.0.2.7:0", None),
        ("192.0.2.7:65536", None),
        ("", None),
    ],
)
def test_what_listens_where(text: str, expected: ControlHost | None) -> None:
    assert listening_on(text, ["192.0.2.1"]) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://10.0.0.1:5000", ("10.0.0.1", 5000)),
        ("https://etcd.example:2379/", ("etcd.example", 2379)),
        ("[fd00::1]:2379", ("fd00::1", 2379)),
        ("unix:///run/x", None),
        ("10.0.0.1", None),
    ],
)
def test_hosts_and_ports_of_addresses(text: str, expected: tuple[str, int] | None) -> None:
    assert split_address(text) == expected


def test_what_nft_would_refuse_is_left_out() -> None:
    given = ControlHost(
        addresses=("192.0.2.1", "192.0.2.1", "no } address", "FD00::1", "127.0.0.1"),
        endpoints=(METRICS, ControlEndpoint(port=0), ControlEndpoint(port=70_000)),
    )
    empty = ControlHost(addresses=("x",), endpoints=(METRICS,))
    assert checked_hosts([given, empty, given]) == (
        ControlHost(addresses=("192.0.2.1", "fd00::1"), endpoints=(METRICS,)),
    )
