"""Virtual addresses and published ports: kept while they are wanted, and never held twice."""

from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from controller.brain.allocator.blocks import Blocks
from controller.brain.allocator.endpoints import DYNAMIC_PORTS, allocate_endpoint
from controller.brain.allocator.usage import usage
from pyswarm_core.decision import Writes
from pyswarm_core.errors import Conflict, InvalidArgument
from pyswarm_core.ids import NetworkId, ServiceId
from pyswarm_core.kinds import SERVICE
from pyswarm_core.objects import Block, Endpoint, Network, Service
from pyswarm_core.ports import overlaps
from pyswarm_core.specs import (
    EndpointMode,
    EndpointSpec,
    Ipam,
    IpamConfig,
    PortConfig,
    Protocol,
    PublishMode,
    ServiceSpec,
)
from pyswarm_core.state import State
from tests.fixtures import build
from tests.fixtures.brain_world import BrainWorld
from tests.fixtures.build import dirty

HOST = PublishMode.HOST


def port(published: int, target: int = 80, mode: str = "ingress", ip: str = "") -> PortConfig:
    return PortConfig(
        target_port=target, published_port=published, publish_mode=PublishMode(mode), host_ip=ip
    )


def spec_of(
    name: str, *ports: PortConfig, networks: tuple[str, ...] = (), mode: str = "vip"
) -> ServiceSpec:
    template = build.template(networks=networks)
    endpoint = EndpointSpec(mode=EndpointMode(mode), ports=ports)
    service = build.service(name, replicas=0, spec=template)
    return replace(service.spec, endpoint_spec=endpoint)


def put(state: State, spec: ServiceSpec) -> Service:
    """As the requests do it: allocate from the state, then make it true."""
    service_id = ServiceId(spec.name)
    old = state.services.get(service_id)
    endpoint = allocate_endpoint(state, service_id, spec, old.endpoint if old else Endpoint())
    service = replace(build.service(spec.name), spec=spec, endpoint=endpoint)
    state.apply(Writes(objects=(service,)))
    return service


def network(subnet: str, *, gateway: str = "", ip_range: str = "", blocks: int = 0) -> Network:
    config = IpamConfig(subnet=subnet, gateway=gateway, ip_range=ip_range)
    made = build.network("net", subnet)
    held = [Block(cidr=f"10.128.0.{64 * index}/26", node_number=1) for index in range(blocks)]
    return replace(made, spec=replace(made.spec, ipam=Ipam(config=(config,))), blocks=tuple(held))


def vips(service: Service) -> list[str]:
    return [vip.addr for vip in service.endpoint.virtual_ips]


def published(service: Service) -> list[int]:
    return [one.published_port for one in service.endpoint.ports]


# Virtual addresses


def test_virtual_addresses_come_from_the_top_and_stay() -> None:
    state = build.state(networks=[build.network("net")])
    web, db = spec_of("web", networks=("net",)), spec_of("db", networks=("net",))
    assert vips(put(state, web)) == ["10.128.255.254"]
    assert vips(put(state, db)) == ["10.128.255.253"]
    assert vips(put(state, replace(web, labels={"a": "b"}))) == ["10.128.255.254"]


def test_a_virtual_address_is_free_when_its_service_left_the_network_or_is_gone() -> None:
    state = build.state(networks=[build.network("net")])
    for name in ("a", "b", "c"):
        put(state, spec_of(name, networks=("net",)))
    put(state, spec_of("a"))
    put(state, spec_of("b", networks=("net",), mode="dnsrr"))
    state.apply(Writes(removed=(SERVICE.object_name(ServiceId("c")),)))
    assert state.virtual_ips == {}
    assert vips(put(state, spec_of("d", networks=("net",)))) == ["10.128.255.254"]


def test_a_virtual_address_avoids_blocks_of_nodes_and_the_gateway() -> None:
    state = build.state(networks=[network("10.128.0.0/24", gateway="10.128.0.254")])
    assert vips(put(state, spec_of("web", networks=("net",)))) == ["10.128.0.253"]
    held = network("10.128.0.0/24")
    top = Block(cidr="10.128.0.240/28", node_number=1)
    state = build.state(networks=[replace(held, blocks=(top,))])
    assert vips(put(state, spec_of("web", networks=("net",)))) == ["10.128.0.239"]


def test_a_virtual_address_lies_in_the_range() -> None:
    state = build.state(networks=[network("10.128.0.0/16", ip_range="10.128.4.0/24")])
    assert vips(put(state, spec_of("web", networks=("net",)))) == ["10.128.4.255"]


