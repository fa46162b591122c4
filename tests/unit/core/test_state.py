"""The state index says the same however its tasks arrived: one by one, in bulk, from the store."""

from random import Random
from typing import Any

import pytest
from msgspec.structs import replace

from pyswarm_core.chunks import decode_chunk, encode_chunk
from pyswarm_core.clock import Instant
from pyswarm_core.decision import Writes
from pyswarm_core.ids import NetworkId, NodeId, ServiceId
from pyswarm_core.indexes.nodes import NodeTable
from pyswarm_core.indexes.tasks import ServiceTasks
from pyswarm_core.keys import ChunkKey
from pyswarm_core.kinds import NETWORK, NODE, SERVICE
from pyswarm_core.limits import CHUNK_SLOTS
from pyswarm_core.objects import (
    NO_DETAIL,
    Block,
    Endpoint,
    Task,
    TaskDetail,
    TaskStatus,
    VirtualIp,
    shortened,
)
from pyswarm_core.specs import NetworkSpec
from pyswarm_core.state import State
from pyswarm_core.states import DESIRED_STATES, TERMINAL_STATES, TaskState
from tests.fixtures import build

A, B = ServiceId("a"), ServiceId("b")
NUMBERS = {1: NodeId("n1"), 2: NodeId("n2")}
PLACES = ("n1", "n2", "gone", "")
DESIRED = (TaskState.RUNNING, TaskState.RUNNING, TaskState.READY, TaskState.SHUTDOWN)
COUNTED = frozenset(ServiceTasks.__slots__) - {"rollout", "service"}
"""What follows from the tasks alone; test_rollout.py is about the rest."""
DETAILS = (NO_DETAIL, NO_DETAIL, TaskDetail(error="no"))


def world() -> State:
    """Two services, one of them on a network, and two nodes; "gone" was removed."""
    plain = build.service("a", spec=build.template(cpus=0.5, memory=build.MIB))
    joined = build.service("b", spec=build.template(networks=["net"]))
    blocks = [Block(cidr=f"10.128.0.{16 * n}/28", node_number=n) for n in (1, 2, 7)]
    net = replace(build.network("net", "10.128.0.0/24"), blocks=tuple(blocks))
    return build.state(services=(plain, joined), nodes=build.nodes(2), networks=[net], history=1)


def some_task(rand: Random, number: int) -> Task:
    """In any state and place. There are few slots, so that some hold several."""
    name = f"{rand.choice('ab')}.{rand.choice([1, 2, 3, 4, 5, 6, CHUNK_SLOTS])}"
    return build.task(
        name,
        node=rand.choice(PLACES),
        state=rand.choice([*TaskState, *[TaskState.RUNNING] * 20]),
        desired=rand.choice(DESIRED),
        task_id=f"{number:025d}",
        version=rand.choice([1, 1, 2]),
        restarts=rand.choice([0, 0, 3]),
        detail=rand.choice(DETAILS),
    )


def indexes(state: State) -> dict[str, Any]:
    """All that is maintained of tasks; of orders only that of a slot's tasks counts."""
    groups = {one: state.tasks_of_service(one) for one in (A, B)}
    table = state.node_table
    columns = ("desired_tasks", "active_tasks", "reserved_cpus", "reserved_memory")
    return {
        "tasks": state.tasks,
        "in state": state.tasks_in_state,
        "of node": {place: dict(state.tasks_of_node(NodeId(place))) for place in PLACES},
        "of service": {
            one: {name: getattr(group, name) for name in type(group).__slots__ if name in COUNTED}
            for one, group in groups.items()
        },
        "unplaced": state.unplaced.since,
        "idle blocks": state.idle_blocks.networks,
        "on network": {one: load for one, load in state.network_load.items() if load},
        "of rows": {
            name: getattr(table, name)[list(table.rows.values())].tolist() for name in columns
        },
    }


