"""Updates of services with more replicas than the nodes can take."""

import pytest
from msgspec.structs import replace

from pyswarm_core.clock import SECOND, Instant
from pyswarm_core.decision import Writes
from pyswarm_core.indexes.tasks import is_desired
from pyswarm_core.kinds import ObjectName
from pyswarm_core.limits import PENDING_SHOWN
from pyswarm_core.objects import Service, Task
from pyswarm_core.specs import TaskSpec, UpdateConfig, UpdateOrder
from pyswarm_core.states import NodeState, TaskState, UpdateState
from tests.fixtures import build
from tests.fixtures.brain_world import BrainWorld
from tests.fixtures.build import GIB, NOW, dirty, nodes, service, task

RUNNING, PENDING = TaskState.RUNNING, TaskState.PENDING


def _world(
    new: TaskSpec,
    *tasks: Task,
    replicas: int | None = 4,
    order: UpdateOrder = UpdateOrder.STOP_FIRST,
    parallelism: int = 1,
) -> BrainWorld:
    """Three nodes of 8 GiB, each with a task of the old template; the last replica has none."""
    old = service("web", replicas=replicas, spec=build.template("old", max_replicas=1))
    web = service("web", replicas=replicas, spec=new, version=2, template_version=2)
    config = UpdateConfig(order=order, parallelism=parallelism)
    web = _waited(build.updating(web, old.spec, config, slots=4))
    held = [task(f"web.{n}", node=f"n{n}") for n in (1, 2, 3)]
    return BrainWorld(build.state(nodes=nodes(3), services=[web], tasks=[*held, *tasks]))


def _waited(web: Service) -> Service:
    """One of its slots had no node when the update began."""
    assert web.update_status is not None
    return replace(web, update_status=replace(web.update_status, waiting=1))


def _play(world: BrainWorld, least: int, seconds: int = 60) -> list[tuple[int, TaskState]]:
    """The versions and states after so long; at any time `least` tasks run."""
    for _ in range(seconds):
        world.settle()
        running = sum(one.state is RUNNING for one in world.desired("web"))
        assert running >= least, "too few run"
        for found in list(world.state.tasks.values()):
            world.advance(found)
        world.now = Instant(world.now + SECOND)
    return sorted((one.spec_version, one.state) for one in world.desired("web"))


@pytest.mark.parametrize("parallelism", [1, 2])
@pytest.mark.parametrize("order", UpdateOrder)
@pytest.mark.parametrize("stored", [True, False], ids=["waits already", "is made"])
def test_a_replica_that_finds_no_node_holds_up_no_other(
    order: UpdateOrder, parallelism: int, stored: bool
) -> None:
    waiting = [task("web.4", state=PENDING)] if stored else []
    spec = build.template("new", max_replicas=1)
    world = _world(spec, *waiting, order=order, parallelism=parallelism)
    assert _play(world, 3 - parallelism) == [(2, PENDING), (2, RUNNING), (2, RUNNING), (2, RUNNING)]


@pytest.mark.parametrize("parallelism", [1, 2])
@pytest.mark.parametrize("order", UpdateOrder)
def test_a_template_that_no_node_can_take_dismantles_nothing(
    order: UpdateOrder, parallelism: int
) -> None:
    spec = build.template("new", memory=9 * GIB)
    world = _world(spec, replicas=4, order=order, parallelism=parallelism)
    _play(world, 3 if order is UpdateOrder.START_FIRST else 3 - parallelism)


def test_where_a_new_task_takes_the_room_of_two_the_update_stops_with_the_first() -> None:
    old = service("web", replicas=4, spec=build.template("old", memory=2 * GIB))
    spec = build.template("new", memory=4 * GIB)
    web = service("web", replicas=4, spec=spec, version=2, template_version=2)
    web = build.updating(web, old.spec, UpdateConfig(), slots=4)
    held = [task(f"web.{n}", node="n1") for n in (1, 2, 3, 4)]
    world = BrainWorld(build.state(nodes=nodes(1), services=[web], tasks=held))
    assert _play(world, 3) == [(1, RUNNING), (1, RUNNING), (1, RUNNING), (2, PENDING)]


