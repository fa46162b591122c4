"""What a node reports of its tasks counts only as far as it can be true."""

import pytest
from msgspec.structs import replace

from controller.api.changes.reported import Reports, clock_fault, faults, printable
from controller.grpc.tunnels import clean
from pyswarm_core.api.v1 import dispatcher_pb2
from pyswarm_core.clock import SECOND
from pyswarm_core.decision import Writes
from pyswarm_core.ids import NetworkId, NodeId, ServiceId, TaskId
from pyswarm_core.limits import DETAIL_LENGTH_MAX, FAULT_LENGTH_MAX, FAULTS_MAX
from pyswarm_core.objects import Block, NodeFault, TaskAddress, TaskDetail, TaskStatus
from pyswarm_core.specs import EndpointSpec, PortConfig, PublishMode
from pyswarm_core.state import State
from pyswarm_core.states import TaskState
from tests.fixtures import build
from tests.fixtures.build import NOW
from tests.unit.controller.leader.endpoints.build import known

NET, OTHER = NetworkId("net"), NetworkId("other")
WEB = TaskId("web.1".ljust(25, "0"))
RUNNING = TaskState.RUNNING


def host_port(published: int, target: int = 80) -> PortConfig:
    return PortConfig(target_port=target, published_port=published, publish_mode=PublishMode.HOST)


def world(*ports: PortConfig) -> State:
    blocks = (Block("10.128.0.0/26", 1), Block("10.128.0.64/26", 2))
    networks = [
        replace(build.network("net"), blocks=blocks),
        replace(build.network("other", "10.129.0.0/16", 4097), blocks=(Block("10.129.0.0/26", 1),)),
    ]
    web = build.service("web", spec=build.template(networks=["net"]))
    web = replace(web, spec=replace(web.spec, endpoint_spec=EndpointSpec(ports=ports)))
    task = build.task("web.1", node="n1", state=TaskState.STARTING, task_id=WEB)
    return build.state(nodes=build.nodes(2), networks=networks, services=[web], tasks=[task])


def told(
    state: State, *addresses: TaskAddress, ports: tuple[PortConfig, ...] = ()
) -> tuple[TaskDetail, list[str]]:
    reports = Reports(state, NodeId("n1"))
    detail = TaskDetail(addresses=addresses, ports=ports, serving=True)
    (status,) = reports.checked([TaskStatus(WEB, RUNNING, detail)])
    state.observe(NodeId("n1"), [status], build.NOW)
    assert state.tasks[WEB].state is RUNNING
    return state.tasks[WEB].detail, reports.refused


def test_an_address_of_the_nodes_block_becomes_a_backend() -> None:
    state = world()
    detail, refused = told(state, TaskAddress(NET, "10.128.0.5"))
    assert detail.addresses == (TaskAddress(NET, "10.128.0.5"),)
    assert not refused
    message = dispatcher_pb2.ServiceEndpoint.FromString(
        known(state).message((ServiceId("web"), NET)) or b""
    )
    assert message.addresses == bytes((10, 128, 0, 5))


@pytest.mark.parametrize(
    "address",
    [
        TaskAddress(NET, "10.128.0.70"),  # another node's block
        TaskAddress(NET, "10.128.9.9"),  # nobody's
        TaskAddress(NET, "192.0.2.1"),
        TaskAddress(NET, "10.128.0.0"),
        TaskAddress(NET, "10.128.0.63"),
        TaskAddress(NET, "fd00::5"),
        TaskAddress(NET, "10.128.0.5/16"),
        TaskAddress(NET, "10.128.0.999"),
        TaskAddress(NET, "10.128.0"),
        TaskAddress(NET, "1.2.3.4.5.6.7"),
        TaskAddress(NET, "\x1b[2J"),
        TaskAddress(NET, ""),
        TaskAddress(OTHER, "10.129.0.5"),  # a network that its service has not joined
        TaskAddress(NetworkId("gone"), "10.128.0.5"),
    ],
)
def test_an_address_that_the_task_cannot_have_is_left_out(address: TaskAddress) -> None:
    state = world()
    detail, refused = told(state, address)
    assert detail.addresses == ()
    assert len(refused) == 1
    assert refused[0].isprintable()
    assert known(state).message((ServiceId("web"), NET))


def test_a_network_whose_blocks_cannot_be_read_costs_its_addresses_alone() -> None:
    state = world()
    torn = replace(state.networks[NET], blocks=(Block("nonsense", 1),))
    state.apply(Writes(objects=(torn,)))
    detail, refused = told(state, TaskAddress(NET, "10.128.0.5"))
    assert detail.addresses == ()
    assert len(refused) == 1


def test_a_task_has_one_address_per_network() -> None:
    detail, refused = told(world(), TaskAddress(NET, "10.128.0.5"), TaskAddress(NET, "10.128.0.6"))
    assert detail.addresses == (TaskAddress(NET, "10.128.0.5"),)
    assert len(refused) == 1


def test_the_hosts_own_bridge_is_nobody_elses() -> None:
    bridge = TaskAddress(NetworkId("bridge"), "10.127.0.5")
    assert told(world(), bridge)[0].addresses == (bridge,)