@pytest.mark.parametrize("seed", range(50))
def test_tasks_in_bulk_leave_what_tasks_one_by_one_leave(seed: int) -> None:
    rand = Random(seed)
    tasks = [some_task(rand, number) for number in range(12)]
    again = [
        replace(task, state=rand.choice(list(TaskState)), desired_state=rand.choice(DESIRED))
        for task in rand.sample(tasks, 6)
    ]
    again += [some_task(rand, number) for number in range(12, 18)]
    bulk, single = world(), world()
    for writes in (tasks, again):
        touched = bulk.apply(Writes(tasks=writes))
        assert touched == set().union(*(single.apply(Writes(tasks=[one])) for one in writes))
        assert indexes(bulk) == indexes(single)
    bulk.apply(Writes(removed_tasks=[task.id for task in (*tasks, *again[6:])]))
    assert indexes(bulk) == indexes(world())


@pytest.mark.parametrize("seed", range(50))
def test_reports_leave_what_the_reported_tasks_leave_if_they_are_stored(seed: int) -> None:
    rand = Random(seed)
    tasks = [some_task(rand, number) for number in range(20)]
    told, stored = world(), world()
    for state in (told, stored):
        state.apply(Writes(tasks=tasks))
    for at in range(30):
        node_id = NodeId(rand.choice(PLACES[:3]))
        reports = [
            TaskStatus(task.id, rand.choice(list(TaskState)), rand.choice(DETAILS))
            for task in rand.sample(tasks, 3)
        ]
        changed = told.observe(node_id, reports, Instant(build.NOW + at))
        assert all(told.tasks[task.id] is task for task in changed)
        stored.apply(Writes(tasks=changed))
        assert indexes(told) == indexes(stored)


def test_bulk_names_the_chunks_that_changed() -> None:
    tasks = [
        build.task("a.1", node="n1"),
        build.task("a.2", state=TaskState.PENDING),
        build.task(f"a.{CHUNK_SLOTS}", node="n2"),
        build.task("b.1", node="n1"),
    ]
    assert world().apply(Writes(tasks=tasks)) == {ChunkKey(A, 0), ChunkKey(A, 1), ChunkKey(B, 0)}


@pytest.mark.parametrize("seed", range(10))
def test_a_chunk_holds_what_it_was_given(seed: int) -> None:
    rand = Random(seed)
    tasks = [some_task(rand, number) for number in range(20)]
    assert stored(tasks) == [known(task) for task in tasks]


def test_columns_of_one_value_come_back_whole() -> None:
    tasks = [build.task("a.1", node="n1", task_id=f"{number:025d}") for number in range(20)]
    assert stored(tasks) == tasks


def stored(tasks: list[Task]) -> list[Task]:
    """What the store gives back of them."""
    number_of = {node: number for number, node in NUMBERS.items()}
    data = encode_chunk(tasks, lambda node_id: number_of.get(node_id, 0))
    return decode_chunk(A, data, NUMBERS)


def known(task: Task) -> Task:
    """A chunk is of one service, and does not know nodes that are gone."""
    node_id = task.node_id if task.node_id in NUMBERS.values() else NodeId("")
    return replace(task, service_id=A, node_id=node_id)


def test_what_two_have_by_a_store_s_mistake_can_be_removed() -> None:
    vip = Endpoint(virtual_ips=(VirtualIp(network_id=NetworkId("n"), addr="10.128.0.9"),))
    services = [replace(build.service(name), endpoint=vip) for name in ("a", "b")]
    networks = [replace(build.network(name), spec=NetworkSpec(name="net")) for name in ("n", "m")]
    state = build.state(services=services, networks=networks)
    nodes = [replace(build.node(name), number=7) for name in ("n1", "n2")]
    state.apply(Writes(objects=tuple(nodes)))
    for left in ("b", ""):
        gone = "a" if left else "b"
        state.apply(Writes(removed=(SERVICE.object_name(ServiceId(gone)),)))
        assert list(state.services) == [left] * bool(left)
    state.apply(
        Writes(removed=(NETWORK.object_name(NetworkId("n")), NETWORK.object_name(NetworkId("m"))))
    )
    state.apply(Writes(removed=(NODE.object_name(NodeId("n1")), NODE.object_name(NodeId("n2")))))
    for index in (state.virtual_ips, state.network_of_name, state.node_of_number):
        assert not index