def with_ip(name: str, ip: str, networks: tuple[str, ...] = ("net",)) -> ServiceSpec:
    """A service that chose its virtual address on its first network."""
    spec = spec_of(name, networks=networks)
    first, *others = spec.task_template.networks
    joined = (replace(first, ip=ip), *others)
    return replace(spec, task_template=replace(spec.task_template, networks=joined))


def test_a_chosen_virtual_address_is_had_kept_and_changed() -> None:
    state = build.state(
        networks=[network("10.128.0.0/16"), build.network("other", "10.129.0.0/16")]
    )
    chosen = with_ip("web", "10.128.9.9", ("net", "other"))
    assert vips(put(state, chosen)) == ["10.128.9.9", "10.129.255.254"]
    assert vips(put(state, replace(chosen, labels={"a": "b"}))) == ["10.128.9.9", "10.129.255.254"]
    assert vips(put(state, spec_of("web", networks=("net",)))) == ["10.128.9.9"]
    assert vips(put(state, with_ip("web", "10.128.255.254"))) == ["10.128.255.254"]
    assert vips(put(state, spec_of("db", networks=("net",)))) == ["10.128.255.253"]


def test_a_chosen_virtual_address_may_lie_outside_the_range_and_takes_no_block() -> None:
    held = network("10.128.0.0/16", ip_range="10.128.4.0/29")
    state = build.state(networks=[held])
    assert vips(put(state, with_ip("web", "10.128.200.1"))) == ["10.128.200.1"]
    blocks = Blocks(held, state)
    assert not blocks.exhausted
    assert usage(held, [], state.virtual_ips[held.id]).blocks_free == 1


@pytest.mark.parametrize(
    ("ip", "why"),
    [
        ("10.129.0.1", r'expected an address of network "net" \(10.128.0.0/16\)'),
        ("10.128.255.255", "not its first, its last or its gateway"),
        ("10.128.7.7", "not its first, its last or its gateway"),
        ("10.128.0.5", "is in block 10.128.0.0/26, .* node number 1: choose one at the subnet's"),
        ("10.128.3.3", 'is already that of service "db"'),
    ],
)
def test_a_chosen_virtual_address_that_cannot_be_had_is_refused(ip: str, why: str) -> None:
    state = build.state(networks=[network("10.128.0.0/16", gateway="10.128.7.7", blocks=1)])
    put(state, with_ip("db", "10.128.3.3"))
    with pytest.raises((Conflict, InvalidArgument), match=why):
        put(state, with_ip("web", ip))


def test_chosen_virtual_addresses_leave_tasks_a_block() -> None:
    state = build.state(networks=[network("10.128.0.0/28")])
    put(state, with_ip("db", "10.128.0.9"))
    with pytest.raises(Conflict, match="is in the last block left for tasks"):
        put(state, with_ip("web", "10.128.0.2"))
    assert vips(put(state, with_ip("web", "10.128.0.10"))) == ["10.128.0.10"]


def test_services_leave_the_nodes_a_block_and_are_told_when_nothing_is_left() -> None:
    state = build.state(networks=[network("10.128.0.0/28")])
    for number in range(7):  # the upper half but for the broadcast address
        put(state, spec_of(f"s{number}", networks=("net",)))
    with pytest.raises(Conflict, match=r'"net" has no address left .* 7 services .* dnsrr'):
        put(state, spec_of("more", networks=("net",)))
    put(state, spec_of("more", networks=("net",), mode="dnsrr"))


def test_the_mesh_and_predefined_networks_have_no_virtual_addresses() -> None:
    ingress = build.network("ingress")
    ingress = replace(ingress, spec=replace(ingress.spec, ingress=True))
    state = build.state(networks=[ingress])
    assert vips(put(state, spec_of("web", port(80), networks=("ingress",)))) == []
    assert vips(put(state, spec_of("agent", networks=("host",)))) == []


def test_a_node_never_gets_the_block_of_a_virtual_address_or_of_the_gateway() -> None:
    template = build.template(networks=["net"])
    world = BrainWorld(
        build.state(
            nodes=build.nodes(1),
            services=[build.service("web", replicas=30, spec=template)],
            networks=[network("10.128.0.0/27", gateway="10.128.0.3")],
        )
    )
    put(world.state, spec_of("other", networks=("net",)))
    world.settle(dirty("web"))
    (net,) = world.state.networks.values()
    # Of four blocks the lowest has the gateway, the highest the virtual address.
    assert sorted(block.cidr for block in net.blocks) == ["10.128.0.16/29", "10.128.0.8/29"]
    waiting = [task for task in world.state.tasks.values() if not task.node_id]
    assert len(waiting) == 20
    assert "no address left on network net" in waiting[0].detail.message


# Ports


