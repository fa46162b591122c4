"""Updates that start first: the new task runs before the outdated one beside it ends."""

import pytest
from msgspec.structs import replace

from pyswarm_core.clock import SECOND, Instant
from pyswarm_core.decision import EventKind, Writes
from pyswarm_core.ids import NodeId
from pyswarm_core.indexes.tasks import is_desired
from pyswarm_core.objects import Task, TaskDetail, UpdateStatus, VersionRange
from pyswarm_core.specs import (
    EndpointSpec,
    FailureAction,
    Placement,
    PortConfig,
    PublishMode,
    RestartPolicy,
    ServiceSpec,
    UpdateConfig,
    UpdateOrder,
)
from pyswarm_core.states import Availability, NodeState, TaskState, UpdateState
from tests.fixtures import build
from tests.fixtures.brain_world import BrainWorld
from tests.fixtures.build import NOW, dirty, nodes, service, task

R, S = TaskState.RUNNING, TaskState.SHUTDOWN


def _world(
    *tasks: Task, replicas: int | None = 3, condition: str = "any", memory: int = 0
) -> BrainWorld:
    """Version 2 of the template is the current one."""
    spec = build.template("new", condition=condition, memory=memory * build.GIB)
    old = service("web", replicas=replicas)
    new = service("web", replicas=replicas, spec=spec, version=2, template_version=2)
    config = UpdateConfig(order=UpdateOrder.START_FIRST)
    new = build.updating(new, old.spec, config, slots=replicas or 3)
    return BrainWorld(build.state(nodes=nodes(3), services=[new], tasks=tasks))


def _running(slot: int, version: int, name: str = "", **fields: int) -> Task:
    return task(
        f"web.{slot}",
        node=f"n{slot}",
        version=version,
        task_id=name,
        **fields,  # type: ignore[arg-type]
    )


def _desired(world: BrainWorld) -> list[tuple[int, int]]:
    return sorted((t.slot, t.spec_version) for t in world.desired("web"))


def test_a_new_task_is_made_beside_the_first_outdated_one() -> None:
    world = _world(*(_running(slot, 1) for slot in (1, 2, 3)))
    decision = world.decide(dirty("web"))
    (new,) = decision.writes.tasks
    assert (new.slot, new.spec_version, new.state) == (1, 2, TaskState.ASSIGNED)
    assert [event.reason for event in decision.events if event.kind == EventKind.TASK_REPLACED] == [
        "outdated"
    ]
    world.settle(dirty("web"))
    assert _desired(world) == [(1, 1), (1, 2), (2, 1), (3, 1)]


def test_the_outdated_task_ends_once_the_new_one_runs() -> None:
    starting = replace(_running(1, 2, "new"), state=TaskState.STARTING)
    world = _world(_running(1, 1, "old"), starting, _running(2, 1), _running(3, 1))
    assert not world.decide(dirty("web")).writes
    world.report("n1", starting, R)
    ended, new = world.decide(dirty("web")).writes.tasks
    assert (ended.id, ended.desired_state) == ("old", S)
    assert (new.slot, new.spec_version) == (2, 2)


def test_the_outdated_task_runs_on_until_the_new_one_may_receive_connections() -> None:
    starting = replace(_running(1, 2, "new"), state=TaskState.STARTING)
    world = _world(_running(1, 1, "old"), starting, _running(2, 1), _running(3, 1))
    world.report("n1", starting, R, TaskDetail(serving=False))
    assert not world.decide(dirty("web")).writes


def test_no_more_than_one_slot_is_under_way() -> None:
    world = _world(_running(1, 1, "old"), _running(1, 2, "new"), _running(2, 1), _running(3, 1))
    world.settle(dirty("web"))
    assert _desired(world) == [(1, 2), (2, 1), (2, 2), (3, 1)]
    world.now = Instant(NOW + 5 * SECOND)
    world.settle(dirty("web"))
    assert _desired(world) == [(1, 2), (2, 1), (2, 2), (3, 1)]


