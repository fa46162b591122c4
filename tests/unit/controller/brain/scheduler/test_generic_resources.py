"""Resources that users define: nodes offer numbers of kinds, tasks reserve some."""

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from controller.api.queries.views import node_view
from controller.api.queries.why import why
from pyswarm_core.decision import Writes
from pyswarm_core.docker.generic_resources import counted, offered, reserved
from pyswarm_core.ids import NodeId, ServiceId
from pyswarm_core.kinds import NODE
from pyswarm_core.objects import Node, Service
from pyswarm_core.resources import NodeResources, Reservations, Resources
from pyswarm_core.state import State
from pyswarm_core.states import TaskState, occupies
from tests.fixtures import build
from tests.fixtures.brain_world import BrainWorld
from tests.fixtures.build import NOW, dirty


def with_gpus(name: str, *texts: str) -> Node:
    made = build.node(name)
    resources = NodeResources(4 * 10**9, 8 << 30, offered("--node-generic-resource", texts))
    return replace(made, description=replace(made.description, resources=resources))


def needing(name: str, text: str, *, replicas: int = 1) -> Service:
    generic = reserved("--generic-resource", (text,))
    resources = Resources(reservations=Reservations(generic_resources=generic))
    return build.service(
        name, replicas=replicas, spec=replace(build.template(), resources=resources)
    )


def placed(state: State, name: str) -> list[str]:
    tasks = state.tasks_of_service(ServiceId(name))
    return sorted(task.node_id for task in tasks if task.node_id and occupies(task.state))


def test_tasks_run_where_enough_is_left() -> None:
    nodes = [with_gpus("n1", "gpu=a,b,c"), with_gpus("n2", "gpu=2", "ssd=1"), build.node("n3")]
    world = BrainWorld(build.state(nodes=nodes, services=[needing("web", "gpu=2", replicas=3)]))
    world.settle(dirty("web"))
    assert placed(world.state, "web") == ["n1", "n2"]
    (waiting,) = [t for t in world.state.tasks.values() if t.state is TaskState.PENDING]
    assert waiting.detail.message == (
        "no suitable node: 3 of 3 nodes lack gpu (needs 2, most free is 1 on n1)"
    )
    told = why(world.state, "web", NOW)
    assert "start the agent of n1 with --node-generic-resource gpu=NUMBER" in " ".join(told)


def test_the_end_of_a_task_and_a_node_that_offers_more_let_others_run() -> None:
    nodes = [with_gpus("n1", "gpu=1")]
    services = [needing("web", "gpu=1"), needing("api", "gpu=1"), needing("job", "gpu=1")]
    world = BrainWorld(build.state(nodes=nodes, services=services))
    world.settle(dirty("web", "api", "job"))
    (first,) = [task for task in world.state.tasks.values() if task.node_id]
    world.state.apply(Writes(objects=(with_gpus("n1", "gpu=2"),)))
    world.settle(dirty(nodes=("n1",)))
    assert sum(bool(task.node_id) for task in world.state.tasks.values()) == 2
    world.report(first.node_id, first, TaskState.FAILED)
    world.settle()
    free = world.state.node_table.free_generic("gpu")[world.state.node_table.rows[NodeId("n1")]]
    assert free == 0


def test_a_view_of_a_node_shows_what_is_reserved() -> None:
    nodes = [with_gpus("n1", "gpu=a,b,c", "ssd=4")]
    world = BrainWorld(build.state(nodes=nodes, services=[needing("web", "gpu=2")]))
    world.settle(dirty("web"))
    view = node_view(world.state, world.state.nodes[NodeId("n1")])
    assert counted(view.reserved.generic_resources) == {"gpu": 2}


OFFERS = st.sampled_from([(), ("gpu=2",), ("gpu=a,b,c", "ssd=1"), ("ssd=3",)])
NEEDS = st.sampled_from(["gpu=1", "gpu=2", "ssd=1", "gpu=1,ssd=1"])


@settings(max_examples=100, deadline=None)
@given(
    st.lists(OFFERS, min_size=1, max_size=3),
    st.lists(st.tuples(NEEDS, st.integers(1, 4)), max_size=4),
    st.integers(0, 255),
)
def test_prop_no_node_is_overfull_and_the_columns_agree(
    offers: list[tuple[str, ...]], needs: list[tuple[str, int]], ended: int
) -> None:
    nodes = [with_gpus(f"n{number}", *texts) for number, texts in enumerate(offers, 1)]
    services = [
        needing(f"s{number}", text, replicas=replicas)
        for number, (text, replicas) in enumerate(needs)
    ]
    world = BrainWorld(build.state(nodes=nodes, services=services))
    world.settle(dirty(*(service.id for service in services)))
    for index, task in enumerate(list(world.state.tasks.values())):
        if ended >> (index % 8) & 1 and occupies(task.state):
            world.report(task.node_id, task, TaskState.FAILED)
    world.settle()
    table = world.state.node_table
    for node in nodes:
        left = counted(node.description.resources.generic_resources)
        for task in world.state.tasks_of_node(node.id).values():
            for kind, count in world.state.footprint(task).generic if occupies(task.state) else ():
                left[kind] = left.get(kind, 0) - count
        assert all(count >= 0 for count in left.values())
        row = table.rows[node.id]
        assert {kind: int(table.free_generic(kind)[row]) for kind in left} == left
    for node in nodes:
        world.state.apply(Writes(removed=(NODE.object_name(node.id),)))
    assert not table.free_generic("gpu").any()
