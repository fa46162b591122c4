"""What a task that cannot reach its data is told: every way to go on."""

from msgspec.structs import replace

from controller.api.changes.moving.moves import begin_moves, cancel_moves
from controller.api.queries.why import why
from pyswarm_core.decision import Writes
from pyswarm_core.ids import NodeId
from pyswarm_core.states import Availability, NodeState
from tests.fixtures import build
from tests.fixtures.build import service, with_mount
from tests.fixtures.turns import Leader


def world() -> Leader:
    found = Leader(build.state(nodes=build.nodes(2)))
    db = service("db", replicas=1)
    db = replace(db, spec=with_mount(db.spec, "data"))
    found.state.apply(Writes(objects=(build.volume("data", "n1"), db)))
    settled(found)
    return found


def settled(found: Leader) -> None:
    for _ in range(10):
        found.turns()
        for task in list(found.state.tasks.values()):
            found.advance(found.state.tasks[task.id])
    found.turns()


def told(found: Leader) -> str:
    return "\n".join(why(found.state, "db", found.now))


def put(found: Leader, **changes: object) -> None:
    old = found.state.nodes[NodeId("n1")]
    status = replace(old.status, state=changes.get("state", old.status.state), since=found.now)
    spec = replace(old.spec, availability=changes.get("availability", old.spec.availability))
    found.state.apply(Writes(objects=(replace(old, status=status, spec=spec),)))
    settled(found)


REMEDIES = (
    "pyswarm volume restore data FILE --node NODE",
    "pyswarm volume forget data n1",
    "pyswarm service update --volume-placement any db",
)


def test_on_a_node_that_is_down_the_task_stays_with_all_remedies() -> None:
    found = world()
    put(found, state=NodeState.DOWN)
    text = told(found)
    assert "volume data has its only copy on n1" in text
    assert "wait until n1 is ready again" in text
    assert [one for one in REMEDIES if one not in text] == []


def test_a_task_that_waits_for_a_lost_node_has_all_remedies() -> None:
    found = world()
    put(found, availability=Availability.DRAIN)
    put(found, state=NodeState.DOWN)
    text = told(found)
    assert "volume data has its only copy on n1, which is down" in text
    assert [one for one in REMEDIES if one not in text] == []
    assert "restore n1 to ready" in text


def test_on_a_drained_node_the_data_can_be_moved() -> None:
    found = world()
    put(found, availability=Availability.DRAIN)
    text = told(found)
    assert "remedy: move the data: pyswarm volume move data --to NODE" in text
    assert "forget" not in text


def test_a_move_is_named_while_it_goes_on_and_why_it_failed() -> None:
    found = world()
    found.state.apply(begin_moves(found.state, ["data"], "n2", found.now)[0])
    settled(found)
    text = told(found)
    assert "volume data is being moved to n2" in text
    assert "pyswarm volume move --cancel data" in text
    found.state.apply(cancel_moves(found.state, ["data"], found.now)[0])
    put(found, availability=Availability.DRAIN)
    assert "the last move of volume data failed: it was cancelled" in told(found)
