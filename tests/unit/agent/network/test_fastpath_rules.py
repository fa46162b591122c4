"""The packets that take the fast path between two hosts, and those that are routed."""

from collections.abc import Iterable, Mapping

import msgspec

from agent.network.base import Attachment, DesiredOverlay, Peer
from agent.network.fastpath.base import Routed
from agent.network.fastpath.rules import fast_path_table, users
from agent.network.filter.table import Table, change, whole
from agent.network.names import Names
from agent.network.overlay.plan import NO_PATHS
from agent.network.overlay.plug import Plug, plugs
from pyswarm_core.ids import NetworkId, TaskId

NAMES = Names("abc")
APP = NetworkId("app")
BRIDGE, VXLAN = NAMES.bridge(APP), NAMES.vxlan(APP)
HOPS = f"hops_{BRIDGE}"
NETWORK = DesiredOverlay(
    network_id=APP, name="app", vni=4096, subnet="10.1.0.0/16", local_blocks=("10.1.0.0/26",),
    peers=(
        Peer(node_number=2, address="192.168.0.2", blocks=("10.1.0.64/26",)),
        Peer(node_number=3, address="192.168.0.3", blocks=("10.1.0.128/30", "10.1.0.192/26")),
    ),
)  # fmt: skip


def made(
    *overlays: DesiredOverlay, paths: Mapping[str, int] = NO_PATHS, tasks: Iterable[Plug] = ()
) -> Table:
    table = fast_path_table(Routed(overlays, 1500, paths, 0), NAMES, tasks)
    assert table is not None
    return table


def of(device: str, **changes: object) -> tuple[str, ...]:
    return made(msgspec.structs.replace(NETWORK, **changes)).chains[f"from_{device}"].rules


def task(number: int, **changes: object) -> Plug:
    overlays = {APP: msgspec.structs.replace(NETWORK, **changes)}
    place = Attachment(network_id=APP, address=f"10.1.0.{number}")
    (plug,) = plugs(TaskId(f"t{number}"), [place], overlays, NAMES, 1500)
    return plug


def test_only_tasks_own_addresses_go_out_and_only_to_other_hosts_tasks() -> None:
    assert of(BRIDGE) == (
        "ip saddr { 10.1.0.2-10.1.0.62 } ip ttl > 1"
        f' fwd ip to ip daddr map @{HOPS} device "{VXLAN}"',
    )
    assert made(NETWORK).elements[HOPS].items == {
        "10.1.0.66-10.1.0.126 : 240.0.0.2",
        "10.1.0.130 : 240.0.0.3",
        "10.1.0.194-10.1.0.254 : 240.0.0.3",
    }


def test_only_what_is_for_this_hosts_tasks_comes_in() -> None:
    assert of(VXLAN) == (
        f'ip daddr {{ 10.1.0.2-10.1.0.62 }} ip ttl > 1 fwd ip to ip daddr device "{BRIDGE}"',
    )


def test_a_task_of_its_own_port_sends_by_its_own_address_alone_and_is_handed_its_packets() -> None:
    one = task(2)
    table = made(NETWORK, tasks=[one])
    (out,) = table.chains[f"from_{one.port.name}"].rules
    assert out == f'ip saddr 10.1.0.2 ip ttl > 1 fwd ip to ip daddr map @{HOPS} device "{VXLAN}"'
    handed, rest = table.chains[f"from_{VXLAN}"].rules
    assert handed == (
        "ip ttl > 1 fwd ip to ip daddr device ip daddr map"
        f' {{ 10.1.0.2 : "{one.port.name}" }}'
    )  # fmt: skip
    assert (rest,) == of(VXLAN)


def test_a_task_of_another_network_is_not_among_them() -> None:
    other = msgspec.structs.replace(
        NETWORK, network_id=NetworkId("other"), subnet="10.2.0.0/16", local_blocks=("10.2.0.0/26",)
    )
    table = made(NETWORK, other, tasks=[task(2)])
    into_other = table.chains[f"from_{NAMES.vxlan('other')}"].rules
    assert not any("10.1." in rule for rule in into_other)


def test_a_peer_that_full_packets_do_not_reach_is_routed() -> None:
    items = made(NETWORK, paths={"192.168.0.2": 1400}).elements[HOPS].items
    assert {item.partition(" : ")[2] for item in items} == {"240.0.0.3"}


