"""Tasks in the store: a chunk's bytes from its tasks, and back. PURE.

No other module knows this layout. Columns keep a million tasks to some 60 MB and a second of work
(one message per task: thirty times that). Nodes are stored by number. A task whose node no longer
exists is decoded without one; the reaper removes it. A chunk has at most CHUNK_BYTES_MAX: details
that do not fit are cut.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate, repeat
from typing import Any, NamedTuple

import numpy as np
from msgspec.structs import replace

from pyswarm_core.api.v1 import objects_pb2
from pyswarm_core.clock import Instant
from pyswarm_core.codec import from_proto_sparse, to_proto_sparse
from pyswarm_core.ids import ID_LENGTH, NodeId, ServiceId
from pyswarm_core.limits import (
    CHUNK_BYTES_MAX,
    DETAIL_LENGTH_MAX,
    DETAIL_LENGTH_OLD,
    RESTARTS_REMEMBERED,
)
from pyswarm_core.objects import NO_DETAIL, Task, TaskDetail, clipped
from pyswarm_core.states import TaskState

_STATES = tuple(TaskState)
_WIDTHS = {
    "ids": ID_LENGTH,
    "slots": 4,
    "node_numbers": 4,
    "spec_versions": 4,
    "desired_states": 1,
    "created_at": 8,
    "status_at": 8,
    "restarts": 2,
}
"""Bytes of each column's entries."""


class _Kept(NamedTuple):
    """How much of details is stored."""

    newest: int
    """Bytes of each text of a slot's newest task."""
    others: int
    """The same of the slot's other tasks."""
    reach: bool
    """Addresses and ports of the other tasks."""
    ports: bool
    """Ports of the newest task; also what its image decides, of all tasks."""


_KEPT = (
    _Kept(DETAIL_LENGTH_MAX, DETAIL_LENGTH_OLD, reach=True, ports=True),
    _Kept(DETAIL_LENGTH_MAX, DETAIL_LENGTH_OLD, reach=False, ports=True),
    _Kept(DETAIL_LENGTH_OLD, 0, reach=False, ports=False),
)
"""Tried in turn if a chunk with all its details is too large. The last one always fits."""


def encode_chunk(tasks: Sequence[Task], number_of_node: Callable[[NodeId], int]) -> bytes:
    """Serialize tasks of one service, those of a slot together and oldest first; `number_of_node`
    gives 0 for no node.
    """
    data = _encode(tasks, number_of_node, None)
    for kept in _KEPT:
        if len(data) <= CHUNK_BYTES_MAX:
            break
        data = _encode(tasks, number_of_node, kept)
    return data


def _encode(
    tasks: Sequence[Task], number_of_node: Callable[[NodeId], int], kept: _Kept | None
) -> bytes:
    chunk = objects_pb2.TaskChunk(
        ids="".join([task.id for task in tasks]).encode("ascii"),
        slots=_pack([task.slot for task in tasks], "<u4"),
        node_numbers=_pack([number_of_node(task.node_id) for task in tasks], "<u4"),
        spec_versions=_pack([task.spec_version for task in tasks], "<u4"),
        desired_states=bytes([task.desired_state for task in tasks]),
        states=bytes([task.state for task in tasks]),
        created_at=_pack([task.created_at for task in tasks], "<i8"),
        status_at=_pack([task.status_at for task in tasks], "<i8"),
        restarts=_pack([min(task.restarts, 0xFFFF) for task in tasks], "<u2"),
    )
    for index, task in enumerate(tasks):
        detail = task.detail
        if detail is not NO_DETAIL and detail != NO_DETAIL:
            if kept is not None:
                detail = _cut(detail, kept, newest=_is_newest(tasks, index))
            chunk.detail_index.append(index)
            to_proto_sparse(detail, chunk.details.add())
    if any(task.restarted_at for task in tasks):
        times = [
            task.restarted_at[-RESTARTS_REMEMBERED:] if _is_newest(tasks, index) else ()
            for index, task in enumerate(tasks)
        ]
        chunk.restarted_counts = bytes(map(len, times))
        chunk.restarted_at = _pack([at for one in times for at in one], "<i8")
    if any(task.consecutive_restarts for task in tasks):
        counts = [min(task.consecutive_restarts, 0xFFFF) for task in tasks]
        chunk.consecutive_restarts = _pack(counts, "<u2")
    if any(task.failed_update for task in tasks):
        chunk.failed_update = bytes([task.failed_update for task in tasks])
    return chunk.SerializeToString()


