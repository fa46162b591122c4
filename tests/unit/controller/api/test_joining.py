"""How a host becomes a node and comes back: nothing that it says can harm the others."""

import pytest
from msgspec.structs import replace

from controller.api.changes.joining import JoinRequest, greet, join
from controller.brain.nodes import managers, promoted
from controller.leader.events.made import events_of
from pyswarm_core.clock import MINUTE
from pyswarm_core.decision import EventKind, Writes
from pyswarm_core.errors import AlreadyExists, InvalidArgument, NotFound, PermissionDenied
from pyswarm_core.ids import NodeId
from pyswarm_core.kinds import NODE
from pyswarm_core.limits import PROTOCOL, PROTOCOL_OLDEST
from pyswarm_core.objects import Node, NodeDescription, NodeResources
from pyswarm_core.state import State
from pyswarm_core.states import Availability, NodeState, TaskState
from tests.fixtures import build
from tests.fixtures.build import NOW
from tests.fixtures.identity import FLEET

DISCONNECTED, DRAIN = NodeState.DISCONNECTED, Availability.DRAIN


def world(*nodes: Node) -> State:
    state = build.state(nodes=nodes, networks=[build.network("net", "10.128.0.0/16")])
    state.apply(Writes(cluster=replace(FLEET.cluster, next_node_number=100)))
    return state


def described(hostname: str, **more: object) -> NodeDescription:
    told = {"protocol": PROTOCOL, **more}
    return NodeDescription(hostname=hostname, **told)  # type: ignore[arg-type]


def join_as(state: State, hostname: str = "new", addr: str = "192.0.2.99", **more: object) -> Node:
    request = JoinRequest(FLEET.token, described(hostname, **more), addr)
    writes, node = join(state, request, build.NOW, build.Numbered())
    assert writes.objects == (node,)
    return node


@pytest.mark.parametrize(
    "addr",
    ["2001:db8::1", "0.0.0.0", "224.0.0.1", "127.0.0.1", "255.255.255.255", "169.254.0.1", "x"],
)
def test_a_host_whose_address_no_tunnel_can_end_at_may_not_join(addr: str) -> None:
    with pytest.raises(InvalidArgument, match="advertise-addr"):
        join_as(world(), addr=addr)
    with pytest.raises(InvalidArgument, match="advertise-addr"):
        greet(world(build.node("n1")), NodeId("n1"), described("n1"), addr, ())


def test_a_host_that_lies_about_itself_may_not_join() -> None:
    with pytest.raises(InvalidArgument, match="hostname"):
        join_as(world(), "two\nlines")
    with pytest.raises(InvalidArgument, match="lacks"):
        join_as(world(), lacks=("x",) * 20_000)
    with pytest.raises(InvalidArgument, match="cpus"):
        join_as(world(), resources=NodeResources(nano_cpus=2**62))
    with pytest.raises(PermissionDenied):
        join(
            world(), JoinRequest("wrong", described("a"), "192.0.2.9"), build.NOW,
            build.Numbered(),
        )  # fmt: skip


@pytest.mark.parametrize("state", [NodeState.READY, NodeState.UNKNOWN])
def test_name_and_address_of_a_living_node_are_taken(state: NodeState) -> None:
    fleet = world(build.node("n1", addr="192.0.2.1", state=state))
    with pytest.raises(AlreadyExists, match=r"hostname N1 belongs to node n1 \(n1\)"):
        join_as(fleet, "N1")
    with pytest.raises(AlreadyExists, match=r"address 192.0.2.1 belongs to node n1"):
        join_as(fleet, addr="192.0.2.1")


def test_a_host_that_left_joins_again_with_its_name_and_address() -> None:
    fleet = world(build.node("n1", addr="192.0.2.1", state=NodeState.DOWN))
    node = join_as(fleet, "n1", "192.0.2.1")
    assert node.id != "n1"
    fleet.apply(
        Writes(objects=(replace(node, status=replace(node.status, state=NodeState.READY)),))
    )
    # What was taken over is not taken back.
    with pytest.raises(AlreadyExists, match="hostname n1 belongs to node 0000"):
        greet(fleet, NodeId("n1"), described("n1"), "192.0.2.1", ())
    with pytest.raises(AlreadyExists, match=r"address 192.0.2.1 belongs to node 0000"):
        greet(fleet, NodeId("n1"), described("n9"), "192.0.2.1", ())


def left_alone(**changes: object) -> Node:
    """What `swarm leave` leaves behind, once it is silent."""
    usual = {"addr": "192.0.2.1", "state": DISCONNECTED, "availability": DRAIN, **changes}
    return build.node("n1", **usual)  # type: ignore[arg-type]


