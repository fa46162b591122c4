"""The host's table: its content, that it matches the fleet's own devices only, and its changes."""

import re

import msgspec
import pytest

from agent.network import nft
from agent.network.base import (
    Backend,
    DesiredEndpoint,
    DesiredOverlay,
    NetworkFailed,
    Peer,
    Published,
    Underlay,
    host_bridge,
)
from agent.network.filter.host import PLAINTEXT, host_table, optional_units, part_of
from agent.network.filter.keeper import Keeper
from agent.network.filter.table import (
    Chain,
    Elements,
    Table,
    Unit,
    change,
    removal,
    units,
    whole,
    without,
)
from agent.network.names import Names, return_mark, vtep_mac
from pyswarm_core.identity.certificates import EncryptionKey
from pyswarm_core.ids import NetworkId, ServiceId, TaskId
from pyswarm_core.specs import PortConfig, Protocol, PublishMode

NAMES = Names("abc")
UNDERLAY = Underlay(address="192.168.0.1")
OPEN, CLOSED, MESH = NetworkId("open"), NetworkId("closed"), NetworkId("mesh")
WEB = PortConfig(target_port=80, published_port=8080)


def network(network_id: NetworkId, subnet: str, **changes: object) -> DesiredOverlay:
    plain = DesiredOverlay(
        network_id=network_id, name=network_id, subnet=subnet, vni=4096, local_blocks=()
    )
    return msgspec.structs.replace(plain, **changes)


def mesh(**changes: object) -> DesiredOverlay:
    peers = (
        Peer(node_number=2, address="192.168.0.2", blocks=("10.9.1.0/26",)),
        Peer(node_number=3, address="192.168.0.3", blocks=()),
    )
    base = network(MESH, "10.9.0.0/16", ingress=True, peers=peers, local_blocks=("10.9.0.0/26",))
    return msgspec.structs.replace(base, **changes)


def web(*addresses: str, ports: tuple[PortConfig, ...] = (WEB,)) -> DesiredEndpoint:
    backends = tuple(Backend(TaskId(f"t{n}"), n, a) for n, a in enumerate(addresses, 1))
    return DesiredEndpoint(
        service_id=ServiceId("web"), service_name="web", network_id=MESH, backends=backends,
        ports=ports,
    )  # fmt: skip


def led(*ports: PortConfig) -> Published:
    return Published(task_id=TaskId("t"), network_id=OPEN, address="10.1.0.2", ports=ports)


def table(
    *overlays: DesiredOverlay,
    endpoints: tuple[DesiredEndpoint, ...] = (),
    published: tuple[Published, ...] = (),
) -> Table:
    made = host_table(overlays, endpoints, published, NAMES, UNDERLAY)
    assert made is not None
    return made


def test_tasks_send_no_frames_of_vxlan_to_hosts() -> None:
    made = table(network(OPEN, "10.1.0.0/16", local_blocks=("10.1.0.0/26",)))
    rules = made.chains[f"from_{NAMES.bridge(OPEN)}"].rules
    assert "udp dport 4789 ip daddr != 10.1.0.0/16 drop" in rules
    for device in (NAMES.bridge(OPEN), NAMES.vxlan(OPEN)):
        here = made.chains[f"from_{device}"].rules
        assert "udp dport 4789 ip daddr { 10.1.0.1 } drop" in here


def test_only_what_goes_between_tasks_of_one_network_is_untracked() -> None:
    rules = table(network(OPEN, "10.1.0.0/16", local_blocks=("10.1.0.0/26",))).chains
    direct = "ip saddr 10.1.0.0/16 ip daddr 10.1.0.0/16 ip daddr != { 10.1.0.1 } notrack"
    assert direct in rules[f"from_{NAMES.bridge(OPEN)}"].rules
    assert direct in rules[f"from_{NAMES.vxlan(OPEN)}"].rules
    meshed = table(mesh()).chains
    for device in (NAMES.bridge(MESH), NAMES.vxlan(MESH)):
        assert not any("notrack" in rule for rule in meshed[f"from_{device}"].rules)


def test_no_network_needs_no_table() -> None:
    assert host_table((), (), (), NAMES, UNDERLAY) is None


def test_internal_networks_get_no_egress_and_are_dropped_on_the_way_out() -> None:
    made = table(network(OPEN, "10.1.0.0/16"), network(CLOSED, "10.2.0.0/16", internal=True))
    assert made.elements["egress"].items == {"10.1.0.0/16"}
    assert made.elements["internal"].items == {f'"{NAMES.bridge(CLOSED)}"'}