def _whole(text: str, size: int) -> str:
    """The text if it has at most `size` bytes: half a path would be another one."""
    return text if len(text.encode(errors="replace")) <= size else ""


def _is_newest(tasks: Sequence[Task], index: int) -> bool:
    return index + 1 == len(tasks) or tasks[index + 1].slot != tasks[index].slot


def _cut(detail: TaskDetail, kept: _Kept, *, newest: bool) -> TaskDetail:
    size = kept.newest if newest else kept.others
    if not size:
        return TaskDetail(
            exit_code=detail.exit_code, oom=detail.oom, told_to_end=detail.told_to_end
        )
    return replace(
        detail,
        message=clipped(detail.message, size),
        error=clipped(detail.error, size),
        in_place_error=clipped(detail.in_place_error, size // 4),
        command=clipped(detail.command, size) if kept.ports else "",
        image_volumes=_whole(detail.image_volumes, size) if kept.ports else "",
        addresses=detail.addresses if newest or kept.reach else (),
        ports=detail.ports if (kept.ports if newest else kept.reach) else (),
    )


def decode_chunk(
    service_id: ServiceId, data: bytes, node_of_number: Mapping[int, NodeId]
) -> list[Task]:
    """The tasks that `encode_chunk` serialized, in the same order. Raises any exception for bytes
    that are no chunk.
    """
    chunk = objects_pb2.TaskChunk.FromString(data)
    ids = chunk.ids.decode("ascii")
    _check_lengths(chunk)
    details: Any = repeat(NO_DETAIL)
    if chunk.detail_index:
        sparse = dict(zip(chunk.detail_index, chunk.details, strict=True))
        details = [
            from_proto_sparse(TaskDetail, sparse[index]) if index in sparse else NO_DETAIL
            for index in range(len(chunk.states))
        ]
    return list(
        map(
            Task,
            [ids[start : start + ID_LENGTH] for start in range(0, len(ids), ID_LENGTH)],
            repeat(service_id),
            _unpack(chunk.slots, "<u4"),
            _unpack(chunk.spec_versions, "<u4"),
            _unpack(chunk.created_at, "<i8"),
            map(node_of_number.get, _unpack(chunk.node_numbers, "<u4"), repeat(NodeId(""))),
            map(_STATES.__getitem__, _unpack(chunk.desired_states, "u1")),
            map(_STATES.__getitem__, _unpack(chunk.states, "u1")),
            _unpack(chunk.status_at, "<i8"),
            _unpack(chunk.restarts, "<u2"),
            details,
            _restart_times(chunk),
            _sparse(chunk.consecutive_restarts, "<u2", len(chunk.states)),
            map(bool, _sparse(chunk.failed_update, "u1", len(chunk.states))),
        )
    )


def _check_lengths(chunk: objects_pb2.TaskChunk) -> None:
    count = len(chunk.states)
    for name, width in _WIDTHS.items():
        length = len(getattr(chunk, name))
        if length != width * count:
            raise ValueError(f"column {name} has {length} bytes, not {width} for each of {count}")


def _restart_times(chunk: objects_pb2.TaskChunk) -> Iterable[tuple[Instant, ...]]:
    counts = chunk.restarted_counts
    if not counts:
        return repeat(())
    times: list[Instant] = np.frombuffer(chunk.restarted_at, "<i8").tolist()
    ends = list(accumulate(counts))
    if len(counts) != len(chunk.states) or ends[-1] != len(times):
        raise ValueError("column restarted_at does not fit its counts")
    return [tuple(times[end - count : end]) for count, end in zip(counts, ends, strict=True)]


def _sparse(data: bytes, dtype: str, count: int) -> Iterable[int]:
    """The values of a column that is empty if all are zero."""
    if not data:
        return repeat(0)
    if len(data) != np.dtype(dtype).itemsize * count:
        raise ValueError(f"a column has {len(data)} bytes, not one value for each of {count}")
    return _unpack(data, dtype)


def _pack(values: list[int], dtype: str) -> bytes:
    return np.array(values, dtype).tobytes()


def _unpack(data: bytes, dtype: str) -> Iterable[int]:
    """The column's values; an endless iterator of the first if they are equal, as in most columns.

    A million tasks then share their ints, which takes less time and memory.
    """
    size = np.dtype(dtype).itemsize
    first = data[:size]
    values = np.frombuffer(first if first * (len(data) // size) == data else data, dtype)
    unpacked: list[int] = values.tolist()
    return repeat(unpacked[0]) if len(unpacked) == 1 else unpacked