def test_a_node_that_was_emptied_and_fell_silent_is_down_when_its_host_joins_again() -> None:
    fleet = world(left_alone(), build.node("n2", addr="192.0.2.2", availability=DRAIN))
    fleet.apply(Writes(tasks=[build.task("web.1", node="n1", state=TaskState.SHUTDOWN)]))
    writes, node = join(
        fleet,
        JoinRequest(FLEET.token, described("n1"), "192.0.2.1"),
        NOW,
        build.Numbered(),
    )
    joined, former = writes.of(NODE)
    assert (joined, former.id) == (node, "n1")
    assert (former.status.state, former.status.since) == (NodeState.DOWN, NOW)
    told = events_of(fleet, writes)
    assert [(event.kind, event.id) for event in told] == [
        ("node.create", node.id),
        (EventKind.NODE_DOWN, "n1"),
    ]
    fleet.apply(writes)
    with pytest.raises(AlreadyExists, match="hostname n1 belongs to node 0000"):
        greet(fleet, NodeId("n1"), described("n1"), "192.0.2.1", ())


@pytest.mark.parametrize(
    ("node", "task"),
    [
        (left_alone(state=NodeState.READY), TaskState.SHUTDOWN),
        (left_alone(state=NodeState.UNKNOWN), TaskState.SHUTDOWN),
        (left_alone(availability=Availability.ACTIVE), TaskState.SHUTDOWN),
        (left_alone(availability=Availability.PAUSE), TaskState.SHUTDOWN),
        (left_alone(), TaskState.RUNNING),
        (left_alone(), TaskState.ASSIGNED),
    ],
)
def test_a_node_that_is_heard_or_not_emptied_keeps_name_and_address(
    node: Node, task: TaskState
) -> None:
    fleet = world(node)
    fleet.apply(Writes(tasks=[build.task("web.1", node="n1", state=task)]))
    with pytest.raises(AlreadyExists):
        join_as(fleet, "n1")
    with pytest.raises(AlreadyExists):
        join_as(fleet, addr="192.0.2.1")


def test_a_name_is_free_again_once_its_node_is_removed_or_renamed() -> None:
    fleet = world(build.node("n1", addr="192.0.2.1"), build.node("n2", addr="192.0.2.2"))
    fleet.apply(Writes(removed=(NODE.object_name(NodeId("n1")),)))
    join_as(fleet, "n1", "192.0.2.1")
    moved = replace(
        fleet.nodes[NodeId("n2")],
        description=described("other"),
        status=replace(fleet.nodes[NodeId("n2")].status, addr="192.0.2.3"),
    )
    fleet.apply(Writes(objects=(moved,)))
    join_as(fleet, "n2", "192.0.2.2")
    with pytest.raises(AlreadyExists):
        join_as(fleet, "other")


def test_a_hello_may_not_take_what_is_anothers() -> None:
    fleet = world(build.node("n1", addr="192.0.2.1"), build.node("n2", addr="192.0.2.2"))
    two = NodeId("n2")
    with pytest.raises(AlreadyExists):
        greet(fleet, two, described("n2"), "192.0.2.1", ())
    with pytest.raises(AlreadyExists):
        greet(fleet, two, described("n1"), "192.0.2.2", ())
    with pytest.raises(NotFound):
        greet(fleet, NodeId("n9\n"), described("n9"), "192.0.2.9", ())
    moved = greet(fleet, two, described("n2b"), "192.0.2.22", ())
    assert (moved.description.hostname, moved.addr) == ("n2b", "192.0.2.22")


def test_twins_of_earlier_times_stay_while_they_live() -> None:
    twins = [replace(build.node(n), description=described("twin")) for n in ("n1", "n2")]
    fleet = world(*twins)
    for node_id in ("n1", "n2"):
        status = fleet.nodes[NodeId(node_id)].status
        greet(fleet, NodeId(node_id), described("twin"), status.addr, ())


def test_an_address_of_a_network_is_no_hosts() -> None:
    with pytest.raises(AlreadyExists, match=r"network net \(10.128.0.0/16\)"):
        join_as(world(), addr="10.128.0.7")


def test_an_ipv6_address_is_its_first_reporters() -> None:
    first = build.node("n1", addr="192.0.2.1")
    first = replace(first, status=replace(first.status, addrs6=("2001:db8::1",)))
    fleet = world(first, build.node("n2", addr="192.0.2.2"))
    told = ["2001:db8::1", "fe80::1", "2001:db8::2"]
    greeted = greet(fleet, NodeId("n2"), described("n2"), "192.0.2.2", told)
    assert greeted.addrs6 == ("2001:db8::2",)
    many = [f"2001:db8::{n:x}" for n in range(1, 1000)]
    greeted = greet(fleet, NodeId("n1"), described("n1"), "192.0.2.1", many)
    assert len(greeted.addrs6) == 16
    with pytest.raises(InvalidArgument, match="IPv6"):
        greet(fleet, NodeId("n1"), described("n1"), "192.0.2.1", ["\x1b"])


