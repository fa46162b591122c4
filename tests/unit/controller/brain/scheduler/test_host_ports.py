"""Tasks in mode host take their port of the host: one per node, and numbers that say why."""

from collections import Counter

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from controller.api.queries.why import why
from pyswarm_core.decision import Writes
from pyswarm_core.ids import ServiceId
from pyswarm_core.objects import Service
from pyswarm_core.ports import HostPort, overlaps
from pyswarm_core.specs import EndpointSpec, PortConfig, PublishMode
from pyswarm_core.state import State
from pyswarm_core.states import TaskState, occupies
from tests.fixtures import build
from tests.fixtures.brain_world import BrainWorld
from tests.fixtures.build import NOW, dirty, nodes


def on_port(
    name: str, number: int = 8080, *, replicas: int | None = 1, ip: str = "", version: int = 1
) -> Service:
    made = build.service(name, replicas=replicas, version=version)
    port = PortConfig(
        target_port=80, published_port=number, publish_mode=PublishMode.HOST, host_ip=ip
    )
    return replace(made, spec=replace(made.spec, endpoint_spec=EndpointSpec(ports=(port,))))


def placed(state: State, name: str) -> list[str]:
    tasks = state.tasks_of_service(ServiceId(name))
    return sorted(task.node_id for task in tasks if task.node_id and occupies(task.state))


def test_a_node_takes_one_task_per_host_port() -> None:
    world = BrainWorld(build.state(nodes=nodes(3), services=[on_port("web", replicas=5)]))
    world.settle(dirty("web"))
    assert placed(world.state, "web") == ["n1", "n2", "n3"]
    waiting = [task for task in world.state.tasks.values() if not task.node_id]
    assert {task.detail.message for task in waiting} == {
        "no suitable node: 3 of 3 nodes have host port 8080/tcp in use"
    }


def test_why_says_what_would_help() -> None:
    state = build.state(
        nodes=nodes(2),
        services=[on_port("web"), on_port("shop", ip="10.0.0.5")],
        tasks=[build.task("web.1", node="n1"), build.task("shop.1", state=TaskState.PENDING)],
    )
    paused = replace(state.nodes[build.node("n2").id].spec, availability="pause")
    state.apply(Writes(objects=(replace(state.nodes[build.node("n2").id], spec=paused),)))
    assert why(state, "shop.1", NOW)[1:] == [
        "1 of 2 nodes are paused or drained",
        "1 of 2 nodes have host port 10.0.0.5:8080/tcp in use",
        "remedy: free host port 10.0.0.5:8080/tcp on n1, or publish another number for shop",
        "remedy: let a node take tasks again: pyswarm node update --availability active n2",
    ]


def test_services_on_one_port_share_the_nodes_and_addresses_keep_them_apart() -> None:
    services = [on_port("a", replicas=2), on_port("b", replicas=2)]
    world = BrainWorld(build.state(nodes=nodes(4), services=services))
    world.settle(dirty("a", "b"))
    assert sorted(placed(world.state, "a") + placed(world.state, "b")) == ["n1", "n2", "n3", "n4"]
    services = [on_port("a", ip="10.0.0.5"), on_port("b", ip="10.0.0.6")]
    world = BrainWorld(build.state(nodes=nodes(1), services=services))
    world.settle(dirty("a", "b"))
    assert placed(world.state, "a") == placed(world.state, "b") == ["n1"]


def test_a_global_service_waits_on_the_nodes_whose_port_is_held() -> None:
    world = BrainWorld(build.state(nodes=nodes(3), services=[on_port("web")]))
    world.settle(dirty("web"))
    world.state.apply(Writes(objects=(on_port("agent", replicas=None),)))
    world.settle(dirty("agent"))
    held = placed(world.state, "web")
    assert set(placed(world.state, "agent")) == {"n1", "n2", "n3"} - set(held)
    (waiting,) = [task for task in world.state.tasks.values() if task.state < TaskState.ASSIGNED]
    assert waiting.detail.message == (
        "its node cannot take it: 1 of 1 nodes have host port 8080/tcp in use"
    )


def test_a_port_is_free_when_its_task_has_ended() -> None:
    world = BrainWorld(build.state(nodes=nodes(1), services=[on_port("a"), on_port("b")]))
    world.settle()
    (task,) = [task for task in world.state.tasks.values() if task.node_id]
    other = "b" if task.service_id == "a" else "a"
    gone = replace(world.state.services[task.service_id], removing=True)
    world.state.apply(Writes(objects=(gone,)))
    world.settle(dirty(gone.id))
    assert placed(world.state, other) == []
    world.report("n1", world.state.tasks[task.id], TaskState.SHUTDOWN)
    world.settle(dirty(gone.id))
    assert placed(world.state, other) == ["n1"]


def test_tasks_of_an_older_spec_hold_the_port_that_they_were_made_with() -> None:
    old = on_port("web", 8080)
    world = BrainWorld(build.state(nodes=nodes(1), services=[old]))
    world.settle(dirty("web"))
    (task,) = world.state.tasks.values()
    world.report("n1", task, TaskState.RUNNING)
    assert world.state.footprint(task).ports == (
        HostPort(old.spec.endpoint_spec.ports[0].protocol, 8080),
    )
    world.state.apply(Writes(objects=(on_port("shop", 8080),)))
    world.settle(dirty("shop"))
    assert placed(world.state, "shop") == []


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.one_of(
            st.builds(
                lambda name, number, replicas, ip: on_port(name, number, replicas=replicas, ip=ip),
                st.sampled_from("abc"),
                st.sampled_from([80, 81]),
                st.sampled_from([0, 1, 2, 3, None]),
                st.sampled_from(["", "10.0.0.5", "10.0.0.6"]),
            ),
            st.integers(0, 255),
        ),
        max_size=10,
    )
)
def test_prop_no_port_of_a_node_is_held_twice(events: list[Service | int]) -> None:
    world = BrainWorld(build.state(nodes=nodes(3)))
    for event in events:
        if isinstance(event, Service):
            if event.id not in world.state.services:
                world.state.apply(Writes(objects=(event,)))
        else:
            _end_some(world, event)
        world.settle()
        _check(world.state)


def _end_some(world: BrainWorld, bits: int) -> None:
    for index, task in enumerate(list(world.state.tasks.values())):
        if bits >> (index % 8) & 1 and occupies(task.state):
            world.report(task.node_id, task, TaskState.FAILED)


def _check(state: State) -> None:
    held = [
        (task.node_id, port)
        for task in state.tasks.values()
        if occupies(task.state)
        for port in state.footprint(task).ports
    ]
    for index, (node_id, port) in enumerate(held):
        row = state.node_table.rows[node_id]
        assert state.node_table.holding(port)[row]
        for other_id, other in held[index + 1 :]:
            same = (node_id, port.port) == (other_id, other.port)
            assert not (same and overlaps(port.host_ip, other.host_ip))
    nobody = HostPort(held[0][1].protocol, 9999) if held else None
    if nobody is not None:
        assert not state.node_table.holding(nobody).any()
    assert max(Counter(held).values(), default=0) <= 1
