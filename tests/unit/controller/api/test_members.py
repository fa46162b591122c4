"""Who is on a network, as `network inspect --verbose` tells it."""

from msgspec.structs import replace

from controller.api.queries.members import network_peers, network_service, services_on
from controller.brain.slices import finish
from pyswarm_core.ids import NetworkId, NodeId, ServiceId
from pyswarm_core.objects import (
    Block,
    Endpoint,
    Network,
    PreviousSpec,
    Service,
    TaskAddress,
    TaskDetail,
    VirtualIp,
)
from pyswarm_core.specs import PortConfig, PublishMode
from pyswarm_core.states import TaskState
from tests.fixtures import build

NET = NetworkId("net")
ON_NET = build.template(networks=["net"])


def _all(_: object, __: str) -> bool:
    return True


def on_net(name: str, vip: str = "", *ports: PortConfig, **changes: object) -> Service:
    made = build.service(name, spec=ON_NET)
    vips = (VirtualIp(network_id=NET, addr=vip),) if vip else ()
    return replace(made, endpoint=Endpoint(virtual_ips=vips, ports=ports), **changes)


def network(*, ingress: bool = False) -> Network:
    made = build.network("net")
    blocks = [("10.128.0.0/26", 2), ("10.128.0.64/26", 1), ("10.128.0.128/26", 2)]
    return replace(
        made,
        spec=replace(made.spec, ingress=ingress),
        blocks=tuple(Block(cidr=cidr, node_number=number) for cidr, number in blocks),
    )


def test_services_are_told_with_address_and_living_tasks() -> None:
    address = TaskDetail(addresses=(TaskAddress(network_id=NET, address="10.128.0.2/26"),))
    state = build.state(
        nodes=build.nodes(2),
        services=[on_net("web", "10.128.255.254"), build.service("other")],
        networks=[network()],
        tasks=[
            build.task("web.2", node="n2", detail=address),
            build.task("web.1", node="n1", state=TaskState.PREPARING),
            build.task("web.1", node="n1", state=TaskState.FAILED, task_id="old"),
        ],
    )
    assert finish(services_on(state, NET)) == ["web"]
    (web,) = filter(None, network_service(state, NET, ServiceId("web")))
    assert (web.name, web.vip, web.ports) == ("web", "10.128.255.254", ())
    assert [(task.name, task.node_name, task.address) for task in web.tasks] == [
        ("web.1", "n1", ""),
        ("web.2", "n2", "10.128.0.2"),
    ]


def test_a_service_that_left_is_told_while_tasks_live_there() -> None:
    before = PreviousSpec(version=1, spec=on_net("web").spec)
    left = replace(
        build.service("web", version=2, template_version=2), previous_specs=(before,), removing=True
    )
    task = build.task("web.1", node="n1")
    state = build.state(nodes=build.nodes(1), services=[left], networks=[network()], tasks=[task])
    (web,) = filter(None, network_service(state, NET, ServiceId("web")))
    assert (web.name, len(web.tasks)) == ("web (being removed)", 1)
    ended = build.state(nodes=build.nodes(1), services=[left], networks=[network()])
    assert finish(services_on(ended, NET)) == ["web"]
    assert not [*network_service(ended, NET, ServiceId("web"))]
    assert not [*network_service(ended, NET, ServiceId("gone"))]


def test_ports_are_told_where_the_mesh_is() -> None:
    ports = (
        PortConfig(target_port=80, published_port=8080),
        PortConfig(target_port=81, publish_mode=PublishMode.HOST),
    )
    state = build.state(services=[on_net("web", "", *ports)], networks=[network(ingress=True)])
    (web,) = filter(None, network_service(state, NET, ServiceId("web")))
    assert web.ports == ports[:1]


def test_peers_are_told_with_their_blocks_and_how_far_they_are() -> None:
    state = build.state(nodes=build.nodes(3), networks=[network()])
    peers = network_peers(state, NET, {NodeId("n2"): 7}, _all)
    assert [(peer.node_name, peer.addr, peer.blocks, peer.acknowledged) for peer in peers] == [
        ("n1", "192.0.2.1", ("10.128.0.64/26",), 0),
        ("n2", "192.0.2.2", ("10.128.0.0/26", "10.128.0.128/26"), 7),
    ]
    mesh = build.state(nodes=build.nodes(3), networks=[network(ingress=True)])
    assert [peer.node_name for peer in network_peers(mesh, NET, {}, _all)] == ["n1", "n2", "n3"]
    assert not [*network_peers(mesh, NetworkId("gone"), {}, _all)]