CONTROLLERS = ("192.0.2.1:2377", "controller.example:2377", "[192.0.2.9]:2377")


def test_a_node_is_a_manager_because_a_controller_runs_there() -> None:
    fleet = world(build.node("n2", addr="192.0.2.2"))
    request = JoinRequest(FLEET.token, described("first"), "192.0.2.1", peer="192.0.2.1")
    _, first = join(fleet, request, build.NOW, build.Numbered(), CONTROLLERS)
    assert first.spec.role == "manager"
    impostor = replace(request, peer="192.0.2.66")
    _, claimed = join(fleet, impostor, build.NOW, build.Numbered(), CONTROLLERS)
    assert claimed.spec.role == "worker"
    plain = fleet.nodes[NodeId("n2")]
    assert promoted(plain, CONTROLLERS, "192.0.2.2") is plain
    assert promoted(plain, ("192.0.2.2:2377",), "192.0.2.2").spec.role == "manager"
    nowhere = replace(plain, status=replace(plain.status, addr=""))
    assert promoted(nowhere, ("c1",), "192.0.2.2") is nowhere


@pytest.mark.parametrize(
    ("peer", "role"),
    [
        ("192.0.2.1", "manager"),
        ("127.0.0.1", "manager"),
        ("::1", "manager"),
        ("192.0.2.2", "worker"),
        ("192.0.2.66", "worker"),
        ("2001:db8::1", "worker"),
        ("", "worker"),
    ],
)
def test_a_claimed_address_makes_no_manager(peer: str, role: str) -> None:
    node = build.node("n1", addr="192.0.2.1")
    assert promoted(node, ("192.0.2.1:2377", "192.0.2.2:2377"), peer).spec.role == role


def test_loopback_is_the_leaders_host_alone() -> None:
    node, controllers = build.node("n2", addr="192.0.2.2"), ("192.0.2.1:2377", "192.0.2.2:2377")
    assert promoted(node, controllers, "127.0.0.1") is node
    assert promoted(node, controllers, "192.0.2.2").spec.role == "manager"


def test_a_node_with_a_controller_from_before_becomes_a_manager_once() -> None:
    fleet = world(build.node("n1", addr="192.0.2.1"), build.node("n2", addr="192.0.2.2"))
    peers = {NodeId("n1"): "192.0.2.1"}
    assert managers(fleet, CONTROLLERS, lambda _: "192.0.2.66") == []
    (manager,) = managers(fleet, CONTROLLERS, lambda node_id: peers.get(node_id, ""))
    assert (manager.id, manager.spec.role, manager.version.index) == ("n1", "manager", 1)
    fleet.apply(Writes(objects=(manager,)))
    assert managers(fleet, CONTROLLERS, peers.__getitem__) == []
    # It stays one while its controller is away: tasks do not move for that.
    assert managers(fleet, (), peers.__getitem__) == []


def test_an_agent_that_is_too_old_is_told_what_to_upgrade() -> None:
    fleet = world(build.node("n1", addr="192.0.2.1"))
    new = NodeDescription(hostname="n1", protocol=PROTOCOL + 1)
    greet(fleet, NodeId("n1"), new, "192.0.2.1", ())
    assert PROTOCOL_OLDEST == 6
    for protocol, shown in ((0, 1), (5, 5)):
        old = replace(new, protocol=protocol)
        told = rf"speaks protocol {shown}, the controller 6 to {PROTOCOL}: upgrade pyswarm on the"
        with pytest.raises(InvalidArgument, match=told):
            greet(fleet, NodeId("n1"), old, "192.0.2.1", ())
        with pytest.raises(InvalidArgument, match="upgrade"):
            join_as(fleet, "n2", protocol=protocol)


@pytest.mark.parametrize(("minutes", "text"), [(51, "ahead of"), (-51, "behind")])
def test_a_host_whose_clock_is_far_off_may_not_join(minutes: int, text: str) -> None:
    request = JoinRequest(FLEET.token, described("new"), "192.0.2.99")
    skewed = replace(request, clock=NOW + minutes * MINUTE)
    with pytest.raises(InvalidArgument, match=f"clock is 3060 s {text} the controller's"):
        join(world(), skewed, NOW, build.Numbered())
    for allowed in (0, NOW, NOW + 50 * MINUTE, NOW - 50 * MINUTE):
        join(world(), replace(request, clock=allowed), NOW, build.Numbered())


def test_a_join_whose_answer_was_lost_is_answered_again() -> None:
    state = world()
    request = JoinRequest(FLEET.token, described("new"), "192.0.2.99", key_digest="aa")
    writes, node = join(state, request, NOW, build.Numbered())
    state.apply(writes)
    assert join(state, request, NOW, build.Numbered()) == (Writes(), node)
    with pytest.raises(AlreadyExists):
        join(state, replace(request, key_digest="bb"), NOW, build.Numbered())
