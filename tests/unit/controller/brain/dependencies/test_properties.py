"""Any services that depend on each other: none starts too early, all start in the end."""

from hypothesis import given, settings
from hypothesis import strategies as st

from pyswarm_core.clock import SECOND, Instant
from pyswarm_core.ids import ServiceId
from pyswarm_core.indexes.dependents import Dependents, awaits
from pyswarm_core.objects import HealthState, Service, TaskDetail
from pyswarm_core.stacks.dependencies import Dependency, DependencyCondition
from pyswarm_core.states import TaskState
from tests.unit.controller.brain.dependencies.shop import (
    COMPLETED,
    IS_HEALTHY,
    Shop,
    needs,
    service,
)

NAMES = "abcde"
SERVES = (DependencyCondition.STARTED, DependencyCondition.HEALTHY)


@st.composite
def graphs(draw: st.DrawFn) -> list[Service]:
    """Services of which each depends on earlier ones; jobs complete, the others serve."""
    made: list[Service] = []
    jobs: dict[str, bool] = {}
    for name in NAMES[: draw(st.integers(2, len(NAMES)))]:
        jobs[name] = draw(st.booleans())
        chosen = draw(st.lists(st.sampled_from(sorted(jobs)), unique=True, max_size=3))
        found = [
            needs(
                other,
                COMPLETED if jobs[other] else draw(st.sampled_from(SERVES)),
                required=draw(st.booleans()),
                restart=draw(st.booleans()),
            )
            for other in chosen
            if other != name
        ]
        condition = "none" if jobs[name] else "any"
        replicas = draw(st.integers(0, 3))
        made.append(service(name, *found, replicas=replicas, condition=condition))
    return draw(st.permutations(made))


def holds(shop: Shop, one: Dependency) -> bool:
    """Whether the condition holds, asked of every task."""
    tasks = shop.tasks(one.service)
    if one.condition is COMPLETED:
        done = [task for task in tasks if task.state is TaskState.COMPLETE]
    else:
        done = [task for task in tasks if task.state is TaskState.RUNNING]
    if one.condition is DependencyCondition.HEALTHY:
        done = [task for task in done if task.detail.health is HealthState.HEALTHY]
    mode = shop.of(one.service).spec.mode
    return len({task.slot for task in done}) >= getattr(mode, "replicas", 1)


@settings(max_examples=60, deadline=None)
@given(graphs(), st.randoms(use_true_random=False))
def test_each_starts_after_what_it_needs_and_all_start(made: list[Service], random) -> None:  # type: ignore[no-untyped-def]
    shop = Shop(*made)
    shop.settle()
    begun: set[str] = set()
    for _ in range(200):
        for one in made:
            name = one.spec.name
            placed = any(task.node_id for task in shop.tasks(name))
            if placed and name not in begun:
                assert all(holds(shop, need) for need in one.spec.depends_on), name
                begun.add(name)
        living = [
            t for t in shop.state.tasks.values() if t.node_id and t.state <= TaskState.RUNNING
        ]
        living = [t for t in living if t.state < TaskState.RUNNING or is_job(shop, t.service_id)]
        if not living:
            break
        task = random.choice(sorted(living, key=lambda one: one.id))
        shop.now = Instant(shop.now + SECOND)
        ends = task.state is TaskState.RUNNING
        detail = TaskDetail(ran=SECOND) if ends else IS_HEALTHY
        state = TaskState.COMPLETE if ends else TaskState.RUNNING
        shop.report(task.node_id, task, state, detail)
        shop.tell(task.service_id)
    assert not any(map(awaits, shop.state.services.values()))
    assert begun == {one.spec.name for one in made if getattr(one.spec.mode, "replicas", 1)}


def is_job(shop: Shop, service_id: ServiceId) -> bool:
    """Whether the service's tasks end."""
    policy = shop.state.services[service_id].spec.task_template.restart_policy
    return policy.condition == "none"


@given(graphs(), st.lists(st.tuples(st.sampled_from(NAMES), st.booleans()), max_size=20))
def test_the_index_is_that_of_the_services_that_are_left(
    made: list[Service], changes: list[tuple[str, bool]]
) -> None:
    index, held = Dependents(), dict[str, Service]()
    known = {one.spec.name: one for one in made}
    for name, put in changes:
        if name in known:
            after = known[name] if put else None
            index.put(held.pop(name, None), after)
            if after is not None:
                held[name] = after
    fresh = Dependents()
    for one in held.values():
        fresh.put(None, one)
    for name in NAMES:
        assert dict(index.waiting_for(name)).keys() == dict(fresh.waiting_for(name)).keys()
    for one in held.values():
        assert set(index.concerned(one)) == set(fresh.concerned(one))
    for one in list(held.values()):
        index.put(one, None)
    assert index.is_empty
