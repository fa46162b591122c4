"""Replicas that no node can take: few are stored tasks, the rest is a number, nobody is busy."""

from msgspec.structs import replace

from controller.api.queries.views import service_summary
from controller.api.queries.why import why
from pyswarm_core.decision import Writes
from pyswarm_core.ids import ServiceId
from pyswarm_core.limits import PENDING_SHOWN
from pyswarm_core.objects import Service
from pyswarm_core.specs import ReplicatedMode
from pyswarm_core.states import Availability, NodeState, TaskState
from tests.fixtures import build
from tests.fixtures.brain_world import changed
from tests.fixtures.build import GIB, NOW
from tests.fixtures.turns import Leader

MANY = 100_000
BIG = ServiceId("big")


def _leader(*services: Service, hosts: int = 3) -> Leader:
    world = Leader(build.state(nodes=build.nodes(hosts, memory=10 * GIB), services=services))
    world.turns()
    return world


def _big(replicas: int | None = MANY, memory: int = 100) -> Service:
    return build.service("big", replicas=replicas, spec=build.template(memory=memory * GIB))


def _change(world: Leader, *, replicas: int | None = None, memory: int | None = None) -> None:
    old = world.state.services[BIG]
    spec, version = old.spec, old.spec_version + 1
    template_version = old.template_version
    if replicas is not None:
        spec = replace(spec, mode=ReplicatedMode(replicas=replicas))
    if memory is not None:
        spec = replace(spec, task_template=build.template(memory=memory * GIB))
        template_version = version
    new = replace(old, spec=spec, spec_version=version, template_version=template_version)
    world.state.apply(Writes(objects=(new,)))
    world.turns()


def _states(world: Leader) -> dict[str, int]:
    tasks = world.desired(BIG)
    placed = sum(task.node_id != "" for task in tasks)
    return {"placed": placed, "pending": len(tasks) - placed}


def test_few_are_stored_and_then_nothing_is_left_to_decide() -> None:
    world = _leader(_big())
    assert len(world.work) == 1
    assert _states(world) == {"placed": 0, "pending": PENDING_SHOWN}
    assert all("lack memory" in task.detail.message for task in world.desired(BIG))
    world.wait(300)
    assert sum(work.services for work in world.work) <= 2, "once more for its message at most"


def test_as_many_as_fit_are_made_and_the_rest_still_waits() -> None:
    world = _leader(_big(memory=1))
    assert _states(world) == {"placed": 30, "pending": PENDING_SHOWN}
    world.put_node(build.node("n4", memory=50 * GIB))
    world.turns()
    assert _states(world) == {"placed": 80, "pending": PENDING_SHOWN}
    summary = service_summary(world.state, world.state.services[BIG])
    assert summary.desired == MANY
    assert summary.unlisted == MANY - 80 - PENDING_SHOWN
    slots = [task.slot for task in world.desired(BIG)]
    assert sorted(slots) == list(range(1, 80 + PENDING_SHOWN + 1))


def test_what_a_task_gives_back_is_filled_by_a_replica_that_had_no_task() -> None:
    world = _leader(_big(memory=1), build.service("other"))
    ended = next(task for task in world.desired(BIG) if task.node_id)
    world.report(ended.node_id, ended, TaskState.FAILED)
    world.turns()
    assert _states(world)["placed"] == 30
    assert not world.missing()


def test_scaled_below_what_is_stored_the_surplus_goes() -> None:
    world = _leader(_big())
    _change(world, replicas=50)
    assert _states(world) == {"placed": 0, "pending": PENDING_SHOWN}
    _change(world, replicas=5)
    assert _states(world) == {"placed": 0, "pending": 5}


def test_an_update_that_fits_places_all_replicas() -> None:
    world = _leader(_big(replicas=200))
    _change(world, memory=0)
    assert _states(world) == {"placed": 200, "pending": 0}
    assert {task.spec_version for task in world.desired(BIG)} == {2}


def test_removed_it_is_gone_at_once() -> None:
    world = _leader(_big())
    world.state.apply(Writes(objects=(replace(world.state.services[BIG], removing=True),)))
    world.turns()
    assert BIG not in world.state.services
    assert not world.state.tasks


def test_replacements_that_find_no_node_are_stored_no_more_than_others() -> None:
    world = _leader(_big(replicas=30, memory=1))
    assert _states(world) == {"placed": 30, "pending": 0}
    for node in list(world.state.nodes.values()):
        world.put_node(changed(node, state=NodeState.DOWN))
    world.turns()
    assert _states(world) == {"placed": 0, "pending": PENDING_SHOWN}
    before = len(world.work)
    world.turns()
    assert len(world.work) == before
    for node in list(world.state.nodes.values()):
        world.put_node(changed(node, state=NodeState.READY))
    world.turns()
    ending = [
        task for task in world.state.tasks.values() if task.desired_state is TaskState.SHUTDOWN
    ]
    for task in ending:
        world.report(task.node_id, task, TaskState.SHUTDOWN)
    world.turns()
    assert _states(world) == {"placed": 30, "pending": 0}


def test_replacements_without_a_node_do_not_wake_the_leader() -> None:
    world = _leader(_big(replicas=30, memory=1))
    for node in list(world.state.nodes.values()):
        world.put_node(changed(node, availability=Availability.PAUSE))
    for task in world.desired(BIG):
        world.report(task.node_id, task, TaskState.FAILED)
    world.turns()
    assert _states(world) == {"placed": 0, "pending": PENDING_SHOWN}
    world.wait(60)
    before = len(world.work)
    world.wait(300)
    assert len(world.work) == before


def test_a_global_service_stores_few_waiting_tasks_and_places_on_whatever_node_can() -> None:
    hosts = PENDING_SHOWN + 30
    world = _leader(_big(replicas=None), hosts=hosts)
    assert len(world.desired(BIG)) == PENDING_SHOWN
    shown = {task.node_id for task in world.desired(BIG)}
    hidden = sorted(node_id for node_id in world.state.nodes if node_id not in shown)[-1]
    assert service_summary(world.state, world.state.services[BIG]).unlisted == 30
    description = world.state.nodes[hidden].description
    larger = replace(description, resources=replace(description.resources, memory_bytes=200 * GIB))
    world.put_node(replace(world.state.nodes[hidden], description=larger))
    world.turns()
    placed = [task for task in world.desired(BIG) if task.state is TaskState.ASSIGNED]
    assert [task.node_id for task in placed] == [hidden]
    assert len(world.desired(BIG)) == PENDING_SHOWN + 1


def test_why_says_how_many_wait_for_which_reason() -> None:
    world = _leader(_big(memory=1))
    lines = why(world.state, BIG, NOW)
    assert f"{MANY - 30} replicas wait for a node, {PENDING_SHOWN} of them as tasks" in lines


def test_events_tell_once_that_tasks_wait() -> None:
    world = Leader(build.state(nodes=build.nodes(1), services=[_big()]))
    first = world.everything()
    assert [(event.kind, event.count) for event in first.events] == [
        ("task.create", PENDING_SHOWN),
        ("task.pending", MANY),
    ]
    world.turns()
    assert world.everything().events == ()