def test_ipv6_goes_the_same_way() -> None:
    one = task(2, subnet6="fd01::/112")
    table = made(msgspec.structs.replace(NETWORK, subnet6="fd01::/112"), tasks=[one])
    *_, out = table.chains[f"from_{one.port.name}"].rules
    assert out.startswith(
        f"ip6 saddr fd01::2 ip6 hoplimit > 1 fwd ip6 to ip6 daddr map @hops6_{BRIDGE}"
    )
    assert "fd01::42-fd01::7e : fe80::70:ff:fe00:2" in table.elements[f"hops6_{BRIDGE}"].items
    *_, handed, _ = table.chains[f"from_{VXLAN}"].rules
    assert handed.endswith(f'ip6 daddr map {{ fd01::2 : "{one.port.name}" }}')


def test_networks_that_translate_or_encrypt_have_no_fast_path() -> None:
    alone = {"vni": 0}, {"peers": ()}, {"local_blocks": ()}
    for changes in ({"ingress": True}, {"encrypted": True}, *alone):
        changed = msgspec.structs.replace(NETWORK, **changes)
        assert fast_path_table(Routed((changed,), 1500, NO_PATHS, 0), NAMES, ()) is None


def test_users_are_networks_and_interfaces_of_tasks() -> None:
    other = msgspec.structs.replace(
        NETWORK, network_id=NetworkId("other"), subnet="10.2.0.0/16", local_blocks=("10.2.0.0/26",)
    )
    assert users(None, NAMES) == (0, 0)
    assert users(made(NETWORK, other), NAMES) == (2, 0)
    assert users(made(NETWORK, other, tasks=[task(2), task(3)]), NAMES) == (2, 2)


def test_a_task_without_the_fast_path_needs_no_neighbour_on_its_host() -> None:
    place = Attachment(network_id=APP, address="10.1.0.2")
    (plug,) = plugs(TaskId("t"), [place], {APP: NETWORK}, NAMES, 1500, fast_path=False)
    assert plug == msgspec.structs.replace(task(2), port=plug.port, neighbours=())


def test_a_peer_that_comes_changes_a_map_alone() -> None:
    fewer = made(msgspec.structs.replace(NETWORK, peers=NETWORK.peers[:1]), tasks=[task(2)])
    both = made(NETWORK, tasks=[task(2)])
    (line,) = change("t", fewer, both).splitlines()
    assert line == (
        f"add element netdev t {HOPS}"
        " { 10.1.0.130 : 240.0.0.3, 10.1.0.194-10.1.0.254 : 240.0.0.3 }"
    )
    assert change("t", both, both) == ""


def test_a_task_that_comes_adds_its_chain_and_one_that_goes_takes_it() -> None:
    one, two = task(2), task(3)
    first, both = made(NETWORK, tasks=[one]), made(NETWORK, tasks=[one, two])
    coming, going = change("t", first, both), change("t", both, first)
    hook = f'type filter hook ingress device "{two.port.name}" priority 0; policy accept;'
    assert coming.startswith(f"add chain netdev t from_{two.port.name} {{ {hook} }}\n")
    # The chain may be gone with its device, so it is added before it is deleted.
    assert going.endswith(
        f"add chain netdev t from_{two.port.name}\nflush chain netdev t from_{two.port.name}\n"
        f"delete chain netdev t from_{two.port.name}\n"
    )
    for text in (coming, going):
        assert one.port.name not in text.replace(f'10.1.0.2 : "{one.port.name}"', "")


def test_a_network_comes_with_its_map_and_goes_with_it() -> None:
    other = msgspec.structs.replace(NETWORK, network_id=NetworkId("other"), subnet="10.2.0.0/16")
    one, two = made(NETWORK), made(NETWORK, other)
    hops = f"hops_{NAMES.bridge('other')}"
    declared = f"add map netdev t {hops} {{ type ipv4_addr : ipv4_addr; flags interval; }}\n"
    assert declared in change("t", one, two)
    assert change("t", two, one).endswith(f"delete map netdev t {hops}\n")


def test_a_chain_that_moves_makes_a_new_table() -> None:
    table = made(NETWORK)
    chains = {
        label: msgspec.structs.replace(chain, hook="type filter hook ingress device x priority 0;")
        for label, chain in table.chains.items()
    }
    moved = msgspec.structs.replace(table, chains=chains)
    assert change("t", table, moved) == whole("t", moved)
