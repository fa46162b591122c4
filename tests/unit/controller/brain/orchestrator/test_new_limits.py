"""Limits that change in running containers: an update that replaces only the tasks whose agents
cannot change them.
"""

import pytest
from msgspec.structs import replace

from controller.api.changes.services import Rollback, Update, rollback_service, update_service
from controller.api.queries.progress import service_progress
from pyswarm_core.clock import SECOND, Instant
from pyswarm_core.decision import Writes
from pyswarm_core.ids import ServiceId
from pyswarm_core.objects import Service, Task, TaskDetail, Version
from pyswarm_core.specs import FailureAction, Limits, Resources, TaskSpec, UpdateConfig
from pyswarm_core.states import Availability, TaskState, UpdateState
from tests.fixtures import build
from tests.fixtures.brain_world import BrainWorld
from tests.fixtures.build import NOW, SERVES, dirty, node, nodes, service, task

WEB = ServiceId("web")
LONG_AGO = NOW - 60 * SECOND


def spec_with(mib: int, image: str = "busybox") -> TaskSpec:
    return replace(
        build.template(image), resources=Resources(limits=Limits(memory_bytes=mib << 20))
    )


def running(slot: int) -> Task:
    return task(f"web.{slot}", node=f"n{slot}", created=LONG_AGO, at=LONG_AGO)


def world_of(*tasks: Task, **config: object) -> BrainWorld:
    web = service("web", replicas=3)
    spec = replace(web.spec, update_config=UpdateConfig(**config))  # type: ignore[arg-type]
    web = replace(web, spec=spec, version=Version(index=1))
    held = tasks or (running(1), running(2), running(3))
    return BrainWorld(build.state(nodes=nodes(3), services=[web], tasks=held))


def update(world: BrainWorld, template: TaskSpec) -> Service:
    web = world.state.services[WEB]
    spec = replace(web.spec, task_template=template)
    writes, updated = update_service(
        world.state, Update("web", web.version, spec), (), world.now, world.ids
    )
    world.state.apply(writes)
    return updated


def acknowledge(world: BrainWorld, slot: int, version: int, error: str = "") -> None:
    """The agent of the slot's task changed its limits, or could not."""
    (held,) = [t for t in world.desired("web") if t.slot == slot]
    detail = replace(SERVES, in_place_version=version, in_place_error=error)
    world.report(held.node_id, held, TaskState.RUNNING, detail)


def state_of(world: BrainWorld) -> UpdateState | None:
    status = world.state.services[WEB].update_status
    return status.state if status else None


def test_new_limits_make_no_new_task_and_are_an_update_until_all_have_them() -> None:
    world = world_of()
    before = dict(world.state.tasks)
    updated = update(world, spec_with(64))
    assert updated.update_status is not None
    assert (updated.update_status.slots, updated.update_status.to_version) == (3, 2)
    for slot in (1, 2, 3):
        assert state_of(world) is UpdateState.UPDATING
        assert not service_progress(world.state, WEB, world.now).converged
        acknowledge(world, slot, 2)
        world.settle(dirty("web"))
    assert state_of(world) is UpdateState.COMPLETED
    assert world.state.tasks.keys() == before.keys()
    assert service_progress(world.state, WEB, world.now).converged


def test_a_task_whose_limits_cannot_be_changed_is_replaced_alone() -> None:
    world = world_of()
    update(world, spec_with(64))
    acknowledge(world, 1, 2)
    acknowledge(world, 2, 2, "40MiB are in use")
    world.settle(dirty("web"))
    assert [t.slot for t in world.desired("web")] == [1, 3]
    acknowledge(world, 3, 2)
    world.converge()
    assert [(t.slot, t.spec_version) for t in world.desired("web")] == [(1, 1), (2, 2), (3, 1)]
    assert state_of(world) is UpdateState.COMPLETED


def test_a_refusal_on_a_paused_node_is_replaced_once_the_node_is_active_again() -> None:
    agent = service("agent", replicas=None)
    agent = replace(agent, version=Version(index=1))
    hosts = [node("n1"), node("n2", availability=Availability.PAUSE)]
    tasks = [task(f"agent.{n}", node=f"n{n}", created=LONG_AGO, at=LONG_AGO) for n in (1, 2)]
    world = BrainWorld(build.state(nodes=hosts, services=[agent], tasks=tasks))
    spec = replace(agent.spec, task_template=spec_with(64))
    changed = Update("agent", agent.version, spec)
    world.state.apply(update_service(world.state, changed, (), world.now, world.ids)[0])
    for held, error in zip(tasks, ("", "40MiB are in use"), strict=True):
        detail = replace(SERVES, in_place_version=2, in_place_error=error)
        world.report(held.node_id, held, TaskState.RUNNING, detail)
    world.converge()
    assert [t.spec_version for t in world.desired("agent")] == [1, 1]
    (agent,) = world.state.services.values()
    assert agent.update_status is not None
    assert agent.update_status.state is UpdateState.COMPLETED
    world.put_node(node("n2"))
    assert world.decide(dirty(nodes=["n2"])).writes
    world.converge()
    assert [(t.slot, t.spec_version) for t in world.desired("agent")] == [(1, 1), (2, 2)]


def test_refusals_are_replaced_by_the_settings_of_the_update() -> None:
    world = world_of(parallelism=1)
    update(world, spec_with(64))
    for slot in (1, 2, 3):
        acknowledge(world, slot, 2, "40MiB are in use")
    for _ in range(40):
        world.settle(dirty("web"))
        up = [t for t in world.desired("web") if t.state is TaskState.RUNNING]
        assert len(up) >= 2, "one slot at a time"
        for held in list(world.state.tasks.values()):
            world.advance(world.state.tasks[held.id])
        world.now = Instant(world.now + SECOND)
    assert [t.spec_version for t in world.desired("web")] == [2, 2, 2]
    assert state_of(world) is UpdateState.COMPLETED


