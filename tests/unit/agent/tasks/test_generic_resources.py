"""Which of its host's resources a task has."""

import pytest
from msgspec.structs import replace

from agent.tasks.generic_resources import GenericResources, environment
from agent.tasks.record import Record
from pyswarm_core.docker.generic_resources import offered, reserved
from pyswarm_core.errors import Conflict
from pyswarm_core.ids import NodeId, ServiceId, TaskId
from pyswarm_core.resources import Reservations, Resources
from pyswarm_core.states import TaskState
from tests.fixtures.build import template

HOST = offered("-", ("gpu=a,b,c", "ssd=4"))


def record(name: str, text: str) -> Record:
    generic = reserved("-", (text,)) if text else ()
    resources = Resources(reservations=Reservations(generic_resources=generic))
    return Record(
        task_id=TaskId(name),
        service_id=ServiceId("web"),
        service_name="web",
        slot=1,
        node_id=NodeId("n1"),
        spec=replace(template(), resources=resources),
    )


def test_each_name_is_one_tasks_until_its_process_ends() -> None:
    records = {one.task_id: one for one in (record("t1", "gpu=2"), record("t2", "gpu=2,ssd=1"))}
    host = GenericResources(HOST)
    host.follow(records)
    first = host.choose(records[TaskId("t1")])
    assert first == {"gpu": "a,b"}
    assert host.choose(records[TaskId("t1")]) == first, "preparing again gives the same"
    assert host.choose(records[TaskId("t2")]) is None
    records[TaskId("t1")] = replace(records[TaskId("t1")], state=TaskState.COMPLETE)
    assert host.choose(records[TaskId("t2")]) == {"gpu": "a,b", "ssd": "1"}


def test_an_agent_that_returns_knows_what_tasks_have() -> None:
    running = replace(record("t1", "gpu=2"), generic_resources={"gpu": "b,c"})
    new = record("t2", "gpu=1")
    host = GenericResources(HOST)
    host.follow({running.task_id: running, new.task_id: new})
    assert host.choose(new) == {"gpu": "a"}


def test_numbers_are_counted() -> None:
    running = replace(record("t1", "ssd=3"), generic_resources={"ssd": "3"})
    new, more = record("t2", "ssd=1"), record("t3", "ssd=1")
    host = GenericResources(HOST)
    host.follow({one.task_id: one for one in (running, new, more)})
    assert host.choose(new) == {"ssd": "1"}
    assert host.choose(more) is None


def test_a_host_that_never_has_enough_says_so() -> None:
    host = GenericResources(HOST)
    with pytest.raises(Conflict, match="offers 3 gpu, and the task reserves 4: change --node-gen"):
        host.choose(record("t1", "gpu=4"))


def test_tasks_find_what_they_have_in_dockers_variables() -> None:
    held = {"gpu": "a,b", "ssd": "1"}
    assert environment(held) == ("DOCKER_RESOURCE_GPU=a,b", "DOCKER_RESOURCE_SSD=1")
    assert GenericResources(HOST).choose(record("t1", "")) == {}