@pytest.mark.parametrize("order", UpdateOrder)
def test_a_full_node_holds_up_no_other_node_of_a_global_service(order: UpdateOrder) -> None:
    full = task("other.1", node="n3")
    waiting = task("web.3", node="n3", state=PENDING)
    other = service("other", spec=build.template(memory=8 * GIB))
    web = service("web", replicas=None, spec=build.template("old", memory=GIB))
    spec = build.template("new", memory=GIB)
    new = service("web", replicas=None, spec=spec, version=2, template_version=2)
    new = _waited(build.updating(new, web.spec, UpdateConfig(order=order), slots=3))
    held = [task(f"web.{n}", node=f"n{n}") for n in (1, 2)]
    state = build.state(nodes=nodes(3), services=[other, new], tasks=[full, waiting, *held])
    world = BrainWorld(state)
    assert _play(world, 1) == [(2, PENDING), (2, RUNNING), (2, RUNNING)]


def _global(memory: int, *tasks: Task, count: int = 4, parallelism: int = 1) -> BrainWorld:
    """`count` nodes with an outdated task each, updated start-first; n1 also runs another's."""
    other = service("other", spec=build.template(memory=6 * GIB))
    old = service("web", replicas=None, spec=build.template("old", memory=GIB))
    spec = build.template("new", memory=memory)
    web = service("web", replicas=None, spec=spec, version=2, template_version=2)
    config = UpdateConfig(order=UpdateOrder.START_FIRST, parallelism=parallelism)
    web = build.updating(web, old.spec, config, slots=count)
    held = [
        task("other.1", node="n1"),
        *(task(f"web.{n}", node=f"n{n}") for n in range(1, count + 1)),
    ]
    state = build.state(nodes=nodes(count), services=[other, web], tasks=[*held, *tasks])
    return BrainWorld(state)


@pytest.mark.parametrize("stored", [True, False], ids=["waits already", "is made"])
def test_with_start_first_one_full_node_holds_up_no_other_node_of_a_global_service(
    *, stored: bool
) -> None:
    waiting = [task("web.1", task_id="new", node="n1", state=PENDING, version=2)]
    world = _global(4 * GIB, *(waiting if stored else []))
    left = [(1, RUNNING), (2, PENDING), (2, RUNNING), (2, RUNNING), (2, RUNNING)]
    assert _play(world, 4) == left
    (web,) = (one for one in world.state.services.values() if one.id == "web")
    assert web.update_status is not None
    assert web.update_status.state is UpdateState.UPDATING
    (full,) = (one for one in world.state.tasks.values() if one.service_id == "other")
    world.report("n1", full, TaskState.FAILED)
    world.state.apply(Writes(removed=(ObjectName("service/other"),), removed_tasks=[full.id]))
    assert _play(world, 4) == [(2, RUNNING)] * 4
    web = world.state.services[web.id]
    assert web.update_status is not None
    assert web.update_status.state is UpdateState.COMPLETED


def test_a_template_that_fits_on_no_node_of_a_large_global_service_ends_no_task() -> None:
    world = _global(9 * GIB, count=PENDING_SHOWN + 5, parallelism=5)
    found = _play(world, PENDING_SHOWN + 5, seconds=5)
    assert found.count((1, RUNNING)) == PENDING_SHOWN + 5
    assert found.count((2, PENDING)) == PENDING_SHOWN


@pytest.mark.parametrize("replicas", [4, None], ids=["replicated", "global"])
def test_slots_whose_outdated_tasks_end_to_make_room_follow_one_by_one(
    replicas: int | None,
) -> None:
    old = service("web", replicas=replicas, spec=build.template("old", memory=GIB))
    spec = build.template("new", memory=8 * GIB)
    web = service("web", replicas=replicas, spec=spec, version=2, template_version=2)
    web = build.updating(web, old.spec, UpdateConfig(order=UpdateOrder.START_FIRST), slots=4)
    held = [task(f"web.{n}", node=f"n{n}") for n in (1, 2, 3, 4)]
    world = BrainWorld(build.state(nodes=nodes(4), services=[web], tasks=held))
    assert _play(world, 3) == [(2, RUNNING)] * 4