@pytest.mark.parametrize("replicas", [3, None], ids=["replicated", "global"])
def test_an_update_reaches_every_slot_and_no_replica_is_missing_meanwhile(
    replicas: int | None,
) -> None:
    world = _world(*(_running(slot, 1) for slot in (1, 2, 3)), replicas=replicas)
    for _ in range(100):
        world.settle()
        running = [t for t in world.desired("web") if t.state is R]
        assert sorted({t.slot for t in running}) == [1, 2, 3]
        assert len(world.desired("web")) <= 4
        for found in list(world.state.tasks.values()):
            world.advance(found)
        world.now = Instant(world.now + SECOND)
    assert _desired(world) == [(1, 2), (2, 2), (3, 2)]


def test_a_failing_template_takes_no_replica_down_and_is_restarted_as_its_policy_says() -> None:
    world = _world(*(_running(slot, 1) for slot in (1, 2, 3)))
    for _ in range(60):
        world.settle()
        for found in list(world.state.tasks.values()):
            if found.spec_version == 2 and found.state is TaskState.STARTING:
                world.report(found.node_id, found, TaskState.FAILED)
            else:
                world.advance(found)
        world.now = Instant(world.now + SECOND)
    old = [t for t in world.desired("web") if t.spec_version == 1]
    assert [(t.slot, t.state) for t in old] == [(1, R), (2, R), (3, R)]
    made = [t for t in world.state.tasks.values() if t.spec_version == 2]
    assert {t.slot for t in made} == {1}
    assert 5 <= max(t.restarts for t in made) <= 13, "one restart per delay of five seconds"


def _status(world: BrainWorld) -> UpdateStatus:
    (web,) = world.state.services.values()
    assert web.update_status is not None
    return web.update_status


def _continuing() -> BrainWorld:
    world = _world(*(_running(slot, 1) for slot in (1, 2, 3)))
    (web,) = world.state.services.values()
    config = replace(web.spec.update_config, failure_action=FailureAction.CONTINUE)
    spec = replace(web.spec, update_config=config)
    world.state.apply(Writes(objects=(replace(web, spec=spec),)))
    return world


@pytest.mark.parametrize("serves", [True, False], ids=["crash loop", "never serves"])
def test_an_update_that_continues_ends_though_failed_slots_keep_their_outdated_tasks(
    *, serves: bool
) -> None:
    """The outdated task of such a slot ends once its new one serves."""
    world = _continuing()
    for _ in range(80 if serves else 700):
        world.settle()
        for found in list(world.state.tasks.values()):
            if (found.slot, found.spec_version, found.state) != (2, 2, TaskState.STARTING):
                world.advance(found)
            elif serves:
                world.report(found.node_id, found, TaskState.FAILED)
            else:
                world.report(found.node_id, found, R, TaskDetail(serving=False))
        world.now = Instant(world.now + SECOND)
    assert (_status(world).state, _status(world).failures) == (UpdateState.COMPLETED, 1)
    assert [one for one in _desired(world) if one != (2, 2)] == [(1, 2), (2, 1), (3, 2)]
    for _ in range(20):
        world.settle()
        for found in list(world.state.tasks.values()):
            if found.state is R and found.slot == 2:
                world.report(found.node_id, found, R)
            world.advance(world.state.tasks[found.id])
        world.now = Instant(world.now + SECOND)
    assert _desired(world) == [(1, 2), (2, 2), (3, 2)]
    assert _status(world).state is UpdateState.COMPLETED


def test_an_outdated_task_that_ends_meanwhile_is_not_replaced() -> None:
    starting = replace(_running(1, 2, "new"), state=TaskState.STARTING)
    world = _world(_running(1, 1, "old"), starting, _running(2, 1), _running(3, 1))
    world.report("n1", world.state.tasks[task("web.1", task_id="old").id], TaskState.FAILED)
    world.settle(dirty("web"))
    assert _desired(world) == [(1, 2), (2, 1), (3, 1)]


def test_an_outdated_task_on_a_lost_node_is_left_to_the_new_one() -> None:
    new = replace(_running(1, 2, "new"), node_id=build.node("n2").id, state=TaskState.PREPARING)
    world = _world(_running(1, 1, "old"), new, _running(2, 1), _running(3, 1))
    world.put_node(build.node("n1", state=NodeState.DOWN))
    world.settle(dirty(nodes=["n1"]))
    assert _desired(world) == [(1, 2), (2, 1), (3, 1)]


