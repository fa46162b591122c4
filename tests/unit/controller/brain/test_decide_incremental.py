"""A leader that decides what changed comes to where one comes that decides everything anew.

The strongest test of the indexes: after every event a decision about everything must have nothing
to write, but messages of waiting tasks that are not due yet; and none at all a little later.
"""

from collections import Counter
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from pyswarm_core.decision import Writes
from pyswarm_core.indexes.tasks import is_desired
from pyswarm_core.limits import (
    DECISION_COST,
    DECISION_NETWORKS,
    EXPLAINED_PER_SECOND,
    PLACING_COST,
    PROTOCOL_CHECKS,
)
from pyswarm_core.objects import Block, Service, Task, UpdateStatus
from pyswarm_core.specs import (
    EndpointSpec,
    HealthConfig,
    PortConfig,
    PublishMode,
    ReplicatedMode,
    TaskSpec,
    UpdateConfig,
    UpdateOrder,
)
from pyswarm_core.states import Availability, NodeState, TaskState, UpdateState
from tests.fixtures import build
from tests.fixtures.build import GIB
from tests.fixtures.turns import Leader
from tests.unit.controller.brain.test_decide_properties import EVENT, HOSTS, happen

_port = EndpointSpec(
    ports=(PortConfig(target_port=80, published_port=80, publish_mode=PublishMode.HOST),)
)


_EVENT = st.one_of(
    EVENT,
    EVENT,
    EVENT,
    st.tuples(st.just("port"), st.sampled_from(["web", "api"])),
    st.tuples(st.just("seconds"), st.integers(1, 12)),
)


def _happens(world: Leader, kind: str, what: Any) -> None:
    if kind == "port" and what in world.state.services:
        service: Service = world.state.services[what]
        spec = replace(service.spec, endpoint_spec=_port)
        happen(world, "service", replace(service, spec=spec))
    elif kind == "seconds":
        world.wait(what)
    else:
        happen(world, kind, what)


def _web(replicas: int | None, spec: TaskSpec, parallelism: int = 1) -> tuple[str, Service]:
    config = UpdateConfig(parallelism=parallelism)
    return "service", build.configured(
        build.service("web", replicas=replicas, spec=spec), config, config
    )


_unmet = build.template("image:2", constraints=("node.labels.zone!=a",))
_large = build.template(memory=3 * GIB)
CUT = {
    "the next task may end, though those without a node were looked at before": [
        _web(6, _large),
        ("port", "web"),
    ],
    "a task may be stored, once a later part has removed another": [
        _web(5, _large, 0),
        _web(1, _unmet, 0),
    ],
}


@pytest.mark.parametrize("shown", [1, 2])
@pytest.mark.parametrize("events", CUT.values(), ids=CUT)
def test_a_round_in_small_parts_leaves_nothing_to_decide(
    events: list[tuple[str, Any]], shown: int
) -> None:
    with patch("controller.brain.placing.PENDING_SHOWN", shown):
        _follow(events, shown, PLACING_COST)


def _on_failure(order: UpdateOrder, replicas: int, **needs: Any) -> tuple[str, Service]:
    config = UpdateConfig(parallelism=0, order=order)
    spec = build.template(condition="on-failure", **needs)
    return "service", build.configured(
        build.service("web", replicas=replicas, spec=spec), config, config
    )


@pytest.mark.parametrize("cost", [PLACING_COST, DECISION_COST])
def test_an_update_of_an_ended_task_deletes_it_with_its_node(cost: int) -> None:
    ended = ("end", (0b11, TaskState.COMPLETE))
    started = _on_failure(UpdateOrder.STOP_FIRST, 2)
    _follow([started, ended, ("lose", "n2"), ("port", "web")], 20, cost)


@pytest.mark.parametrize("cost", [PLACING_COST, DECISION_COST])
def test_outdated_tasks_end_for_a_new_one_after_an_ended_one(cost: int) -> None:
    started = _on_failure(UpdateOrder.START_FIRST, 3)
    newer = _on_failure(UpdateOrder.START_FIRST, 3, memory=GIB, max_replicas=1)
    with patch("controller.brain.placing.PENDING_SHOWN", 1):
        _follow([started, ("end", (0b1, TaskState.COMPLETE)), newer], 1, cost)