def test_only_devices_of_one_network_are_paired() -> None:
    made = table(network(OPEN, "10.1.0.0/16"), host_bridge("172.30.0.0/16"))
    bridge, vxlan, own = NAMES.bridge(OPEN), NAMES.vxlan(OPEN), NAMES.bridge("bridge")
    assert made.elements["same_network"].items == {
        f'"{bridge}" . "{bridge}"', f'"{bridge}" . "{vxlan}"', f'"{vxlan}" . "{bridge}"',
        f'"{own}" . "{own}"',
    }  # fmt: skip


def test_every_rule_that_ends_a_packets_way_or_changes_it_names_our_own() -> None:
    chains = table(mesh(), endpoints=(web("10.9.0.2"),)).chains
    based = [rule for chain in chains.values() if chain.hook for rule in chain.rules]
    ours = (
        '"abc-',
        "@internal",
        "@encrypted_tunnels",
        "@mesh_",
        "@forwarded_to",
        "@same_network",
        "@sources",
        "@senders",
        "udp dport 4789 ip daddr 192.168.0.1",
        "udp dport 4789 ip saddr 192.168.0.1",
    )
    for rule in based:
        assert any(name in rule for name in ours) or rule == "fib daddr type local jump published"


def test_what_a_task_sends_must_come_from_the_blocks_of_its_bridge() -> None:
    made = table(network(OPEN, "10.1.0.0/16", local_blocks=("10.1.0.0/26",), subnet6="fd01::/112"))
    assert made.elements["sources"].items == {f'"{NAMES.bridge(OPEN)}" . 10.1.0.0/26'}
    assert made.elements["sources6"].items == {f'"{NAMES.bridge(OPEN)}" . fd01::/122'}


def test_a_published_port_is_forwarded_to_any_backend_of_its_service() -> None:
    made = table(mesh(), endpoints=(web("10.9.0.2", "10.9.1.2"),))
    assert made.elements["mesh"].items == {"tcp . 8080 : goto mesh_tcp_8080"}
    assert made.chains["mesh_tcp_8080"].rules == (
        "jump unanswered",
        "meta l4proto tcp dnat ip to numgen random mod 2 map"
        " { 0 : 10.9.0.2 . 80, 1 : 10.9.1.2 . 80 }",
        "goto refused",
    )


@pytest.mark.parametrize(
    ("host_ip", "scope", "item"),
    [
        ("10.0.0.5", "_by_address", "10.0.0.5 . tcp . 8080 : goto mesh_tcp_8080_10_0_0_5"),
        ("fd00::5", "_by_address6", "fd00::5 . tcp . 8080 : goto mesh_tcp_8080_fd00__5"),
        ("eth1", "_by_device", '"eth1" . tcp . 8080 : goto mesh_tcp_8080_eth1'),
    ],
)
def test_a_port_bound_to_one_address_answers_there_only(
    host_ip: str, scope: str, item: str
) -> None:
    bound = msgspec.structs.replace(WEB, host_ip=host_ip)
    made = table(mesh(), endpoints=(web("10.9.0.2", ports=(bound,)),))
    assert made.elements[f"mesh{scope}"].items == {item}
    assert not made.elements["mesh"].items


def test_a_dual_stack_mesh_forwards_both_families() -> None:
    made = table(mesh(subnet6="fd09::/112"), endpoints=(web("10.9.0.2"),))
    assert made.chains["mesh_tcp_8080"].rules[2] == (
        "ip6 daddr != ::1 meta l4proto tcp dnat ip6 to numgen random mod 1 map { 0 : fd09::2 . 80 }"
    )


def test_a_peers_own_addresses_of_ipv6_are_known_beside_its_tasks() -> None:
    own = ("2001:db8::2", "2001:db8::3")
    peer = Peer(node_number=2, address="192.168.0.2", blocks=("10.9.1.0/26",), addresses6=own)
    made = table(mesh(subnet6="fd09::/112", peers=(peer,)))
    assert made.elements["peers_tasks6"].items == {f"{one} . fd09::100/122" for one in own}
    assert not table(mesh(peers=(peer,))).elements["peers_tasks6"].items