def test_a_new_task_that_no_node_can_take_waits_and_the_outdated_one_runs_on() -> None:
    world = _world(*(_running(slot, 1) for slot in (1, 2, 3)), memory=100)
    world.converge()
    assert _desired(world) == [(1, 1), (1, 2), (2, 1), (3, 1)]
    (waiting,) = (t for t in world.desired("web") if t.spec_version == 2)
    assert waiting.state is TaskState.PENDING


def test_of_two_outdated_tasks_the_one_that_runs_goes_on() -> None:
    """The template changed again before the new task of the update before ran."""
    starting = replace(_running(1, 1, "later"), state=TaskState.STARTING, created_at=NOW)
    world = _world(_running(1, 1, "first"), starting, _running(2, 1), _running(3, 1))
    world.settle(dirty("web"))
    slot = [t for t in world.desired("web") if t.slot == 1]
    assert [(t.id, t.spec_version) for t in slot if t.spec_version == 1] == [("first", 1)]
    assert [t.state for t in slot if t.spec_version == 2] == [TaskState.ASSIGNED]


@pytest.mark.parametrize("order", UpdateOrder)
def test_of_two_outdated_tasks_the_one_that_serves_goes_on(order: UpdateOrder) -> None:
    """The template changed again while the new task of the update before ran and never served."""
    unready = TaskDetail(serving=False)
    tasks = [_running(slot, 1, f"old{slot}") for slot in (1, 2, 3)]
    tasks += [replace(_running(slot, 1, f"v2{slot}"), detail=unready) for slot in (1, 2, 3)]
    world = _world(*tasks)
    (web,) = world.state.services.values()
    config = UpdateConfig(order=order, parallelism=1)
    spec = replace(web.spec, update_config=config)
    world.state.apply(Writes(objects=(replace(web, spec=spec),)))
    world.settle(dirty("web"))
    left = [task.id for task in world.desired("web") if task.spec_version == 1]
    stays = ["old1", "old2", "old3"] if order is UpdateOrder.START_FIRST else ["old2", "old3"]
    assert sorted(left) == stays


def test_a_stopping_task_of_the_template_that_an_update_returns_to_begins_no_slot() -> None:
    stopping = [replace(_running(slot, 1, f"old{slot}"), desired_state=S) for slot in (1, 2, 3)]
    world = _world(*stopping, *(_running(slot, 2) for slot in (1, 2, 3)))
    (web,) = world.state.services.values()
    back = replace(web, spec_version=3, template_version=3, same_template=(VersionRange(1, 1),))
    world.state.apply(Writes(objects=(back,)))
    world.settle(dirty("web"))
    assert _desired(world) == [(1, 2), (1, 3), (2, 2), (3, 2)]


def test_a_slot_that_is_given_up_loses_both() -> None:
    starting = replace(_running(3, 2, "new"), state=TaskState.STARTING)
    tasks = [_running(1, 2), _running(2, 2), _running(3, 1, "old"), starting]
    world = _world(*tasks, replicas=2)
    world.settle(dirty("web"))
    assert _desired(world) == [(1, 2), (2, 2)]


def test_a_new_task_that_completes_ends_the_update_of_its_slot() -> None:
    ran = TaskDetail(ran=UpdateConfig().monitor)
    done = replace(_running(1, 2, "new"), state=TaskState.COMPLETE, detail=ran)
    world = _world(_running(1, 1, "old"), done, replicas=1, condition="none")
    world.settle(dirty("web"))
    assert _desired(world) == []


@pytest.mark.parametrize("condition", ["none", "on-failure", "any"])
@pytest.mark.parametrize("action", FailureAction)
def test_a_new_task_that_completes_within_the_monitored_time_leaves_the_outdated_one(
    condition: str, action: FailureAction
) -> None:
    """Its slot has failed: also an update that is rolled back at once ends nothing that serves."""
    ran = TaskDetail(ran=UpdateConfig().monitor - 1)
    done = replace(_running(1, 2, "new"), state=TaskState.COMPLETE, detail=ran)
    world = _world(_running(1, 1, "old"), done, replicas=1, condition=condition)
    (web,) = world.state.services.values()
    config = replace(web.spec.update_config, failure_action=action)
    world.state.apply(Writes(objects=(replace(web, spec=replace(web.spec, update_config=config)),)))
    world.settle(dirty("web"))
    assert _status(world).failures == (0 if action is FailureAction.ROLLBACK else 1)
    assert "old" in [task.id for task in world.desired("web")]


