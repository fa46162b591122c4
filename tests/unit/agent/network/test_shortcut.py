"""What goes the short way between two hosts, and what is left to routing."""

from collections.abc import Mapping

import msgspec

from agent.network.base import OverlayWanted, Peer
from agent.network.filter.shortcut import shortcuts
from agent.network.filter.table import Table, change
from agent.network.names import Names
from agent.network.plan import NO_PATHS
from pyswarm_core.ids import NetworkId

NAMES = Names("abc")
APP = NetworkId("app")
BRIDGE, VXLAN = f"from_{NAMES.bridge(APP)}", f"from_{NAMES.vxlan(APP)}"
NETWORK = OverlayWanted(
    network_id=APP, name="app", vni=4096, subnet="10.1.0.0/16", local_blocks=("10.1.0.0/26",),
    peers=(
        Peer(node_number=2, address="192.168.0.2", blocks=("10.1.0.64/26",)),
        Peer(node_number=3, address="192.168.0.3", blocks=("10.1.0.128/30", "10.1.0.192/26")),
    ),
)  # fmt: skip


def made(*overlays: OverlayWanted, paths: Mapping[str, int] = NO_PATHS) -> Table:
    table = shortcuts(overlays, NAMES, 1500, paths)
    assert table is not None
    return table


def of(chain: str, **changes: object) -> tuple[str, ...]:
    return made(msgspec.structs.replace(NETWORK, **changes)).chains[chain].rules


def test_only_tasks_own_addresses_go_out_and_only_to_other_hosts_tasks() -> None:
    assert of(BRIDGE)[1:] == (
        "ip saddr { 10.1.0.2-10.1.0.62 } ip ttl > 1 fwd ip to ip daddr map"
        " { 10.1.0.130 : 240.0.0.3, 10.1.0.194-10.1.0.254 : 240.0.0.3,"
        f' 10.1.0.66-10.1.0.126 : 240.0.0.2 }} device "{NAMES.vxlan(APP)}"',
    )


def test_only_from_the_network_to_this_hosts_tasks_comes_in() -> None:
    assert of(VXLAN)[1:] == (
        "ip saddr 10.1.0.0/16 ip daddr { 10.1.0.2-10.1.0.62 } ip ttl > 1"
        f' fwd ip to ip daddr device "{NAMES.bridge(APP)}"',
    )


def test_what_is_too_big_is_left_to_routing_which_can_say_so() -> None:
    for chain in (BRIDGE, VXLAN):
        assert of(chain)[0] == "meta l4proto != tcp meta length > 1450 accept"
        assert of(chain, mtu=1300)[0] == "meta l4proto != tcp meta length > 1300 accept"


def test_a_peer_that_full_packets_do_not_reach_is_routed() -> None:
    _, rule = made(NETWORK, paths={"192.168.0.2": 1400}).chains[BRIDGE].rules
    assert "240.0.0.2" not in rule
    assert "240.0.0.3" in rule


def test_ipv6_goes_the_same_way() -> None:
    *_, out = of(BRIDGE, subnet6="fd01::/112")
    *_, into = of(VXLAN, subnet6="fd01::/112")
    assert "ip6 saddr { fd01::2-fd01::3e } ip6 hoplimit > 1 fwd ip6 to ip6 daddr map" in out
    assert "fd01::42-fd01::7e : fe80::70:ff:fe00:2" in out
    assert into.startswith("ip6 saddr fd01::/112 ip6 daddr { fd01::2-fd01::3e }")


def test_networks_that_translate_or_seal_have_no_short_way() -> None:
    alone = {"vni": 0}, {"peers": ()}, {"local_blocks": ()}
    for changes in ({"ingress": True}, {"encrypted": True}, *alone):
        changed = msgspec.structs.replace(NETWORK, **changes)
        assert shortcuts((changed,), NAMES, 1500, NO_PATHS) is None


def test_a_peer_that_comes_changes_a_rule_and_a_network_adds_chains() -> None:
    fewer = made(msgspec.structs.replace(NETWORK, peers=NETWORK.peers[:1]))
    both = made(NETWORK)
    other = msgspec.structs.replace(NETWORK, network_id=NetworkId("other"), subnet="10.2.0.0/16")
    more = made(NETWORK, other)
    text = change("t", fewer, both)
    assert text.startswith(f"flush chain netdev t {BRIDGE}\n")
    assert VXLAN not in text
    text = change("t", both, more)
    assert text.startswith(f"add chain netdev t from_{NAMES.bridge('other')} {{ type filter")
    assert BRIDGE not in text
    assert change("t", both, both) == ""
