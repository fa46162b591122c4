"""Statuses as columns, taken apart in parts of bounded size."""

import pytest

from pyswarm_core.api.v1 import dispatcher_pb2, objects_pb2
from pyswarm_core.ids import NetworkId, TaskId
from pyswarm_core.indexes.columns import pack_statuses, unpack_statuses
from pyswarm_core.limits import ADDRESSES_PER_TASK, PORTS_PER_TASK
from pyswarm_core.objects import NO_DETAIL, TaskAddress, TaskDetail, TaskStatus
from pyswarm_core.states import TaskState

STATUSES = [
    TaskStatus(
        TaskId(f"{number:025}"),
        TaskState.FAILED if number % 2 else TaskState.RUNNING,
        TaskDetail(error=f"error {number}") if number % 3 else NO_DETAIL,
    )
    for number in range(10)
]


@pytest.mark.parametrize("most", [1, 3, 10, 99])
def test_parts_are_the_whole(most: int) -> None:
    parts = list(unpack_statuses(pack_statuses(STATUSES), most))
    assert [status for part in parts for status in part] == STATUSES
    assert max(map(len, parts)) == min(most, len(STATUSES))


@pytest.mark.parametrize(
    ("column", "value", "error"),
    [
        ("ids", b"x" * 249, "249 bytes of ids but 10 states"),
        ("states", bytes([*[8] * 9, 99]), "state 99 does not exist"),
    ],
)
def test_columns_that_do_not_fit_are_found_before_the_first_part(
    column: str, value: bytes, error: str
) -> None:
    message = pack_statuses(STATUSES)
    setattr(message, column, value)
    with pytest.raises(ValueError, match=error):
        next(unpack_statuses(message, 1))


def test_details_without_a_task_are_found_too() -> None:
    message = pack_statuses(STATUSES)
    message.details.add()
    with pytest.raises(ValueError, match="7 details for 6 tasks"):
        next(unpack_statuses(message, 1))


def test_what_exceeds_the_addresses_and_ports_of_a_task_is_not_looked_at() -> None:
    address = TaskAddress(NetworkId("net"), "10.128.0.5")
    message = dispatcher_pb2.TaskStatuses(ids=b"t" * 25, states=bytes([TaskState.RUNNING]))
    message.detail_index.append(0)
    detail = message.details.add()
    for _ in range(ADDRESSES_PER_TASK):
        detail.addresses.add(network_id=address.network_id, address=address.address)
    detail.addresses.add(network_id="\n" * 99)
    for _ in range(PORTS_PER_TASK):
        detail.ports.add(protocol="tcp", target_port=80, publish_mode="host")
    detail.ports.append(objects_pb2.TaskDetail().ports.add(protocol="unknown"))
    ((status,),) = unpack_statuses(message, 1)
    assert status.detail.addresses == (address,) * ADDRESSES_PER_TASK
    assert len(status.detail.ports) == PORTS_PER_TASK