def test_a_port_without_backends_stays_ours() -> None:
    made = table(mesh(), endpoints=(web(),))
    assert made.elements["mesh"].items == {"tcp . 8080 : goto mesh_tcp_8080"}
    assert made.chains["mesh_tcp_8080"] == Chain(("goto refused",))


def test_a_port_of_mode_host_is_not_led_into_the_mesh() -> None:
    port = msgspec.structs.replace(WEB, publish_mode=PublishMode.HOST)
    assert not table(mesh(), endpoints=(web("10.9.0.2", ports=(port,)),)).elements["mesh"].items


@pytest.mark.parametrize(
    ("host_ip", "name", "item"),
    [
        ("", "host_ports", "udp . 53 : 10.1.0.2 . 5353"),
        ("0.0.0.0", "host_ports", "udp . 53 : 10.1.0.2 . 5353"),
        ("127.0.0.1", "host_ports_by_address", "127.0.0.1 . udp . 53 : 10.1.0.2 . 5353"),
        ("eth1", "host_ports_by_device", '"eth1" . udp . 53 : 10.1.0.2 . 5353'),
    ],
)
def test_a_port_of_mode_host_is_forwarded_to_its_task(host_ip: str, name: str, item: str) -> None:
    port = PortConfig(
        target_port=5353, published_port=53, protocol=Protocol.UDP, host_ip=host_ip,
        publish_mode=PublishMode.HOST,
    )  # fmt: skip
    made = table(network(OPEN, "10.1.0.0/16"), published=(led(port),))
    assert made.elements[name].items == {item}
    assert made.elements["forwarded_to"].items == {f'"{NAMES.bridge(OPEN)}"'}


@pytest.mark.parametrize(
    ("host_ip", "scope", "key"),
    [
        ("", "", "tcp . 8080"),
        ("fd00::5", "_by_address6", "fd00::5 . tcp . 8080"),
        ("eth1", "_by_device", '"eth1" . tcp . 8080'),
    ],
)
def test_a_port_of_mode_host_is_forwarded_to_its_task_by_ipv6_too(
    host_ip: str, scope: str, key: str
) -> None:
    port = msgspec.structs.replace(WEB, publish_mode=PublishMode.HOST, host_ip=host_ip)
    made = table(network(OPEN, "10.1.0.0/16", subnet6="fd01::/64"), published=(led(port),))
    assert made.elements[f"host_ports6{scope}"].items == {f"{key} : fd01::2 . 80"}
    rules = [rule for rule in made.chains["published"].rules if "dnat ip6" in rule]
    assert len(rules) == 1
    assert rules[0].startswith("ip6 daddr != ::1 dnat ip6 to ")
    assert rules[0].endswith(f" map @host_ports6{scope}")


def test_where_no_network_has_ipv6_no_rule_of_published_ports_speaks_of_it() -> None:
    port = msgspec.structs.replace(WEB, publish_mode=PublishMode.HOST)
    plain = network(OPEN, "10.1.0.0/16")
    made = table(plain, mesh(), endpoints=(web("10.9.0.2"),), published=(led(port),))
    assert not [rule for rule in made.chains["published"].rules if "dnat ip6" in rule]


def test_connections_are_marked_with_the_host_they_entered_by_where_tasks_run() -> None:
    entries = {f"02:70:00:00:00:0{n} : {return_mark(n)}" for n in (2, 3)}
    assert table(mesh()).elements["entries"].items == entries
    assert not table(mesh(local_blocks=())).elements["entries"].items


def test_a_host_without_mesh_and_encryption_has_no_chains_for_them() -> None:
    of_mesh = {"return_path", "into_tunnels"}
    assert of_mesh <= table(mesh()).chains.keys()
    assert "input" not in table(mesh()).chains
    assert table(network(OPEN, "10.1.0.0/16")).chains.keys().isdisjoint({"input", *of_mesh})


def test_the_order_of_networks_does_not_matter() -> None:
    first, second = network(OPEN, "10.1.0.0/16"), network(CLOSED, "10.2.0.0/16")
    assert table(first, second) == table(second, first)


def test_another_backend_costs_one_chain_and_nothing_else() -> None:
    other = msgspec.structs.replace(WEB, published_port=9090)
    before = table(mesh(), endpoints=(web("10.9.0.2", ports=(WEB, other)),))
    after = msgspec.structs.replace(
        before, chains={**before.chains, "mesh_tcp_9090": Chain(("counter",))}
    )
    assert change("t", before, after) == (
        "flush chain inet t mesh_tcp_9090\nadd rule inet t mesh_tcp_9090 counter\n"
    )


