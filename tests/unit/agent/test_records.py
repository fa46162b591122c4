"""Records survive whatever ends the agent between two of its writes."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from agent.records import Records
from agent.tasks.record import Record
from pyswarm_core.ids import NodeId, ServiceId, TaskId
from pyswarm_core.objects import TaskDetail
from pyswarm_core.specs import ContainerSpec, TaskSpec
from pyswarm_core.states import TaskState

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


@pytest.mark.parametrize("before", [RECORD, LONGER, A_PAGE_AND_MORE])
@pytest.mark.parametrize("after", [RECORD, LONGER, A_PAGE_AND_MORE])
def test_what_was_saved_last_is_what_is_loaded(
    tmp_path: Path, before: Record, after: Record
) -> None:
    records = Records(tmp_path)
    records.save(before)
    records.save(after)
    assert Records(tmp_path).load() == {"t1": after}
    assert [path.name for path in tmp_path.iterdir()] == ["t1.json"]


def test_a_file_of_which_nothing_was_written_is_no_record(tmp_path: Path) -> None:
    (tmp_path / "t2.json").touch()
    records = Records(tmp_path)
    assert records.load() == {}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "damaged", [b'{"task_id": "t', b'{"task_id": "\xff"}', b"\xff\xfe", bytes(100), b"null"]
)
def test_an_unreadable_record_is_set_aside(tmp_path: Path, damaged: bytes) -> None:
    Records(tmp_path).save(RECORD)
    (tmp_path / "t2.json").write_bytes(damaged)
    assert Records(tmp_path).load() == {"t1": RECORD}
    assert (tmp_path / "t2.unreadable").read_bytes() == damaged


def test_a_forgotten_record_is_gone_and_forgetting_again_is_no_error(tmp_path: Path) -> None:
    records = Records(tmp_path)
    records.save(RECORD)
    for _ in range(2):
        records.forget(RECORD.task_id)
    assert records.load() == {}