def test_a_taken_port_names_its_holder() -> None:
    state = build.state()
    put(state, spec_of("web", port(8080)))
    with pytest.raises(Conflict, match=r'port 8080/tcp is published by service "web"$'):
        put(state, spec_of("shop", port(8080)))
    with pytest.raises(Conflict, match='"web" in mode ingress'):
        put(state, spec_of("shop", port(8080, mode="host")))
    udp = replace(port(8080), protocol=Protocol.UDP)
    assert published(put(state, spec_of("dns", udp))) == [8080]
    assert published(put(state, spec_of("web", port(8080), port(8081)))) == [8080, 8081]


@pytest.mark.parametrize(
    ("one", "other", "conflict"),
    [
        ("", "10.0.0.5", True),
        ("10.0.0.5", "10.0.0.5", True),
        ("10.0.0.5", "10.0.0.6", False),
        ("0.0.0.0", "10.0.0.5", True),
        ("0.0.0.0", "::1", False),
        ("::", "::1", True),
        ("eth0", "eth1", False),
        ("eth0", "10.0.0.5", True),
        ("eth0", "", True),
    ],
)
def test_ports_conflict_where_their_addresses_overlap(one: str, other: str, conflict: bool) -> None:
    assert overlaps(one, other) is overlaps(other, one) is conflict
    state = build.state()
    put(state, spec_of("web", port(80, ip=one)))
    if conflict:
        with pytest.raises(Conflict, match='published by service "web"'):
            put(state, spec_of("shop", port(80, mode="host", ip=other)))
    else:
        put(state, spec_of("shop", port(80, mode="host", ip=other)))


def test_two_services_in_mode_host_are_the_schedulers_to_keep_apart() -> None:
    state = build.state()
    put(state, spec_of("web", port(80, mode="host")))
    put(state, spec_of("shop", port(80, mode="host")))
    with pytest.raises(Conflict, match='"web" in mode host'):
        put(state, spec_of("mesh", port(80)))


def test_the_fleets_own_ports_are_not_published() -> None:
    state = build.state()
    with pytest.raises(Conflict, match="port 2377/tcp is the fleet's own: controllers"):
        put(state, spec_of("web", port(2377)))
    with pytest.raises(Conflict, match="port 2378/tcp is the fleet's own: the fleet's registry"):
        put(state, spec_of("web", port(2378)))
    with pytest.raises(Conflict, match="port 4789/udp is the fleet's own: overlay"):
        put(state, spec_of("web", replace(port(4789, mode="host"), protocol=Protocol.UDP)))


def test_chosen_ports_avoid_what_is_published_and_stay() -> None:
    state = build.state()
    put(state, spec_of("host", port(30_000, mode="host")))
    put(state, spec_of("fixed", port(30_001)))
    assert published(put(state, spec_of("web", port(0, 80), port(0, 443)))) == [30_002, 30_003]
    assert published(put(state, spec_of("web", port(0, 443)))) == [30_003]
    assert published(put(state, spec_of("web", port(0, 443), port(0, 80)))) == [30_003, 30_002]
    with pytest.raises(Conflict, match='by service "web"'):
        put(state, spec_of("late", port(30_003)))


def test_a_port_that_agents_choose_conflicts_with_nothing() -> None:
    state = build.state()
    assert published(put(state, spec_of("web", port(0, mode="host")))) == [0]
    assert state.published == {}


def test_ports_are_free_when_their_service_drops_them_or_is_gone() -> None:
    state = build.state()
    put(state, spec_of("web", port(80), port(81)))
    put(state, spec_of("web", port(81)))
    put(state, spec_of("shop", port(80)))
    state.apply(
        Writes(
            removed=(SERVICE.object_name(ServiceId("web")), SERVICE.object_name(ServiceId("shop")))
        )
    )
    assert state.published == {}


def test_no_port_left_says_so() -> None:
    state = build.state()
    everything = [port(0, target) for target in range(1, len(DYNAMIC_PORTS) + 1)]
    assert published(put(state, spec_of("big", *everything))) == list(DYNAMIC_PORTS)
    with pytest.raises(Conflict, match=r"all 2768 of 30000 to 32767 are published"):
        put(state, spec_of("web", port(0)))


# Whatever happens

_ports = st.lists(
    st.builds(
        port,
        st.sampled_from([0, 0, 80, 81, 30_000, 30_001]),
        st.sampled_from([80, 81]),
        st.sampled_from(["ingress", "ingress", "host"]),
        st.sampled_from(["", "10.0.0.5", "10.0.0.6", "eth0"]),
    ),
    max_size=3,
    unique_by=lambda one: (one.published_port, one.target_port),
)
_change = st.one_of(
    st.tuples(
        st.just("put"),
        st.builds(
            lambda name, ports, networks, mode: spec_of(name, *ports, networks=networks, mode=mode),
            st.sampled_from("abcdefgh"),
            _ports,
            st.sampled_from([(), ("net",), ("net", "small"), ("small",)]),
            st.sampled_from(["vip", "vip", "dnsrr"]),
        ),
    ),
    st.tuples(st.just("remove"), st.sampled_from("abcdefgh")),
    st.tuples(st.just("scale"), st.integers(0, 24)),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(_change, max_size=20))