def test_a_round_in_small_parts_awaits_no_end_on_nodes_that_keep_no_task() -> None:
    nodes = [build.node(f"n{n}", labels={"zone": "a"}) for n in range(1, 40)]
    world = Leader(build.state(nodes=nodes))
    world.cost = PLACING_COST
    for kind, what in (_web(None, build.template()), _web(None, _unmet)):
        happen(world, kind, what)
        world.turns()
    (service,) = world.state.services.values()
    status = service.update_status
    assert status is not None
    assert status.state is UpdateState.COMPLETED
    assert not world.missing()


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(_EVENT, max_size=16),
    st.sampled_from([1, 2, 20]),
    st.sampled_from([PLACING_COST, PLACING_COST + 9, 10 * PLACING_COST, 100_000]),
)
def test_prop_what_changed_is_all_there_is_to_decide(
    events: list[tuple[str, Any]], shown: int, cost: int
) -> None:
    with patch("controller.brain.placing.PENDING_SHOWN", shown):
        _follow(events, shown, cost)


def _follow(events: list[tuple[str, Any]], shown: int, cost: int) -> None:
    start = [build.node(name, labels={"zone": "a"}) for name in HOSTS[:2]]
    # Two blocks of five addresses: they run out.
    world = Leader(
        build.state(nodes=start, networks=[build.network("net", "10.128.0.0/28")], history=2)
    )
    world.cost = cost
    for kind, what in events:
        _happens(world, kind, what)
        world.turns()
        missing = world.missing()
        assert not missing, (kind, what, missing)
    world.wait(25)
    writes = world.everything().writes
    assert not writes, writes
    waiting = [task for task in world.state.tasks.values() if _waits(task)]
    assert all(task.detail.message for task in waiting)
    of_service = Counter(task.service_id for task in waiting)
    assert max(of_service.values(), default=0) <= shown
    for service in world.state.services.values():
        mode = service.spec.mode
        if not isinstance(mode, ReplicatedMode) or service.removing:
            continue
        if service.id not in world.state.unplaced:
            assert len(world.state.tasks_of_service(service.id).slots) >= mode.replicas


@pytest.mark.parametrize("replicas", [None, 1], ids=["global", "replicated"])
@pytest.mark.parametrize(
    "change",
    [
        {"availability": Availability.DRAIN},
        {"labels": {"zone": "b"}},
        {"state": NodeState.DOWN},
    ],
    ids=["drained", "relabelled", "down"],
)
def test_a_slot_waits_for_no_end_on_a_node_that_keeps_no_task(
    change: dict[str, Any], replicas: int | None
) -> None:
    def desired(generation: int) -> Service:
        template = build.template(f"image:{generation}", constraints=("node.labels.zone==a",))
        return build.service("agent", replicas=replicas, spec=template)

    world = Leader(build.state(nodes=[build.node(n, labels={"zone": "a"}) for n in HOSTS[:2]]))
    for generation in (1, 2):
        happen(world, "service", desired(generation))
        world.turns()
    (ending,) = [task for task in world.state.tasks.values() if not is_desired(task)]
    happen(world, "node", build.node(ending.node_id, **{"labels": {"zone": "a"}, **change}))
    world.turns()
    assert not world.missing()


def test_a_node_that_is_given_anothers_addresses_gets_who_waits_for_it() -> None:
    nodes = [build.node(n, labels={"zone": "a"}) for n in HOSTS[:2]]
    # Two blocks, one for each of these nodes: none is left for n3.
    world = Leader(build.state(nodes=nodes, networks=[build.network("net", "10.128.0.0/28")]))
    happen(
        world, "service", build.service("api", replicas=2, spec=build.template(networks=("net",)))
    )
    world.turns()
    happen(world, "node", build.node("n3", labels={"zone": "b"}))
    there = build.template(constraints=("node.labels.zone==b",), networks=("net",))
    happen(world, "service", build.service("web", replicas=1, spec=there))
    world.turns()
    happen(world, "lose", "n1")
    world.turns()
    assert Counter(task.node_id for task in world.state.tasks.values()) == {"n2": 1, "n3": 2}


def _waits(task: Task) -> bool:
    return task.state is TaskState.PENDING


def _leader(*services: Service, hosts: int = 1, subnet: str = "10.128.0.0/29") -> Leader:
    """All of it decided."""
    nets = [build.network("net", subnet)]
    world = Leader(
        build.state(nodes=build.nodes(hosts, memory=GIB), services=services, networks=nets)
    )
    world.turns()
    return world


def _placed(world: Leader, name: str) -> int:
    return sum(task.node_id != "" for task in world.desired(name))


