"""Whatever happens, in whatever order: the laws hold, deciding is quiet, and it converges."""

from contextlib import suppress
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from controller.api.changes.services import Update, update_service
from pyswarm_core.clock import SECOND, Instant
from pyswarm_core.decision import Writes
from pyswarm_core.errors import Conflict
from pyswarm_core.kinds import NODE
from pyswarm_core.objects import Service, Task
from pyswarm_core.specs import FailureAction, ReplicatedMode, TaskSpec, UpdateConfig, UpdateOrder
from pyswarm_core.states import Availability, NodeState, TaskState, occupies
from tests.fixtures import build
from tests.fixtures.brain_world import BrainWorld, changed, prefixes
from tests.fixtures.build import network, node, service

HOSTS = [f"n{number}" for number in range(1, 5)]
SERVICES = ["web", "api", "agent"]
STATES = [TaskState.FAILED, TaskState.COMPLETE, TaskState.REJECTED, TaskState.RUNNING]


def _without_cap(spec: TaskSpec) -> TaskSpec:
    """A global service has one task per node in any case."""
    return replace(spec, placement=replace(spec.placement, max_replicas=0))


def _config(*actions: FailureAction) -> st.SearchStrategy[UpdateConfig]:
    return st.builds(
        UpdateConfig,
        parallelism=st.sampled_from([0, 1, 1, 2]),
        delay=st.sampled_from([0, 0, 3 * SECOND]),
        failure_action=st.sampled_from(actions),
        monitor=st.sampled_from([5 * SECOND, 40 * SECOND]),
        max_failure_ratio=st.sampled_from([0.0, 0.5]),
        order=st.sampled_from(UpdateOrder),
    )


_service = st.builds(
    lambda name, replicas, spec, update, rollback: build.configured(
        service(name, replicas=replicas, spec=spec)
        if name != "agent"
        else service(name, replicas=None, spec=_without_cap(spec)),
        update,
        rollback,
    ),
    st.sampled_from(SERVICES),
    st.integers(0, 6),
    st.builds(
        lambda memory, constraints, cap, condition, attempts, window, nets: build.template(
            memory=memory * build.GIB,
            constraints=constraints,
            max_replicas=cap,
            condition=condition,
            max_attempts=attempts,
            window=window * SECOND,
            networks=nets,
        ),
        st.sampled_from([0, 1, 3]),
        st.sampled_from([(), ("node.labels.zone==a",), ("node.labels.zone!=a",)]),
        st.sampled_from([0, 0, 1, 2]),
        st.sampled_from(["any", "on-failure", "none"]),
        st.sampled_from([0, 0, 2]),
        st.sampled_from([0, 20]),
        st.sampled_from([(), ("net",)]),
    ),
    _config(*FailureAction),
    _config(FailureAction.PAUSE, FailureAction.CONTINUE),
)
_node = st.builds(
    lambda name, state, availability, zone: node(
        name, state=state, availability=availability, labels={"zone": zone} if zone else {}
    ),
    st.sampled_from(HOSTS),
    st.sampled_from([NodeState.READY] * 3 + [NodeState.DOWN, NodeState.UNKNOWN]),
    st.sampled_from([Availability.ACTIVE] * 3 + [Availability.PAUSE, Availability.DRAIN]),
    st.sampled_from(["a", "b", ""]),
)
EVENT = st.one_of(
    st.tuples(st.just("service"), _service),
    st.tuples(st.just("remove"), st.sampled_from(SERVICES)),
    st.tuples(st.just("node"), _node),
    st.tuples(st.just("lose"), st.sampled_from(HOSTS)),
    st.tuples(st.just("agents"), st.integers(0, 1 << 16)),
    st.tuples(st.just("end"), st.tuples(st.integers(0, 1 << 16), st.sampled_from(STATES))),
    st.tuples(st.just("wait"), st.sampled_from([1, 5, 30, 25 * 3600])),
)
_events = st.lists(EVENT, max_size=14)
_quick = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def _world() -> BrainWorld:
    start = [node(name, labels={"zone": "a"}) for name in HOSTS[:2]]
    return BrainWorld(
        build.state(nodes=start, networks=[network("net", "10.128.0.0/27")], history=2)
    )