def test_nothing_is_held_twice_and_no_virtual_address_lies_in_a_nodes_block(
    changes: list[tuple[str, object]],
) -> None:
    world = BrainWorld(
        build.state(
            nodes=build.nodes(3),
            services=[build.service("load", replicas=0, spec=build.template(networks=["net"]))],
            networks=[
                build.network("net", "10.128.0.0/27"),
                build.network("small", "10.129.0.0/28"),
            ],
        )
    )
    for kind, what in changes:
        _happen(world, kind, what)
        _check(world.state)


def _happen(world: BrainWorld, kind: str, what: object) -> None:
    state = world.state
    if kind == "put" and isinstance(what, ServiceSpec):
        try:
            put(state, what)
        except Conflict:
            return
    elif kind == "remove" and what in state.services:
        state.apply(Writes(removed=(SERVICE.object_name(ServiceId(str(what))),)))
    elif kind == "scale" and isinstance(what, int):
        template = build.template(networks=["net"])
        state.apply(Writes(objects=(build.service("load", replicas=what, spec=template),)))
        world.settle(dirty("load"))
        for task in list(state.tasks.values()):
            world.advance(task)
        world.settle(dirty("load"))


def _check(state: State) -> None:
    held: dict[tuple[NetworkId, str], ServiceId] = {}
    ports: list[tuple[ServiceId, PortConfig]] = []
    for service in state.services.values():
        for vip in service.endpoint.virtual_ips:
            assert held.setdefault((vip.network_id, vip.addr), service.id) == service.id
        ports += [(service.id, one) for one in service.endpoint.ports if one.published_port]
    for network_id, addr in held:
        net = state.networks[network_id]
        assert IPv4Address(addr) in list(IPv4Network(net.subnet).hosts())
        for block in net.blocks:
            assert IPv4Address(addr) not in IPv4Network(block.cidr)
    for number, (holder, one) in enumerate(ports):
        for other_holder, other in ports[number + 1 :]:
            same = (one.protocol, one.published_port) == (other.protocol, other.published_port)
            if holder != other_holder and same and overlaps(one.host_ip, other.host_ip):
                assert one.publish_mode is other.publish_mode is HOST
    assert {
        (network_id, int(IPv4Address(addr))): service
        for (network_id, addr), service in held.items()
    } == {
        (network_id, number): service
        for network_id, addresses in state.virtual_ips.items()
        for number, service in addresses.items()
    }


def with_address(name: str, address: str, *, vip: str = "") -> ServiceSpec:
    spec = spec_of(name, networks=("net",))
    joined = replace(spec.task_template.networks[0], task_ip=address, ip=vip)
    return replace(spec, task_template=replace(spec.task_template, networks=(joined,)))


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("10.129.0.9", r"expected an address for tasks of network \"net\" \(10.128.0.0/16\)$"),
        ("10.128.0.64", r"of block 10.128.0.64/26 these are 10.128.0.66 to 10.128.0.126"),
        ("10.128.0.65", r"these are 10.128.0.66 to"),
        ("10.128.0.127", r"these are 10.128.0.66 to"),
        ("10.128.0.70", r"these are 10.128.0.66 to"),
    ],
)
def test_an_address_that_no_task_can_have_is_refused(address: str, told: str) -> None:
    state = build.state(networks=[network("10.128.0.0/16", gateway="10.128.0.70")])
    with pytest.raises(InvalidArgument, match=rf'--ip: value "{address}" is not valid: .*{told}'):
        put(state, with_address("db", address))


def test_an_address_of_a_task_is_that_of_no_other() -> None:
    state = build.state(networks=[network("10.128.0.0/16")])
    db = put(state, with_address("db", "10.128.0.9", vip="10.128.9.9"))
    assert put(state, db.spec).spec == db.spec, "its own is no conflict"
    with pytest.raises(Conflict, match=r'0\.9 of network "net" is already that of service "db"'):
        put(state, with_address("shop", "10.128.0.9"))
    with pytest.raises(Conflict, match=r'is the virtual address 10\.128\.9\.9 of service "db"'):
        put(state, with_address("shop", "10.128.9.9"))
    with pytest.raises(Conflict, match=r"in block 10.128.9.0/26, which has the virtual address 10"):
        put(state, with_address("shop", "10.128.9.20"))