@pytest.mark.parametrize(
    ("requested", "port", "counts"),
    [
        (host_port(8080), host_port(8080), True),
        (host_port(8080), host_port(8081), False),
        (host_port(8080), host_port(8080, 443), False),
        (host_port(0), host_port(32768), True),
        (host_port(0), host_port(80), False),
        (host_port(0), host_port(4_000_000_000), False),
        (PortConfig(target_port=80, published_port=8080), host_port(8080), False),
    ],
)
def test_a_port_is_one_that_the_spec_publishes(
    requested: PortConfig, port: PortConfig, *, counts: bool
) -> None:
    detail, refused = told(world(requested), ports=(port,))
    assert detail.ports == ((port,) if counts else ())
    assert bool(refused) is not counts


def test_no_port_is_published_more_often_than_the_spec_says() -> None:
    ports = (host_port(32768), host_port(32769))
    assert told(world(host_port(0)), ports=ports)[0].ports == ports[:1]


def test_texts_are_one_printable_line() -> None:
    assert printable("exited with code 1: größer") == "exited with code 1: größer"
    assert printable("two\nlines\x1b[31m\u2028\0") == "two lines\\x1b[31m\\u2028\\x00"
    state = world()
    detail = TaskDetail(
        message="a\nb", error="\x1b", in_place_error="\x07", in_place_version=3, ran=9
    )
    (status,) = Reports(state, NodeId("n1")).checked([TaskStatus(WEB, RUNNING, detail)])
    assert (status.detail.message, status.detail.error) == ("a b", "\\x1b")
    assert status.detail.in_place_error == "\\x07"
    assert (status.detail.in_place_version, status.detail.ran) == (3, 9), "all else is as reported"
    made = [TaskStatus(WEB, RUNNING, TaskDetail(image_volumes="/a\x1b"))]
    assert Reports(state, NodeId("n1")).checked(made)[0].detail.image_volumes == "/a\\x1b"
    alone = [TaskStatus(WEB, RUNNING, TaskDetail(in_place_error="\x07"))]
    assert Reports(state, NodeId("n1")).checked(alone)[0].detail.in_place_error == "\\x07"


def test_every_text_of_a_message_is_cleaned() -> None:
    frame = dispatcher_pb2.TunnelFrame(
        trace_facts=dispatcher_pb2.TraceFacts(
            name=dispatcher_pb2.TraceAttempt(addresses=["10.0.0.1", "\x1b"], error="a\nb"),
            differences=[dispatcher_pb2.TraceDifference(where="host", text="\x07")],
            exposed_ports=[80],
        )
    )
    clean(frame)
    facts = frame.trace_facts
    assert list(facts.name.addresses) == ["10.0.0.1", "\\x1b"]
    assert facts.name.error == "a b"
    assert facts.differences[0].text == "\\x07"
    assert list(facts.exposed_ports) == [80]


def test_the_texts_of_a_map_are_cleaned() -> None:
    image = dispatcher_pb2.Image(labels={"a": "1", "b": "\x07", "\x1b": "c"})
    frame = dispatcher_pb2.TunnelFrame(image_report=dispatcher_pb2.ImageReport(images=[image]))
    clean(frame)
    (found,) = frame.image_report.images
    assert dict(found.labels) == {"a": "1", "b": "\\x07", "\\x1b": "c"}


def test_others_tasks_are_none_of_its_business() -> None:
    state = world()
    detail = TaskDetail(addresses=(TaskAddress(NET, "10.128.0.70"),))
    statuses = [TaskStatus(WEB, RUNNING, detail)]
    assert Reports(state, NodeId("n2")).checked(statuses) == statuses
    assert not state.observe(NodeId("n2"), statuses, build.NOW)


def test_faults_are_of_networks_that_there_are_few_and_short() -> None:
    told = [
        NodeFault(network_id=NET, reason="a\nb\x1b" + "x" * 1000, blocks=True),
        NodeFault(network_id=NetworkId("gone"), reason="?"),
        NodeFault(NetworkId(""), "every network"),
        *(NodeFault(network_id=OTHER, reason=str(n)) for n in range(100)),
    ]
    found = faults(world(), told)
    assert len(found) <= FAULTS_MAX
    assert found[0].network_id == "net"
    assert found[0].reason.startswith("a b\\x1bxxx")
    assert len(found[0].reason) <= FAULT_LENGTH_MAX
    assert found[0].blocks
    assert found[1] == NodeFault(NetworkId(""), "every network")


def test_a_text_is_not_longer_for_being_made_printable() -> None:
    detail = TaskDetail(message="\x1b" * DETAIL_LENGTH_MAX, error="\0" * DETAIL_LENGTH_MAX)
    (status,) = Reports(world(), NodeId("n1")).checked([TaskStatus(WEB, RUNNING, detail)])
    assert len(status.detail.message) == len(status.detail.error) == DETAIL_LENGTH_MAX


def test_a_clock_that_differs_by_ten_seconds_is_a_fault_that_stops_nothing() -> None:
    for allowed in (0, NOW, NOW + 10 * SECOND - 1, NOW - 10 * SECOND + 1):
        assert clock_fault(allowed, NOW) is None
    ahead, behind = clock_fault(NOW + 10 * SECOND, NOW), clock_fault(NOW - 100 * SECOND, NOW)
    assert ahead
    assert behind
    assert "at least 8 s ahead of the controller's" in ahead.reason
    assert "at least 64 s behind the controller's" in behind.reason
    assert not ahead.blocks