def _needing(name: str, **needs: Any) -> Service:
    return build.service(name, spec=build.template(**needs))


def _on_port(name: str) -> Service:
    made = build.service(name)
    return replace(made, spec=replace(made.spec, endpoint_spec=_port))


FULL = {
    "memory": (_needing("a", memory=GIB), _needing("b", memory=GIB)),
    "cpus": (_needing("a", cpus=4), _needing("b", cpus=1)),
    "port": (_on_port("a"), _on_port("b")),
    "address": (
        build.service("a", replicas=5, spec=build.template(networks=["net"])),
        _needing("b", networks=["net"]),
    ),
}


@pytest.mark.parametrize("what", FULL)
def test_what_a_task_gives_back_goes_to_who_waits_for_it(what: str) -> None:
    world = _leader(*FULL[what])
    assert _placed(world, "b") == 0
    ending = world.desired("a")[0]
    gone = replace(world.state.services[ending.service_id], removing=True)
    world.state.apply(Writes(objects=(gone,)))
    world.turns()
    assert _placed(world, "b") == 0, "nothing has ended yet"
    world.report("n1", world.state.tasks[ending.id], TaskState.SHUTDOWN)
    world.turns()
    assert _placed(world, "b") == 1
    assert not world.missing()


def test_a_block_that_is_given_back_goes_to_who_waits_for_addresses() -> None:
    joined = build.template(networks=["net"], constraints=["node.labels.at==1"])
    elsewhere = build.template(networks=["net"], constraints=["node.labels.at==2"])
    world = _leader(build.service("a", spec=joined), build.service("b", spec=elsewhere), hosts=0)
    world.put_node(build.node("n1", labels={"at": "1"}))
    world.put_node(build.node("n2", labels={"at": "2"}))
    world.turns()
    assert (_placed(world, "a"), _placed(world, "b")) == (1, 0)
    ending = world.desired("a")[0]
    gone = replace(world.state.services[ending.service_id], removing=True)
    world.state.apply(Writes(objects=(gone,)))
    world.turns()
    world.report("n1", world.state.tasks[ending.id], TaskState.SHUTDOWN)
    world.turns()
    assert _placed(world, "b") == 1


def _paused(name: str, needs: dict[str, Any], newer: TaskSpec) -> Service:
    """A service whose update to another template is paused; the former one has these needs."""
    old = _needing(name, **needs)
    spec = replace(old.spec, task_template=newer)
    new = build.updating(replace(old, spec=spec, spec_version=2, template_version=2), old.spec)
    return replace(new, update_status=UpdateStatus(state=UpdateState.PAUSED, to_version=2))


def _checked() -> TaskSpec:
    template = build.template()
    check = HealthConfig(test=("TCP", "80"))
    return replace(template, container_spec=replace(template.container_spec, healthcheck=check))


@pytest.mark.parametrize(
    "newer",
    [_checked(), build.template(memory=2 * GIB)],
    ids=["check", "memory"],
)
def test_the_tasks_of_a_paused_update_wait_for_what_their_own_template_needs(
    newer: TaskSpec,
) -> None:
    web = _paused("web", {"memory": GIB}, newer)
    waiting = build.task("web.1", version=1, state=TaskState.PENDING)
    world = Leader(build.state(nodes=[], services=[web], tasks=[waiting]))
    world.turns()
    old_agent = build.node("n1", memory=GIB)
    description = replace(old_agent.description, protocol=PROTOCOL_CHECKS - 1)
    world.put_node(replace(old_agent, description=description))
    world.turns()
    assert _placed(world, "web") == 1


def test_the_tasks_of_a_paused_update_wait_for_a_node_that_meets_the_constraints_of_now() -> None:
    web = _paused("web", {}, build.template(constraints=["node.hostname==n2"]))
    waiting = build.task("web.1", version=1, state=TaskState.PENDING)
    world = Leader(build.state(nodes=[], services=[web], tasks=[waiting]))
    for name, placed in (("n1", 0), ("n2", 1)):
        world.put_node(build.node(name))
        world.turns()
        assert _placed(world, "web") == placed