def test_a_ports_end_takes_its_item_before_its_chain() -> None:
    with_port, without = table(mesh(), endpoints=(web("10.9.0.2"),)), table(mesh())
    assert change("t", with_port, without) == (
        "delete element inet t mesh { tcp . 8080 : goto mesh_tcp_8080 }\n"
        "flush chain inet t mesh_tcp_8080\n"
        "delete chain inet t mesh_tcp_8080\n"
    )
    assert change("t", with_port, with_port) == ""


def test_the_table_is_replaced_in_one_transaction_and_removed_whether_there_or_not() -> None:
    start = removal("t")
    assert start == "table inet t {\n}\ndelete table inet t\n"
    text = whole("t", Table(elements={"s": Elements("inet_proto")}, chains={}))
    assert text == start + "table inet t {\n  set s { type inet_proto; }\n}\n"


def test_frames_of_encrypted_networks_alone_are_marked_and_dropped_in_the_clear() -> None:
    plain = network(OPEN, "10.1.0.0/16", vni=4096)
    kept = (EncryptionKey(number=1, secret=bytes(20)),)
    encrypted = [network(CLOSED, "10.2.0.0/16", vni=4098, encryption_keys=kept)]
    encrypted.append(mesh(vni=4097, encryption_keys=kept))
    made = table(plain, *encrypted)
    tunnels = {f'"{NAMES.vxlan(o.network_id)}"' for o in encrypted}
    assert made.elements["encrypted_tunnels"].items == tunnels
    frames = "udp dport 4789 @th,96,24 { 4097, 4098 }"
    (into,) = made.chains["input"].rules
    out, *_, mark = made.chains["into_tunnels"].rules
    assert into == f"{frames} meta ipsec missing counter name {PLAINTEXT} drop"
    assert out == f"{frames} rt ipsec missing counter name {PLAINTEXT} drop"
    assert mark == (
        "oifname @encrypted_tunnels meta mark set meta mark"
        f" & 0xf00000ff | {NAMES.encryption_mark:#x}"
    )
    rules = [rule for chain in table(plain).chains.values() for rule in chain.rules]
    assert not any("ipsec" in rule for rule in rules)


def test_connections_of_the_mesh_are_in_the_zone_of_their_host_of_entry() -> None:
    made = host_table([network(OPEN, "10.8.0.0/16"), mesh()], [], [], NAMES, UNDERLAY)
    assert made is not None
    zoned = {label for label, chain in made.chains.items() if "jump entry_zone" in chain.rules}
    assert zoned == {f"from_{NAMES.vxlan(MESH)}"}
    assert made.chains["entry_zone"].rules == ("ct original zone set @ll,80,16",)
    assert vtep_mac(258).endswith(":01:02")  # the number's bytes in the frame's last two of 96 bits


def test_optional_parts_of_the_table_forward_to_hosts_and_ports_and_isolate_nothing() -> None:
    overlays = [host_bridge("10.127.0.0/16"), network(CLOSED, "10.8.0.0/16", internal=True), mesh()]
    table = host_table(overlays, [web("10.9.0.2")], [], NAMES, UNDERLAY)
    assert table is not None
    labels = {unit.label for unit in optional_units(table)}
    assert labels == {"entries", "entry_zone", "peers_tasks", "mesh", "mesh_tcp_8080", "unanswered"}
    assert Unit("mesh", "tcp . 8080 : goto mesh_tcp_8080") in optional_units(table)


def test_a_table_without_some_units_has_all_others() -> None:
    table = Table(
        elements={"a": Elements("x", frozenset("12")), "b": Elements("x", frozenset("3"))},
        chains={"mesh_1": Chain(("rule",)), "mesh_2": Chain(("other",))},
        objects={"mesh_1": "ct timeout mesh_1 {}", "mesh_2": "ct timeout mesh_2 {}"},
    )
    less = without(table, {Unit("a", "1"), Unit("mesh_1")})
    assert less.objects == {"mesh_2": "ct timeout mesh_2 {}"}
    assert less.elements["a"].items == {"2"}
    assert less.elements["b"] == table.elements["b"]
    assert less.chains == {"mesh_1": Chain(), "mesh_2": Chain(("other",))}
    assert without(table, ()) is table


