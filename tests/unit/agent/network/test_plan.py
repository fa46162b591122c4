"""The kernel state that a host needs for its networks, and the changes from any other state to
it.
"""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.network.base import DesiredOverlay, Peer, Underlay, host_bridge
from agent.network.names import Names, gateway_mac, link_local, next_hop6, vtep_mac
from agent.network.overlay.plan import KernelChanges, desired_state, difference, drifts
from agent.network.state import DeviceAddress, Fdb, KernelState, Neighbour, Route, Rule, Setting
from pyswarm_core.ids import NetworkId

NAMES = Names("abc")
UNDERLAY = Underlay(address="192.168.0.1")
APP = NetworkId("app")
BRIDGE, VXLAN = NAMES.bridge(APP), NAMES.vxlan(APP)


def peer(number: int, *blocks: str) -> Peer:
    return Peer(node_number=number, address=f"192.168.0.{number}", blocks=blocks)


def network(*peers: Peer, mtu: int = 0, vni: int = 4096) -> DesiredOverlay:
    return DesiredOverlay(
        network_id=APP, name="app", subnet="10.128.0.0/16", vni=vni, node_number=1, mtu=mtu,
        local_blocks=("10.128.0.0/26",), peers=peers,
    )  # fmt: skip


def state(*overlays: DesiredOverlay, ports: dict[str, str] | None = None) -> KernelState:
    return desired_state(overlays, NAMES, UNDERLAY, 1500, ports or {})


def test_a_peer_costs_a_route_per_block_and_one_neighbour_and_fdb_entry() -> None:
    alone = state(network())
    joined = state(network(peer(2, "10.128.1.0/26", "10.128.2.0/26")))
    mac = vtep_mac(2)
    assert joined.routes - alone.routes == {
        Route(dst=f"10.128.{n}.0/26", device=VXLAN, via="240.0.0.2", source="10.128.0.1",
              onlink=True)
        for n in (1, 2)
    }  # fmt: skip
    assert joined.neighbours == {Neighbour(VXLAN, "240.0.0.2", mac)}
    assert joined.fdb == {Fdb(VXLAN, mac, "192.168.0.2")}
    assert joined.links == alone.links


def test_where_the_meshs_tasks_run_every_peer_gets_a_return_path() -> None:
    overlay = msgspec.structs.replace(network(peer(2), peer(3, "10.128.3.0/26")), ingress=True)
    made = state(overlay)
    first = NAMES.rule_priority
    assert made.rules == {
        Rule(priority=first, mask=0xF0000000, goto=first + 2),
        Rule(priority=first + 1, iif=BRIDGE, mark=0x90000200, mask=0xFFFFFF00,
             table=NAMES.table_towards(2)),
        Rule(priority=first + 1, iif=BRIDGE, mark=0x90000300, mask=0xFFFFFF00,
             table=NAMES.table_towards(3)),
        Rule(priority=first + 2),
    }  # fmt: skip
    assert {route for route in made.routes if route.table} == {
        Route(dst="0.0.0.0/0", device=VXLAN, via=f"240.0.0.{n}", onlink=True,
              table=NAMES.table_towards(n))
        for n in (2, 3)
    }  # fmt: skip


def test_a_host_without_tasks_of_the_mesh_reaches_all_and_needs_no_return_path() -> None:
    overlay = network(peer(2), peer(3, "10.128.3.0/26"))
    made = state(msgspec.structs.replace(overlay, ingress=True, local_blocks=()))
    assert not made.rules
    assert not [route for route in made.routes if route.table]
    assert {entry.address for entry in made.neighbours} == {"240.0.0.2", "240.0.0.3"}


def test_localhost_may_leave_only_by_devices_that_published_ports_forward_to() -> None:
    def settings(overlay: DesiredOverlay, *published: NetworkId) -> set[str]:
        desired = desired_state([overlay], NAMES, UNDERLAY, 1500, {}, published=published)
        return {s.path.split("/")[2] for s in desired.settings if s.path.endswith("route_localnet")}

    assert settings(network()) == set()
    assert settings(network(), APP) == {BRIDGE, VXLAN}
    assert settings(msgspec.structs.replace(network(), ingress=True)) == {BRIDGE, VXLAN}


DUAL = {"subnet6": "fd00:128::/64"}


def test_a_dual_stack_network_has_all_twice_but_for_the_fdb() -> None:
    plain = network(peer(2, "10.128.1.0/26"))
    four, both = state(plain), state(msgspec.structs.replace(plain, **DUAL))
    far = next_hop6(2)
    assert both.routes - four.routes == {
        Route(dst="fd00:128::/122", device=BRIDGE, source="fd00:128::1"),
        Route(dst="fd00:128::/64", metric=NAMES.last_resort_metric),
        Route(dst="fd00:128::100/122", device=VXLAN, via=far, source="fd00:128::1", onlink=True),
    }
    assert both.neighbours - four.neighbours == {Neighbour(VXLAN, far, vtep_mac(2))}
    assert both.addresses - four.addresses == {
        DeviceAddress(BRIDGE, "fd00:128::1/122"),
        DeviceAddress(BRIDGE, f"{link_local(gateway_mac(APP))}/64"),
        DeviceAddress(VXLAN, f"{next_hop6(1)}/64"),
    }
    assert (both.links, both.fdb) == (four.links, four.fdb)
    assert {
        Setting(f"ipv6/conf/{d}/disable_ipv6", "0", d) for d in (BRIDGE, VXLAN)
    } <= both.settings
    assert Setting("ipv6/conf/all/forwarding", "1") in both.settings