@pytest.mark.parametrize("networks", [(), ("net",)])
def test_who_waits_in_a_paused_update_gets_what_others_give_back(networks: tuple[str, ...]) -> None:
    needs = {"networks": networks} if networks else {"memory": GIB}
    holder = build.service("a", replicas=5 if networks else 1, spec=build.template(**needs))
    world = _leader(holder)
    web = _paused("web", needs, build.template(memory=2 * GIB))
    waiting = build.task("web.1", version=1, state=TaskState.PENDING)
    world.state.apply(Writes(objects=(web,), tasks=[waiting]))
    world.turns()
    assert _placed(world, "web") == 0
    world.state.apply(Writes(objects=(replace(world.state.services[holder.id], removing=True),)))
    world.turns()
    for task in list(world.state.tasks_of_service(holder.id)):
        world.report("n1", task, TaskState.SHUTDOWN)
    world.turns()
    assert _placed(world, "web") == 1


def test_a_change_elsewhere_plans_none_of_a_thousand_services_that_wait() -> None:
    spec = build.template(memory=2 * GIB)
    racks = [_needing(f"rack{n}", constraints=[f"node.labels.rack=={n}"]) for n in range(500)]
    huge = [build.service(f"huge{n}", spec=spec) for n in range(500)]
    world = _leader(build.service("web", replicas=3), *racks, *huge, hosts=3)
    failed = world.desired("web")[0]
    before = len(world.work)
    world.report(failed.node_id, failed, TaskState.FAILED)
    world.turns()
    assert [work.services for work in world.work[before:]] == [1]
    assert [work.retried for work in world.work[before:]] == [0]
    assert [work.placings for work in world.work[before:]] == [1]


def test_a_decision_about_services_that_wait_is_bounded() -> None:
    most = DECISION_COST // PLACING_COST
    huge = [_needing(f"huge{n}", memory=2 * GIB) for n in range(most + 20)]
    world = _leader(*huge, hosts=3)
    first, second = [work.placings for work in world.work]
    assert most // 2 < first <= most
    assert first + second == most + 20
    world.put_node(build.node("n4", memory=3 * GIB))
    world.turns()
    assert [work.placings for work in world.work[2:]] == [1], "one of them fits the new node"
    assert _placed(world, "huge0") == 1, "who waits longest comes first"


def test_one_node_change_looks_at_no_network_whose_blocks_are_needed() -> None:
    specs = [_needing(f"s{n}", networks=[f"net{n}"]) for n in range(40)]
    nets = [build.network(f"net{n}", f"10.{n}.0.0/24") for n in range(40)]
    world = Leader(build.state(nodes=build.nodes(2), services=specs, networks=nets))
    world.turns()
    before = len(world.work)
    world.put_node(build.node("n1", labels={"zone": "b"}))
    world.turns()
    assert [work.networks for work in world.work[before:]] == [0]


def test_blocks_of_many_networks_are_given_back_in_slices() -> None:
    count = DECISION_NETWORKS + 10
    held = [
        replace(
            build.network(f"net{n}", f"10.{n}.0.0/24"),
            blocks=(Block(cidr=f"10.{n}.0.0/28", node_number=1),),
        )
        for n in range(count)
    ]
    world = Leader(build.state(nodes=build.nodes(1), networks=held))
    world.turns()
    assert [work.networks for work in world.work] == [DECISION_NETWORKS, 10, 0]
    assert not any(network.blocks for network in world.state.networks.values())


def test_a_node_that_joins_costs_a_global_service_one_slot() -> None:
    world = _leader(build.service("agent", replicas=None), hosts=20)
    before = len(world.work)
    world.put_node(build.node("n21"))
    world.turns()
    assert _placed(world, "agent") == 21
    assert [(work.services, work.slots) for work in world.work[before:]] == [(1, 0)]
    world.put_node(build.node("n21", labels={"zone": "a"}))
    world.turns()
    assert world.work[-1].services == 0


def test_while_nothing_changes_who_waits_costs_nothing() -> None:
    world = _leader(*[_needing(f"huge{n}", memory=2 * GIB) for n in range(50)])
    world.wait(30)
    before = len(world.work)
    world.wait(600)
    assert len(world.work) == before


def test_messages_follow_what_changes_a_few_services_at_a_time() -> None:
    count = 3 * EXPLAINED_PER_SECOND
    world = _leader(*[_needing(f"huge{n}", memory=2 * GIB) for n in range(count)])
    world.wait(30)
    before = len(world.work)
    world.put_node(build.node("n2", memory=GIB + 1))
    world.wait(30)
    planned = [work.services for work in world.work[before:]]
    assert max(planned) <= EXPLAINED_PER_SECOND
    assert sum(planned) == count
    assert all("2 of 2 nodes" in task.detail.message for task in world.state.tasks.values())