async def test_what_nft_refuses_is_found_by_halving_and_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bad = {Unit("entries", str(number)) for number in (7, 400)}
    table = Table(
        elements={"entries": Elements("mark", frozenset(map(str, range(1000))))}, chains={}
    )
    applied: list[str] = []
    runs = 0

    async def refusal(text: str) -> str:
        nonlocal runs
        runs += 1
        found = [unit for unit in bad if re.search(rf" {unit.item}\b", text)]
        return f"nft: {found[0].item} makes no sense" if found else ""

    async def apply(text: str) -> None:
        if reason := await refusal(text):
            raise NetworkFailed(reason)
        applied.append(text)

    async def nothing(*_: str) -> str:
        return ""

    async def generation() -> int:
        return len(applied)

    monkeypatch.setattr(nft, "refusal", refusal)
    monkeypatch.setattr(nft, "apply", apply)
    monkeypatch.setattr(nft, "listing", nothing)
    keeper = Keeper("t", generation, optional=lambda table: units(table, {"entries"}, ("mesh_",)))
    await keeper.sync(table)
    assert set(keeper.refused) == bad
    assert runs < 60
    assert applied == [whole("t", without(table, bad))]
    # Nothing is retried before a check; after it, everything is.
    runs = 0
    await keeper.sync(table)
    assert runs == 0
    assert await keeper.differs()
    assert await keeper.differs()  # a second check takes nothing from the sync that repairs
    bad.clear()
    await keeper.sync(table)
    assert (keeper.refused, applied[-1]) == ({}, whole("t", table))


async def test_a_table_that_cannot_be_without_what_nft_refuses_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def refusal(text: str) -> str:
        return "nft: cannot"

    async def apply(text: str) -> None:
        raise NetworkFailed("nft: cannot")

    async def generation() -> int:
        return 0

    monkeypatch.setattr(nft, "refusal", refusal)
    monkeypatch.setattr(nft, "apply", apply)
    table = Table(elements={"entries": Elements("mark", frozenset("12"))}, chains={})
    keeper = Keeper("t", generation, optional=lambda table: units(table, {"entries"}, ("mesh_",)))
    with pytest.raises(NetworkFailed, match="nft: cannot"):
        await keeper.sync(table)


async def test_a_changed_backend_of_a_published_port_costs_its_own_chain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    applied: list[str] = []

    async def apply(text: str) -> None:
        applied.append(text)

    async def nothing(*_: str) -> str:
        return ""

    async def generation() -> int:
        return len(applied)

    monkeypatch.setattr(nft, "apply", apply)
    monkeypatch.setattr(nft, "listing", nothing)
    keeper = Keeper("t", generation)
    overlays = [host_bridge("10.127.0.0/16"), mesh()]
    known = {overlay.network_id: overlay for overlay in overlays}

    def numbered(number: int, *addresses: str) -> DesiredEndpoint:
        port = PortConfig(target_port=80, published_port=1000 + number)
        made = web(*addresses, ports=(port,))
        return msgspec.structs.replace(made, service_id=ServiceId(f"s{number}"))

    before = [numbered(number, "10.9.0.2") for number in range(500)]
    await keeper.sync(host_table(overlays, before, [], NAMES, UNDERLAY))
    old, new = before[7], numbered(7, "10.9.0.2", "10.9.0.3")
    assert await keeper.patch(part_of(known, [old]), part_of(known, [new]))
    patched = applied[-1]
    assert patched.count("\n") == len(part_of(known, [new]).chains["mesh_tcp_1007"].rules) + 1
    assert all("1007" in line for line in patched.splitlines())
    # The recorded table equals a full rewrite: the next sync has nothing to do.
    after = [*before[:7], new, *before[8:]]
    count = len(applied)
    await keeper.sync(host_table(overlays, after, [], NAMES, UNDERLAY))
    assert len(applied) == count
    assert await keeper.patch(part_of(known, [new]), part_of(known, []))
    count = len(applied)
    await keeper.sync(host_table(overlays, [*before[:7], *before[8:]], [], NAMES, UNDERLAY))
    assert len(applied) == count
    # A port that two endpoints publish belongs to the part of neither.
    twin = msgspec.structs.replace(before[8], service_id=ServiceId("twin"))
    assert not await keeper.patch(part_of(known, []), part_of(known, [twin]))
