"""A chunk always fits its bound, and bytes that are no chunk are told apart."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from pyswarm_core.api.v1 import objects_pb2
from pyswarm_core.chunks import decode_chunk, encode_chunk
from pyswarm_core.clock import Instant
from pyswarm_core.ids import ID_LENGTH, NetworkId, NodeId, ServiceId
from pyswarm_core.limits import (
    ADDRESSES_PER_TASK,
    CHUNK_BYTES_MAX,
    CHUNK_SLOTS,
    DETAIL_LENGTH_MAX,
    HISTORY_MAX,
    PORTS_PER_TASK,
    RESTARTS_REMEMBERED,
    UNFINISHED_MAX,
)
from pyswarm_core.objects import HealthState, Task, TaskAddress, TaskDetail, clipped, shortened
from pyswarm_core.specs import PortConfig, Protocol, PublishMode
from pyswarm_core.states import TaskState
from tests.fixtures import build

A = ServiceId("a")
LATE = Instant((1 << 63) - 1)
PER_SLOT = HISTORY_MAX + UNFINISHED_MAX + 1
WORST = TaskDetail(
    message="\N{PILE OF POO}" * (DETAIL_LENGTH_MAX // 4),
    error="\N{PILE OF POO}" * (DETAIL_LENGTH_MAX // 4),
    exit_code=-(2**31),
    oom=True,
    pid=2**32 - 1,
    addresses=tuple(
        TaskAddress(network_id=NetworkId("n" * ID_LENGTH), address="255.255.255.255")
        for _ in range(ADDRESSES_PER_TASK)
    ),
    serving=True,
    ports=tuple(
        PortConfig(
            target_port=65535,
            published_port=65535,
            protocol=Protocol.SCTP,
            publish_mode=PublishMode.INGRESS,
            host_ip="h" * 64,
        )
        for _ in range(PORTS_PER_TASK)
    ),
    health=HealthState.UNHEALTHY,
    ran=LATE,
    in_place_version=2**32 - 1,
    in_place_error="\N{PILE OF POO}" * (DETAIL_LENGTH_MAX // 4),
    command="\N{PILE OF POO}" * (DETAIL_LENGTH_MAX // 4),
    image_volumes="/" * DETAIL_LENGTH_MAX,
)


def _tasks(slots: int, per_slot: int, detail: TaskDetail, restarts: int) -> list[Task]:
    number = iter(range(slots * per_slot))
    return [
        replace(
            build.task(
                f"a.{slot}",
                node="n1",
                state=TaskState.FAILED,
                task_id=f"{next(number):025d}",
                version=2**32 - 1,
                created=LATE,
                at=LATE,
                restarts=2**20,
                detail=detail,
            ),
            restarted_at=(LATE,) * restarts,
            consecutive_restarts=2**20,
            failed_update=True,
        )
        for slot in range(slots)
        for _ in range(per_slot)
    ]


def _encode(tasks: list[Task]) -> bytes:
    return encode_chunk(tasks, lambda _: 2**32 - 1)


def _decode(data: bytes) -> list[Task]:
    return decode_chunk(A, data, {2**32 - 1: NodeId("n1")})


def test_the_worst_chunk_that_there_can_be_fits() -> None:
    tasks = _tasks(CHUNK_SLOTS, PER_SLOT, WORST, RESTARTS_REMEMBERED)
    data = _encode(tasks)
    assert len(data) <= CHUNK_BYTES_MAX
    found = _decode(data)
    assert [task.id for task in found] == [task.id for task in tasks]
    newest = found[PER_SLOT - 1 :: PER_SLOT]
    assert {len(task.restarted_at) for task in newest} == {RESTARTS_REMEMBERED}
    assert {len(task.detail.addresses) for task in newest} == {ADDRESSES_PER_TASK}
    assert {task.detail.exit_code for task in found} == {-(2**31)}


@settings(max_examples=20)  # one has up to 3,700 tasks, each with all its details
@given(
    slots=st.integers(1, CHUNK_SLOTS),
    per_slot=st.integers(1, PER_SLOT),
    text=st.text(st.characters(codec="utf-8"), max_size=DETAIL_LENGTH_MAX),
    ports=st.integers(0, PORTS_PER_TASK),
    restarts=st.integers(0, RESTARTS_REMEMBERED),
)
def test_prop_every_chunk_fits(
    slots: int, per_slot: int, text: str, ports: int, restarts: int
) -> None:
    text = clipped(text, DETAIL_LENGTH_MAX)
    detail = replace(WORST, message=text, error=text, ports=WORST.ports[:ports])
    data = _encode(_tasks(slots, per_slot, detail, restarts))
    assert len(data) <= CHUNK_BYTES_MAX


@pytest.mark.parametrize("failed", [(False, False), (False, True)])
@pytest.mark.parametrize("restarts", [(0, 0), (3, 1)])
def test_restarts_in_a_row_and_failed_updates_are_kept(
    failed: tuple[bool, bool], restarts: tuple[int, int]
) -> None:
    tasks = [
        replace(task, restarts=1, failed_update=failed[n], consecutive_restarts=restarts[n])
        for n, task in enumerate(_tasks(2, 1, TaskDetail(), 0))
    ]
    data = _encode(tasks)
    assert _decode(data) == tasks
    chunk = objects_pb2.TaskChunk.FromString(data)
    assert bool(chunk.failed_update) is any(failed)
    assert bool(chunk.consecutive_restarts) is any(restarts)


def test_what_fits_is_not_cut() -> None:
    detail = replace(WORST, ports=())
    tasks = _tasks(16, 6, detail, 0)
    assert [task.detail for task in _decode(_encode(tasks))] == [detail] * len(tasks)


def test_the_newest_of_a_slot_keeps_its_text_longest() -> None:
    detail = replace(WORST, ports=(), addresses=())
    tasks = _tasks(CHUNK_SLOTS, 6, detail, 0)
    found = _decode(_encode(tasks))
    assert {task.detail.error for task in found[5::6]} == {detail.error}
    assert all(len(task.detail.error.encode()) <= 64 for task in found[:5])
    assert all(task.detail.image_volumes == "" for task in found[:5])  # a part is another path


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 64])
@given(text=st.text(st.characters(codec="utf-8")))
def test_prop_clipped_text_has_at_most_so_many_bytes(size: int, text: str) -> None:
    cut = clipped(text, size)
    assert len(cut.encode()) <= size
    assert cut == text or (cut.endswith("..."[:size]) and text.startswith(cut.rstrip(".")))


def test_short_details_are_kept_as_they_are() -> None:
    detail = TaskDetail(error="exit code 1", exit_code=1)
    assert shortened(detail) is detail
    assert not shortened(WORST).addresses
    assert not shortened(TaskDetail(image_volumes="/data")).image_volumes


def test_bytes_that_are_no_chunk_are_refused() -> None:
    data = _encode(_tasks(3, 2, TaskDetail(), 2))
    for wrong in (b"\xff\xff", data[:-3], data + data[:40]):
        with pytest.raises(Exception, match=r"."):
            _decode(wrong)