def test_nodes_that_get_room_for_the_new_task_later_follow_one_by_one() -> None:
    world = _global(7 * GIB + GIB // 2)
    for number in (2, 3, 4):
        world.put_node(build.node(f"n{number}", memory=GIB))
    _play(world, 4, seconds=10)
    for number in (2, 3, 4):
        world.put_node(build.node(f"n{number}"))
    left = [(1, RUNNING), (2, PENDING), (2, RUNNING), (2, RUNNING), (2, RUNNING)]
    assert _play(world, 3) == left


def test_a_host_that_is_lost_during_the_update_holds_it_up_no_longer() -> None:
    world = _world(build.template("new", max_replicas=1), replicas=3)
    _play(world, 2, seconds=3)
    world.put_node(build.node("n1", state=NodeState.DOWN))
    assert _play(world, 1) == [(2, PENDING), (2, RUNNING), (2, RUNNING)]


def test_the_delay_of_slots_that_serve_is_kept_while_others_wait() -> None:
    spec = build.template("new", max_replicas=1)
    world = _world(spec, task("web.4", state=PENDING, version=2))
    (web,) = world.state.services.values()
    config = UpdateConfig(delay=60 * SECOND)
    web = replace(web, spec=replace(web.spec, update_config=config))
    newer = task("web.1", node="n1", version=2)
    world.state.apply(Writes(objects=(web,), tasks=[newer]))
    decision = world.decide(dirty("web"))
    assert all(is_desired(one) for one in decision.writes.tasks)
    assert decision.wakes == {"web": NOW + 60 * SECOND}
    world.now = Instant(NOW + 60 * SECOND)
    ended = [one.slot for one in world.decide(dirty("web")).writes.tasks if not is_desired(one)]
    assert ended == [2]


def test_an_outdated_task_runs_on_beside_the_new_one_where_another_slot_finds_no_node() -> None:
    old = service("web", replicas=3, spec=build.template("old", max_replicas=1))
    spec = build.template("new", max_replicas=1)
    web = service("web", replicas=3, spec=spec, version=2, template_version=2)
    config = UpdateConfig(order=UpdateOrder.START_FIRST, parallelism=2)
    web = build.updating(web, old.spec, config, slots=3)
    held = [task(f"web.{n}", node=f"n{n}") for n in (1, 2, 3)]
    world = BrainWorld(build.state(nodes=nodes(4), services=[web], tasks=held))
    world.put_node(build.node("n3", state=NodeState.DOWN))
    world.settle()
    slots = sorted((one.slot, one.spec_version, one.state) for one in world.desired("web"))
    assert slots[:2] == [(1, 1, RUNNING), (1, 2, TaskState.ASSIGNED)]
    assert _play(world, 1) == [(2, RUNNING)] * 3


def test_slots_whose_outdated_tasks_ended_are_updated_once_one_that_waits_has_a_node() -> None:
    spec = build.template("new", memory=9 * GIB, condition="none")
    old = service("web", replicas=2)
    web = service("web", replicas=2, spec=spec, version=2, template_version=2)
    web = build.updating(web, old.spec, UpdateConfig(order=UpdateOrder.START_FIRST), slots=2)
    waiting = task("web.1", state=PENDING, version=2, restarts=1)
    ended = task("web.2", node="n1", state=TaskState.COMPLETE)
    ended = replace(ended, desired_state=TaskState.SHUTDOWN)
    world = BrainWorld(build.state(nodes=nodes(1), services=[web], tasks=[waiting, ended]))
    _play(world, 0)
    (web,) = world.state.services.values()
    assert web.update_status is not None
    assert web.update_status.state is UpdateState.UPDATING
    world.put_node(build.node("n2", memory=64 * GIB))
    assert _play(world, 0) == [(2, RUNNING), (2, RUNNING)]
    (web,) = world.state.services.values()
    assert web.update_status is not None
    assert web.update_status.state is UpdateState.COMPLETED


@pytest.mark.parametrize("order", UpdateOrder)
def test_a_service_that_takes_the_room_of_the_first_slot_costs_the_update_no_other(
    order: UpdateOrder,
) -> None:
    old = service("web", replicas=3, spec=build.template("old", memory=8 * GIB))
    spec = build.template("new", memory=8 * GIB)
    web = service("web", replicas=3, spec=spec, version=2, template_version=2)
    web = build.updating(web, old.spec, UpdateConfig(order=order), slots=3)
    other = service("other", replicas=3, spec=build.template(memory=8 * GIB))
    held = [task(f"web.{n}", node=f"n{n}") for n in (1, 2, 3)]
    waiting = [task(f"other.{n}", state=PENDING) for n in (1, 2, 3)]
    state = build.state(nodes=nodes(3), services=[other, web], tasks=[*held, *waiting])
    world = BrainWorld(state)
    _play(world, 2)
    assert sum(one.state is RUNNING for one in world.desired("other")) <= 1