def test_new_tasks_that_complete_again_and_again_leave_the_outdated_one() -> None:
    """Also while a completed one waits for its restart."""
    world = _continuing()
    (web,) = world.state.services.values()
    template = replace(web.spec.task_template, restart_policy=RestartPolicy(delay=0))
    spec = replace(web.spec, task_template=template)
    world.state.apply(Writes(objects=(replace(web, spec=spec),)))
    for _ in range(40):
        world.settle()
        assert [t.state for t in world.desired("web") if t.spec_version == 1] == [R, R, R]
        for found in list(world.state.tasks.values()):
            if found.spec_version == 2 and found.state is TaskState.STARTING:
                world.report(found.node_id, found, TaskState.COMPLETE, TaskDetail(ran=1))
            else:
                world.advance(found)
        world.now = Instant(world.now + SECOND // 8)
    assert max(t.restarts for t in world.state.tasks.values()) >= 3


def test_a_new_task_that_fails_for_good_leaves_the_outdated_one() -> None:
    failed = replace(_running(1, 2, "new"), state=TaskState.FAILED)
    world = _world(_running(1, 1, "old"), failed, replicas=1, condition="none")
    world.settle(dirty("web"))
    assert _desired(world) == [(1, 1)]


def test_what_a_completed_rollback_left_beside_a_failed_task_begins_no_update() -> None:
    """The updates of the service are stop-first, its rollbacks start-first."""
    failed = replace(_running(1, 2, "new"), state=TaskState.FAILED, desired_state=S)
    world = _world(_running(1, 1, "old"), failed, replicas=1, condition="none")
    (web,) = world.state.services.values()
    status = replace(_status(world), state=UpdateState.ROLLBACK_COMPLETED)
    spec = replace(web.spec, update_config=UpdateConfig())
    world.state.apply(Writes(objects=(replace(web, spec=spec, update_status=status),)))
    assert not world.decide(dirty("web")).writes


def test_stop_first_never_has_two() -> None:
    world = _world(_running(1, 1, "old"), _running(1, 2, "new"), _running(2, 1), _running(3, 1))
    (web,) = world.state.services.values()
    stop_first = replace(web, spec=replace(web.spec, update_config=UpdateConfig()))
    world.state.apply(Writes(objects=(stop_first,)))
    ended = [t.id for t in world.decide(dirty("web")).writes.tasks if not is_desired(t)]
    assert ended == ["old", "web.2"]


def _full_world(*tasks: Task) -> BrainWorld:
    """Each node takes one task of the service, and all nodes have one."""
    world = _world(*tasks)
    (web,) = world.state.services.values()
    template = replace(web.spec.task_template, placement=Placement(max_replicas=1))
    spec = replace(web.spec, task_template=template)
    world.state.apply(Writes(objects=(replace(web, spec=spec),)))
    return world


def test_a_slot_without_room_beside_its_outdated_task_is_updated_stop_first_and_says_so() -> None:
    world = _full_world(*(_running(slot, 1, f"old{slot}") for slot in (1, 2, 3)))
    decision = world.decide(dirty("web"))
    assert {(t.slot, t.spec_version, t.desired_state) for t in decision.writes.tasks} == {
        (1, 1, S),
        (1, 2, R),
    }
    reasons = [e.reason for e in decision.events if e.kind == EventKind.TASK_SHUTDOWN]
    assert reasons == ["outdated; stopped first: no node takes the new task beside it"]


def test_an_update_without_room_reaches_every_slot_one_after_the_other() -> None:
    world = _full_world(*(_running(slot, 1) for slot in (1, 2, 3)))
    for _ in range(100):
        world.settle()
        assert len({t.slot for t in world.desired("web") if t.state is R}) >= 2
        for found in list(world.state.tasks.values()):
            world.advance(found)
        world.now = Instant(world.now + SECOND)
    assert _desired(world) == [(1, 2), (2, 2), (3, 2)]


def test_an_outdated_task_runs_on_where_its_own_node_could_not_take_the_new_one_either() -> None:
    world = _full_world(*(_running(slot, 1) for slot in (1, 2, 3)))
    paused = [
        replace(node, spec=replace(node.spec, availability=Availability.PAUSE))
        for node in world.state.nodes.values()
    ]
    world.state.apply(Writes(objects=tuple(paused)))
    world.settle()
    assert [t.slot for t in world.desired("web") if t.spec_version == 1] == [1, 2, 3]


def test_an_update_goes_on_when_the_next_one_drops_the_task_that_waited() -> None:
    waiting = replace(_running(1, 2, "waiting"), node_id=NodeId(""), state=TaskState.PENDING)
    world = _world(_running(1, 1), waiting, _running(2, 1), _running(3, 1))
    (web,) = world.state.services.values()
    newer = replace(web, spec_version=3, template_version=3)
    world.state.apply(Writes(objects=(newer,)))
    decision = world.decide(dirty("web"))
    assert decision.writes.removed_tasks == ["waiting"]
    assert [(t.slot, t.spec_version) for t in decision.writes.tasks] == [(1, 3)]


def _alone(spec: ServiceSpec, **node: object) -> BrainWorld:
    """One replica of version 1 runs on the only node, and version 2 of the template is `spec`'s."""
    old = service("web", spec=build.template(memory=build.GIB, networks=["net"]))
    old = replace(old, spec=replace(old.spec, endpoint_spec=_published(80)))
    new = replace(old, spec=spec, spec_version=2, template_version=2)
    new = build.updating(new, old.spec, UpdateConfig(order=UpdateOrder.START_FIRST))
    hosts = [build.node("n1", **node)]  # type: ignore[arg-type]
    secret = build.network("secret", "10.129.0.0/16", 4097)
    secret = replace(secret, spec=replace(secret.spec, encrypted=True))
    networks = [build.network("net"), secret]
    state = build.state(nodes=hosts, services=[new], networks=networks)
    state.apply(Writes(tasks=[_running(1, 1)]))
    return BrainWorld(state)


def _published(port: int) -> EndpointSpec:
    host = PortConfig(target_port=80, published_port=port, publish_mode=PublishMode.HOST)
    return EndpointSpec(ports=(host,))


def _spec(port: int = 80, **template: object) -> ServiceSpec:
    found = service("web", spec=build.template("new", **template)).spec  # type: ignore[arg-type]
    return replace(found, endpoint_spec=_published(port))


@pytest.mark.parametrize(
    ("spec", "node"),
    [
        (_spec(), {}),
        (_spec(memory=5 * build.GIB), {"memory": 5 * build.GIB}),
        (_spec(cpus=1, networks=["net"]), {"max_tasks": 1}),
    ],
    ids=["host port", "memory", "number of tasks"],
)
def test_the_fallback_frees_what_the_outdated_task_occupies(
    spec: ServiceSpec, node: dict[str, object]
) -> None:
    world = _alone(spec, **node)
    world.converge()
    assert [(t.slot, t.spec_version, t.state) for t in world.desired("web")] == [(1, 2, R)]


@pytest.mark.parametrize(
    ("spec", "node"),
    [
        (_spec(networks=["secret"]), {"lacks": ("esp",)}),
        (_spec(networks=["missing"]), {}),
        (_spec(memory=6 * build.GIB), {"memory": 5 * build.GIB}),
    ],
    ids=["kernel", "network", "memory"],
)
def test_a_task_that_serves_is_not_stopped_where_that_would_not_help(
    spec: ServiceSpec, node: dict[str, object]
) -> None:
    spec = replace(spec, endpoint_spec=EndpointSpec())
    world = _alone(spec, **node)
    world.settle()
    assert [(t.slot, t.spec_version, t.state) for t in world.desired("web")] == [
        (1, 1, R),
        (1, 2, TaskState.PENDING),
    ]