def happen(world: BrainWorld, kind: str, what: Any) -> None:
    state = world.state
    if kind == "service":
        _put_service(world, what)
    elif kind == "remove" and what in state.services:
        state.apply(Writes(objects=(replace(state.services[what], removing=True),)))
    elif kind == "node" and what.id not in state.lost_nodes:
        old = state.nodes.get(what.id, what)
        world.put_node(replace(old, spec=what.spec, status=what.status, updated_at=world.now))
    elif kind == "lose" and what in state.nodes:
        state.apply(Writes(removed=(NODE.object_name(state.nodes[what].id),)))
    elif kind == "agents":
        for task in _chosen(world, what):
            world.advance(task)
    elif kind == "end":
        _end(world, *what)
    elif kind == "wait":
        world.now = Instant(world.now + what * SECOND)


def _chosen(world: BrainWorld, bits: int) -> list[Task]:
    tasks = enumerate(list(world.state.tasks.values()))
    return [task for index, task in tasks if bits >> (index % 16) & 1]


def _end(world: BrainWorld, bits: int, state: TaskState) -> None:
    for task in _chosen(world, bits):
        node = world.state.nodes.get(task.node_id)
        if node and node.status.state is NodeState.READY and occupies(task.state):
            world.report(node.id, task, state)


def _put_service(world: BrainWorld, new: Service) -> None:
    old = world.state.services.get(new.id)
    if old is None:
        world.state.apply(Writes(objects=(new,)))
    elif not old.removing:
        update = Update(old.id, old.version, new.spec)
        with suppress(Conflict):  # a network has no address left
            writes, _ = update_service(world.state, update, (), world.now, world.ids)
            world.state.apply(writes)


@_quick
@given(_events)
def test_prop_laws_hold_and_deciding_again_writes_nothing(events: list[tuple[str, Any]]) -> None:
    world = _world()
    for kind, what in events:
        happen(world, kind, what)
        world.settle()


@_quick
@given(_events, st.integers(0, 6))
def test_prop_a_decision_stored_in_part_leads_to_the_same_end(
    events: list[tuple[str, Any]], kept: int
) -> None:
    whole, cut = _world(), _world()
    for kind, what in events:
        for world in (whole, cut):
            happen(world, kind, what)
        whole.settle()
        cut.state.apply(prefixes(cut.decide().writes, kept))
        cut.settle()
    for world in (whole, cut):
        for name in list(world.state.nodes):
            world.put_node(
                changed(
                    world.state.nodes[name], state=NodeState.READY, availability=Availability.ACTIVE
                )
            )
    # Ends that the two worlds' tasks met on the way may differ; a fresh template forgets them.
    for world in (whole, cut):
        for old in list(world.state.services.values()):
            _put_service(
                world, replace(old, spec=replace(old.spec, task_template=build.template("fresh")))
            )
        world.converge()
    assert _shape(whole) == _shape(cut)


@_quick
@given(_events)
def test_prop_it_converges_to_what_was_asked(events: list[tuple[str, Any]]) -> None:
    world = _world()
    for kind, what in events:
        happen(world, kind, what)
        world.settle()
    for name in list(world.state.nodes):
        world.put_node(
            changed(
                world.state.nodes[name], state=NodeState.READY, availability=Availability.ACTIVE
            )
        )
    world.converge()
    for found in world.state.services.values():
        assert not found.removing, "a removed service stays"
        template = found.spec.task_template
        if template.restart_policy.condition != "any" or template.restart_policy.max_attempts:
            continue
        if found.update_status is not None and found.update_status.state.is_paused:
            continue
        if isinstance(found.spec.mode, ReplicatedMode):
            assert len({task.slot for task in world.desired(found.id)}) == found.spec.mode.replicas
        assert all(found.is_current(t.spec_version) for t in world.desired(found.id)) or any(
            t.state is TaskState.PENDING for t in world.desired(found.id)
        )


def _shape(world: BrainWorld) -> dict[str, list[TaskState]]:
    return {
        name: sorted(task.state for task in world.desired(name)) for name in world.state.services
    }
