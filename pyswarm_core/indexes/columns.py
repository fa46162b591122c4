"""Ids and statuses on sessions: columns instead of nested messages, for the hot path between
controller and agents. PURE.
"""

from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2s

from pyswarm_core.api.v1 import dispatcher_pb2, objects_pb2
from pyswarm_core.codec import from_proto_sparse, to_proto_sparse
from pyswarm_core.ids import ID_LENGTH, TaskId
from pyswarm_core.limits import ADDRESSES_PER_TASK, PORTS_PER_TASK
from pyswarm_core.objects import NO_DETAIL, TaskDetail, TaskStatus
from pyswarm_core.states import TaskState

_STATES = tuple(TaskState)


def pack_ids(ids: Iterable[str]) -> bytes:
    """25 ASCII bytes each."""
    return "".join(ids).encode("ascii")


def unpack_ids(data: bytes) -> list[TaskId]:
    """The inverse of `pack_ids`. Raises ValueError when the length is not a multiple of 25."""
    if len(data) % ID_LENGTH:
        raise ValueError(f"ids column has {len(data)} bytes, not a multiple of {ID_LENGTH}")
    text = data.decode("ascii")
    return [TaskId(text[start : start + ID_LENGTH]) for start in range(0, len(text), ID_LENGTH)]


def endpoint_digest(message: bytes) -> int:
    """The digest of one serialized ServiceEndpoint. The digest of several is the exclusive or of
    theirs, so that adding or removing one needs no other.
    """
    return int.from_bytes(blake2s(message, digest_size=8).digest())


def pack_statuses(statuses: Sequence[TaskStatus]) -> dispatcher_pb2.TaskStatuses:
    """Statuses as columns; details only for the tasks that have some."""
    message = dispatcher_pb2.TaskStatuses(
        ids=pack_ids(status.task_id for status in statuses),
        states=bytes([status.state for status in statuses]),
    )
    for index, status in enumerate(statuses):
        if status.detail != NO_DETAIL:
            message.detail_index.append(index)
            to_proto_sparse(status.detail, message.details.add())
    return message


def unpack_statuses(message: dispatcher_pb2.TaskStatuses, most: int) -> Iterator[list[TaskStatus]]:
    """The inverse of `pack_statuses`, `most` at a time. Raises ValueError for columns that do not
    fit together, before the first part.
    """
    ids, states = message.ids, message.states
    if len(ids) != ID_LENGTH * len(states):
        raise ValueError(f"statuses have {len(ids)} bytes of ids but {len(states)} states")
    if states and (highest := max(states)) >= len(_STATES):
        raise ValueError(f"task state {highest} does not exist")
    detail_index, details = message.detail_index, message.details
    if len(detail_index) != len(details):
        raise ValueError(f"statuses have {len(details)} details for {len(detail_index)} tasks")
    place = dict(zip(detail_index, range(len(details)), strict=True))
    for first in range(0, len(states), most):
        part = unpack_ids(ids[ID_LENGTH * first : ID_LENGTH * (first + most)])
        yield [
            TaskStatus(
                task_id,
                _STATES[states[at]],
                _detail(details[place[at]]) if at in place else NO_DETAIL,
            )
            for at, task_id in enumerate(part, first)
        ]


def _detail(message: objects_pb2.TaskDetail) -> TaskDetail:
    """The detail without addresses and ports beyond the limits: there may be a million."""
    del message.addresses[ADDRESSES_PER_TASK:]
    del message.ports[PORTS_PER_TASK:]
    return from_proto_sparse(TaskDetail, message)
