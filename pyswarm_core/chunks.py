"""Tasks in the store: a chunk's bytes from its tasks, and back. PURE.

Nothing else knows this layout.

Columns keep a million tasks to some 60 MB and a second of work (one message per task: thirty times
that). Nodes are stored by number. A task whose node no longer exists comes back without one; the
reaper removes it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import repeat
from typing import Any

import numpy as np

from pyswarm_core.api.v1 import objects_pb2
from pyswarm_core.codec import from_proto, to_proto
from pyswarm_core.ids import ID_LENGTH, NodeId, ServiceId
from pyswarm_core.objects import NO_DETAIL, Task, TaskDetail
from pyswarm_core.states import TaskState

_STATES = tuple(TaskState)


def encode_chunk(tasks: Sequence[Task], number_of_node: Callable[[NodeId], int]) -> bytes:
    """Serialize tasks of one service; `number_of_node` gives 0 for no node."""
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
        if task.detail is not NO_DETAIL and task.detail != NO_DETAIL:
            chunk.detail_index.append(index)
            to_proto(task.detail, chunk.details.add())
    return chunk.SerializeToString()


def decode_chunk(
    service_id: ServiceId, data: bytes, node_of_number: Mapping[int, NodeId]
) -> list[Task]:
    """The tasks that `encode_chunk` was given, in the same order."""
    chunk = objects_pb2.TaskChunk.FromString(data)
    ids = chunk.ids.decode("ascii")
    details: Any = repeat(NO_DETAIL)
    if chunk.detail_index:
        sparse = dict(zip(chunk.detail_index, chunk.details, strict=True))
        details = [
            from_proto(TaskDetail, sparse[index]) if index in sparse else NO_DETAIL
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
        )
    )


def _pack(values: list[int], dtype: str) -> bytes:
    return np.array(values, dtype).tobytes()


def _unpack(data: bytes, dtype: str) -> Iterable[int]:
    """The column's values; endlessly the first if they are all the same, as in most columns.

    A million tasks then share their ints, which is less to make and less to keep.
    """
    size = np.dtype(dtype).itemsize
    first = data[:size]
    values = np.frombuffer(first if first * (len(data) // size) == data else data, dtype)
    unpacked: list[int] = values.tolist()
    return repeat(unpacked[0]) if len(unpacked) == 1 else unpacked