@pytest.mark.parametrize("acknowledged", [0, 2])
def test_newer_limits_replace_a_refused_change(acknowledged: int) -> None:
    world = world_of()
    update(world, spec_with(16))
    for slot in range(1, acknowledged + 1):
        acknowledge(world, slot, 2, "40MiB are in use")
    update(world, spec_with(64))
    world.settle(dirty("web"))
    assert len(world.desired("web")) == 3
    for slot in (1, 2, 3):
        acknowledge(world, slot, 3)
    world.settle(dirty("web"))
    assert state_of(world) is UpdateState.COMPLETED
    assert {t.spec_version for t in world.desired("web")} == {1}


def test_limits_that_change_during_an_update_of_the_template_reach_old_and_new_tasks() -> None:
    world = world_of()
    update(world, spec_with(0, "new"))
    world.settle(dirty("web"))
    update(world, spec_with(64, "new"))
    world.converge()
    assert [t.spec_version for t in world.desired("web")] == [3, 3, 3]
    assert state_of(world) is UpdateState.COMPLETED


def test_a_task_that_starts_meanwhile_has_the_limits_once_its_agent_says_so() -> None:
    starting = task("web.1", node="n1", state=TaskState.STARTING)
    world = world_of(starting, running(2), running(3))
    update(world, spec_with(64))
    for slot in (2, 3):
        acknowledge(world, slot, 2)
    world.settle(dirty("web"))
    world.report("n1", starting, TaskState.RUNNING)
    world.settle(dirty("web"))
    world.now = Instant(world.now + 6 * SECOND)
    world.settle(dirty("web"))
    assert state_of(world) is UpdateState.UPDATING
    acknowledge(world, 1, 2)
    world.settle(dirty("web"))
    assert state_of(world) is UpdateState.COMPLETED


def test_a_new_leader_waits_for_the_same_tasks() -> None:
    world = world_of()
    update(world, spec_with(64))
    acknowledge(world, 1, 2, "40MiB are in use")
    acknowledge(world, 2, 2)
    state = world.state
    again = BrainWorld(
        build.state(
            nodes=state.nodes.values(),
            services=state.services.values(),
            tasks=state.tasks.values(),
        )
    )
    again.settle()
    assert [t.slot for t in again.desired("web")] == [2, 3]
    assert state_of(again) is UpdateState.UPDATING


def test_a_paused_update_replaces_no_task_for_its_limits() -> None:
    world = world_of()
    updated = update(world, spec_with(64))
    assert updated.update_status is not None
    paused = replace(updated.update_status, state=UpdateState.PAUSED)
    world.state.apply(Writes(objects=(replace(updated, update_status=paused),)))
    acknowledge(world, 1, 2, "40MiB are in use")
    world.settle(dirty("web"))
    assert [t.slot for t in world.desired("web")] == [1, 2, 3]


def test_a_task_that_does_not_serve_does_not_hold_up_a_change_of_limits() -> None:
    world = world_of()
    update(world, spec_with(64))
    for slot in (1, 2, 3):
        (held,) = [t for t in world.desired("web") if t.slot == slot]
        detail = TaskDetail(in_place_version=2, serving=slot > 1)
        world.report(held.node_id, held, TaskState.RUNNING, detail)
    world.settle(dirty("web"))
    assert state_of(world) is UpdateState.COMPLETED


def test_a_rollback_of_limits_alone_changes_them_in_the_same_containers() -> None:
    world = world_of()
    before = dict(world.state.tasks)
    update(world, spec_with(64))
    for slot in (1, 2, 3):
        acknowledge(world, slot, 2)
    world.settle(dirty("web"))
    web = world.state.services[WEB]
    writes, rolled = rollback_service(
        world.state, Rollback("web", web.version, 0), (), world.now, world.ids
    )
    world.state.apply(writes)
    assert rolled.update_status is not None
    assert (rolled.update_status.slots, rolled.in_place_version) == (3, 3)
    assert rolled.spec.task_template.resources.limits == Limits()
    world.settle(dirty("web"))
    assert state_of(world) is UpdateState.ROLLBACK_STARTED
    for slot in (1, 2, 3):
        acknowledge(world, slot, 3)
    world.settle(dirty("web"))
    assert state_of(world) is UpdateState.ROLLBACK_COMPLETED
    assert world.state.tasks.keys() == before.keys()


def test_limits_that_a_new_task_does_not_survive_are_rolled_back() -> None:
    world = world_of(failure_action=FailureAction.ROLLBACK)
    update(world, spec_with(16))
    acknowledge(world, 1, 2)
    acknowledge(world, 3, 2)
    acknowledge(world, 2, 2, "40MiB are in use")
    for _ in range(20):
        world.settle(dirty("web"))
        for held in list(world.state.tasks.values()):
            if held.spec_version == 2 and held.state is TaskState.RUNNING:
                world.report(held.node_id, held, TaskState.FAILED, TaskDetail(oom=True, ran=SECOND))
            else:
                world.advance(held)
        world.now = Instant(world.now + SECOND)
    status = world.state.services[WEB].update_status
    assert status is not None
    assert status.state is UpdateState.ROLLBACK_STARTED
    assert world.state.services[WEB].spec.task_template.resources.limits == Limits()
    for slot in (1, 3):
        acknowledge(world, slot, world.state.services[WEB].in_place_version)
    world.converge()
    assert state_of(world) is UpdateState.ROLLBACK_COMPLETED
