"""Records survive whatever ends the agent between two of its writes."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from agent.health.verdict import Check
from agent.records import Records
from agent.tasks.record import InPlaceChange, Record
from pyswarm_core.clock import Instant
from pyswarm_core.ids import NodeId, ServiceId, TaskId
from pyswarm_core.objects import TaskDetail
from pyswarm_core.specs import ContainerSpec, HealthConfig, Resources, TaskSpec
from pyswarm_core.states import TaskState
from pyswarm_core.views import CheckResult

RECORD = Record(
    task_id=TaskId("t1"),
    service_id=ServiceId("s1"),
    service_name="web",
    slot=1,
    node_id=NodeId("n1"),
    spec=TaskSpec(container_spec=ContainerSpec(image="example")),
)
LONGER = replace(RECORD, state=TaskState.FAILED, detail=TaskDetail(error="x" * 1000))
A_PAGE_AND_MORE = replace(RECORD, detail=TaskDetail(error="y" * 5000))


def opened(base: Path) -> Records:
    return Records(base / "tasks", base / "checks")


@pytest.mark.parametrize("before", [RECORD, LONGER, A_PAGE_AND_MORE])
@pytest.mark.parametrize("after", [RECORD, LONGER, A_PAGE_AND_MORE])
def test_what_was_saved_last_is_what_is_loaded(
    tmp_path: Path, before: Record, after: Record
) -> None:
    records = opened(tmp_path)
    records.save(before)
    records.save(after)
    assert opened(tmp_path).load() == {"t1": after}
    assert [path.name for path in (tmp_path / "tasks").iterdir()] == ["t1.json"]


def checked(made: int, output: str = "ok") -> Record:
    results = (CheckResult(started_at=Instant(9), duration=1, exit_code=0, output=output),)
    check = Check(config=HealthConfig(test=("TCP", "80")), made=made, results=results)
    return replace(RECORD, health=check, readiness=check)


@pytest.mark.parametrize("output", ["ok", "x" * 4096])
def test_the_newer_results_of_checks_count(tmp_path: Path, output: str) -> None:
    records = opened(tmp_path)
    records.save(checked(1))
    before = (tmp_path / "tasks/t1.json").read_bytes()
    records.save_results(checked(2, output))
    records.save_results(checked(3, output))
    assert opened(tmp_path).load() == {"t1": checked(3, output)}
    assert (tmp_path / "tasks/t1.json").read_bytes() == before, "not written to the disk"
    later = replace(checked(4), state=TaskState.RUNNING)
    records.save(later)
    assert opened(tmp_path).load() == {"t1": later}


def test_unreadable_results_are_no_results(tmp_path: Path) -> None:
    opened(tmp_path).save(checked(1))
    for damaged in (b"", b'{"health"', b"\xff\xfe"):
        (tmp_path / "checks/t1").write_bytes(damaged)
        assert opened(tmp_path).load() == {"t1": checked(1)}


def test_results_of_tasks_that_are_gone_are_removed(tmp_path: Path) -> None:
    records = opened(tmp_path)
    records.save_results(checked(1))
    records.load()
    assert list((tmp_path / "checks").iterdir()) == []
    records.save_results(checked(1))
    records.forget(RECORD.task_id)
    assert list((tmp_path / "checks").iterdir()) == []


def test_a_change_in_place_has_its_former_name_in_files(tmp_path: Path) -> None:
    pending = replace(RECORD, in_place_change=InPlaceChange(3, Resources(), forced=True))
    opened(tmp_path).save(pending)
    assert b'"NewLimits":{"Version":3' in (tmp_path / "tasks/t1.json").read_bytes()
    assert opened(tmp_path).load() == {"t1": pending}


def test_a_file_of_which_nothing_was_written_is_no_record(tmp_path: Path) -> None:
    records = opened(tmp_path)
    (tmp_path / "tasks/t2.json").touch()
    assert records.load() == {}
    assert list((tmp_path / "tasks").iterdir()) == []


@pytest.mark.parametrize(
    "damaged", [b'{"task_id": "t', b'{"task_id": "\xff"}', b"\xff\xfe", bytes(100), b"null"]
)
def test_an_unreadable_record_is_set_aside(tmp_path: Path, damaged: bytes) -> None:
    opened(tmp_path).save(RECORD)
    (tmp_path / "tasks/t2.json").write_bytes(damaged)
    assert opened(tmp_path).load() == {"t1": RECORD}
    assert (tmp_path / "tasks/t2.unreadable").read_bytes() == damaged


def test_a_forgotten_record_is_gone_and_forgetting_again_is_no_error(tmp_path: Path) -> None:
    records = opened(tmp_path)
    records.save(RECORD)
    for _ in range(2):
        records.forget(RECORD.task_id)
    assert records.load() == {}