def test_without_ipv6_nothing_is_said_of_it_but_that_it_is_off() -> None:
    overlay = network(peer(2, "10.128.1.0/26"))
    made = state(overlay, msgspec.structs.replace(overlay, network_id=NetworkId("m"), ingress=True))
    assert ":" not in "".join(entry.cidr for entry in made.addresses)
    assert ":" not in "".join(route.dst for route in made.routes)
    assert not [rule for rule in made.rules if rule.six]
    settings = {
        setting.path.rpartition("/")[2] for setting in made.settings if "ipv6" in setting.path
    }
    assert settings == {"disable_ipv6"}


@pytest.mark.parametrize(("mtu", "said"), [(1280, True), (1279, False)])
def test_of_a_device_too_small_for_ipv6_nothing_is_said_of_it(mtu: int, said: bool) -> None:
    settings = state(network(peer(2), mtu=mtu)).settings
    assert any("ipv6" in setting.path for setting in settings) is said


def test_a_dual_stack_mesh_has_a_return_path_of_each_version() -> None:
    overlay = msgspec.structs.replace(network(peer(2)), ingress=True, **DUAL)
    made = state(overlay)
    four = {msgspec.structs.replace(rule, six=False) for rule in made.rules if rule.six}
    assert four == {rule for rule in made.rules if not rule.six}
    assert {(route.dst, route.via) for route in made.routes if route.table} == {
        ("0.0.0.0/0", "240.0.0.2"), ("::/0", next_hop6(2)),
    }  # fmt: skip
    lost = next(rule for rule in made.rules if rule.iif and rule.six)
    changes = difference(made, msgspec.structs.replace(made, rules=made.rules - {lost}))
    assert changes == KernelChanges(add_rules=(lost,))
    assert drifts(changes)[0].detail.startswith("-6 ")


def test_a_device_of_a_mac_has_the_address_that_the_kernel_would_give_it() -> None:
    assert link_local("02:70:00:00:00:01") == "fe80::70:ff:fe00:1"
    assert link_local("02:71:ab:cd:ef:01") == "fe80::71:abff:fecd:ef01"


def test_a_lost_rule_is_drift_and_made_again() -> None:
    desired = state(msgspec.structs.replace(network(peer(2)), ingress=True))
    lost = next(rule for rule in desired.rules if rule.iif)
    found = msgspec.structs.replace(desired, rules=desired.rules - {lost})
    changes = difference(desired, found)
    assert changes == KernelChanges(add_rules=(lost,))
    assert [drift.kind for drift in drifts(changes)] == ["rule"]
    assert difference(found, desired) == KernelChanges(drop_rules=(lost,))


def test_two_fleets_keep_their_tables_and_rules_apart() -> None:
    one, other = Names("abc"), Names("abd")
    assert one.table_towards(2) != other.table_towards(2)
    assert abs(one.rule_priority - other.rule_priority) > 2
    assert 0 < one.rule_priority < 32766


def test_the_bridge_has_the_first_address_of_each_block() -> None:
    assert state(network()).addresses == {DeviceAddress(BRIDGE, "10.128.0.1/26")}


def test_what_is_in_no_block_is_unreachable() -> None:
    assert Route(dst="10.128.0.0/16", metric=NAMES.last_resort_metric) in state(network()).routes


@pytest.mark.parametrize(
    ("mtu", "vni", "expected"), [(0, 4096, 1450), (0, 0, 1500), (1200, 1, 1200)]
)
def test_the_mtu_is_the_underlays_less_the_tunnels_cost(mtu: int, vni: int, expected: int) -> None:
    assert {link.mtu for link in state(network(mtu=mtu, vni=vni)).links.values()} == {expected}


@pytest.mark.parametrize(("path", "mtu"), [(1500, 0), (1450, 1400), (0, 0), (9000, 0)])
def test_routes_to_a_host_that_gets_no_full_packets_say_so(path: int, mtu: int) -> None:
    overlay = msgspec.structs.replace(network(peer(2, "10.128.1.0/26")), subnet6="fd00:128::/64")
    paths = {"192.168.0.2": path}
    made = desired_state([overlay], NAMES, UNDERLAY, 1500, {}, paths=paths)
    assert {route.mtu for route in made.routes if route.via} == {mtu}
    assert {link.mtu for link in made.links.values()} == {1450}


def test_a_narrow_way_counts_where_the_users_own_mtu_is_larger() -> None:
    def mtus(mtu: int) -> set[int]:
        overlays = [network(peer(2, "10.128.1.0/26"), mtu=mtu)]
        made = desired_state(overlays, NAMES, UNDERLAY, 1500, {}, paths={"192.168.0.2": 1400})
        return {route.mtu for route in made.routes if route.via}

    assert (mtus(1350), mtus(1351)) == ({0}, {1350})