def test_values_of_a_label_that_nodes_had_are_forgotten() -> None:
    table = NodeTable()
    key, host = "engine.labels.x", build.node("n1")
    for number in range(2_000):
        labels = {"x": str(number)}
        described = replace(host.description, engine_labels=labels)
        table.put(replace(host, description=described))
        branches = table.branches(key)
        assert branches.values[int(branches.codes[0])] == str(number)
        assert len(branches.values) <= 260


def test_a_task_that_waits_for_room_on_its_node_cannot_be_reported_as_running() -> None:
    bound = build.task("a.1", node="n1", state=TaskState.PENDING)
    state = build.state(services=[build.service("a", replicas=None)], nodes=build.nodes(1))
    state.apply(Writes(tasks=[bound]))
    status = TaskStatus(bound.id, TaskState.RUNNING, NO_DETAIL)
    assert not state.observe(NodeId("n1"), [status], build.NOW)
    assert state.tasks[bound.id] == bound


def test_a_report_changes_nothing_but_state_time_and_detail() -> None:
    task = build.task("a.1", node="n1", state=TaskState.STARTING)
    task = replace(
        task, restarts=2, restarted_at=(build.NOW,), consecutive_restarts=2, failed_update=True
    )
    state = build.state(services=[build.service("a")], nodes=build.nodes(1), tasks=[task])
    state.observe(NodeId("n1"), [TaskStatus(task.id, TaskState.RUNNING, NO_DETAIL)], build.NOW)
    reported = replace(task, state=TaskState.RUNNING, status_at=build.NOW)
    assert state.tasks[task.id] == reported


@pytest.mark.parametrize("desired", DESIRED_STATES)
@pytest.mark.parametrize("end", sorted(TERMINAL_STATES - {TaskState.ORPHANED}))
def test_a_task_that_ends_by_itself_after_a_request_to_end_is_marked(
    desired: TaskState, end: TaskState
) -> None:
    task = build.task("a.1", node="n1", desired=desired)
    state = build.state(services=[build.service("a")], nodes=build.nodes(1), tasks=[task])
    claims = TaskDetail(exit_code=1, told_to_end=True)
    state.observe(NodeId("n1"), [TaskStatus(task.id, end, claims)], build.NOW)
    told = desired in (TaskState.SHUTDOWN, TaskState.REMOVE) and end is not TaskState.SHUTDOWN
    assert state.tasks[task.id].detail == TaskDetail(exit_code=1, told_to_end=told)
    assert shortened(replace(claims, error="x" * 1000)).told_to_end


def test_slots_that_got_a_task_last_are_the_last_of_those_with_a_history() -> None:
    group = ServiceTasks()
    first = [build.task(f"web.{slot}", task_id=f"{slot}a") for slot in (1, 2, 3)]
    again = [build.task(f"web.{slot}", task_id=f"{slot}b") for slot in (1, 2, 3)]
    third = build.task("web.1", task_id="1c")
    for old, new in zip(first, again, strict=True):
        group.put_slot(old.slot, (old,), 5)
        group.put_slot(old.slot, (old, new), 5)
    assert list(group.storied) == [1, 2, 3]
    group.put_slot(2, (first[1], replace(again[1], state=TaskState.FAILED)), 5)
    assert list(group.storied) == [1, 2, 3]
    group.put_slot(1, (again[0], third), 5)  # the oldest of its history was removed at once
    assert list(group.storied) == [2, 3, 1]
    group.put_slot(3, (again[2],), 5)
    assert list(group.storied) == [2, 1]