def test_the_host_bridge_is_a_bridge_and_nothing_else() -> None:
    alone = state(host_bridge("172.30.0.0/16"))
    assert [link.kind for link in alone.links.values()] == ["bridge"]
    assert [route.dst for route in alone.routes] == ["172.30.0.0/16"]
    assert not alone.neighbours | alone.fdb


def test_nothing_found_means_all_is_made() -> None:
    desired = state(network(peer(2, "10.128.1.0/26")))
    changes = difference(desired, KernelState())
    assert {link.name for link in changes.make_links} == {BRIDGE, VXLAN}
    assert len(changes.add_routes) == 3
    assert Setting("ipv4/ip_forward", "1") in changes.settings


def test_without_networks_the_devices_are_removed_with_all_entries() -> None:
    changes = difference(KernelState(), state(network(peer(2, "10.128.1.0/26"))))
    last_resort = Route(dst="10.128.0.0/16", metric=NAMES.last_resort_metric)
    expected = KernelChanges(drop_links=tuple(sorted((BRIDGE, VXLAN))), drop_routes=(last_resort,))
    assert changes == expected


def test_a_changed_entry_is_replaced_and_not_removed_afterwards() -> None:
    found = state(network(peer(2, "10.128.1.0/26")))
    desired = state(network(peer(3, "10.128.1.0/26")))
    changes = difference(desired, found)
    assert [route.via for route in changes.add_routes] == ["240.0.0.3"]
    assert changes.drop_routes == ()
    assert changes.add_neighbours == (Neighbour(VXLAN, "240.0.0.3", vtep_mac(3)),)
    assert changes.drop_neighbours == (Neighbour(VXLAN, "240.0.0.2", vtep_mac(2)),)
    assert changes.drop_fdb == (Fdb(VXLAN, vtep_mac(2), "192.168.0.2"),)


def test_a_tunnel_of_another_vni_is_made_anew_with_all_that_lies_on_it() -> None:
    found = state(network(peer(2, "10.128.1.0/26"), vni=5000))
    changes = difference(state(network(peer(2, "10.128.1.0/26"))), found)
    assert changes.drop_links == (VXLAN,)
    assert [link.vni for link in changes.make_links] == [4096]
    assert [route.device for route in changes.add_routes] == [VXLAN]
    assert {setting.device for setting in changes.settings} == {VXLAN}


def test_an_mtu_is_changed_without_touching_the_mac() -> None:
    changes = difference(state(network(mtu=1300)), state(network()))
    assert [(link.mtu, link.mac) for link in changes.set_links] == [(1300, ""), (1300, "")]


def test_ports_off_their_bridge_are_plugged_and_missing_ones_reported() -> None:
    desired = state(network(), ports={"abc-t1": BRIDGE, "abc-t2": BRIDGE, "abc-t3": BRIDGE})
    ports = {"abc-t1": "", "abc-t2": BRIDGE, "abc-t9": ""}
    changes = difference(desired, msgspec.structs.replace(desired, ports=ports))
    assert (changes.set_ports, changes.lost_ports) == (("abc-t1",), ("abc-t3",))


def test_drift_is_described_in_words() -> None:
    desired = state(network(peer(2, "10.128.1.0/26")))
    found = msgspec.structs.replace(desired, fdb=frozenset())
    told = [(drift.kind, drift.detail) for drift in drifts(difference(desired, found))]
    assert told == [("fdb", f"{vtep_mac(2)} dst 192.168.0.2 dev {VXLAN}")]


PEERS = st.lists(st.integers(min_value=2, max_value=9), unique=True, max_size=5).map(
    lambda numbers: [peer(n, f"10.128.{n}.0/26", f"10.128.{n}.64/26") for n in numbers]
)


@given(PEERS, PEERS)
def test_prop_a_difference_names_exactly_what_differs(
    before: list[Peer], after: list[Peer]
) -> None:
    found, desired = state(network(*before)), state(network(*after))
    changes = difference(desired, found)
    assert found.routes - set(changes.drop_routes) | set(changes.add_routes) == desired.routes
    assert found.fdb - set(changes.drop_fdb) | set(changes.add_fdb) == desired.fdb
    assert difference(desired, desired) == KernelChanges()


def test_device_names_fit_and_differ_by_fleet_network_and_kind() -> None:
    names = [
        name
        for fleet in ("a", "abcde")
        for network_id in ("n1", "n2")
        for name in (
            Names(fleet).bridge(network_id),
            Names(fleet).vxlan(network_id),
            Names(fleet).veth("task", network_id),
        )
    ]
    assert len(set(names)) == 12
    assert all(len(name) <= 15 for name in names)


@pytest.mark.parametrize("fleet", ["", "toolong", "UP", "a-b", "é"])
def test_a_fleets_short_name_is_checked(fleet: str) -> None:
    with pytest.raises(ValueError, match="one to five"):
        Names(fleet)
