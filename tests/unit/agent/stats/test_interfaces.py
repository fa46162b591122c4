"""The traffic of containers, from the host's ends of their interfaces."""

from agent.network.names import Names
from agent.stats.base import Traffic
from agent.stats.interfaces import parse, ports, total
from pyswarm_core.ids import NetworkId, TaskId
from pyswarm_core.objects import TaskAddress, TaskDetail
from tests.fixtures.records import record

TEXT = b"""\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo
    lo: 1286743113 4492086    0    0    0     0          0         0 1286743113 4492086    0    0
ps-t01:     500       5    0    1    0     0          0         0     9000      90    0    2    0
ps-t02:12345678901      7    0    0    0     0          0         0        1       1    0    0    0
"""


def test_what_the_hosts_end_sends_the_container_receives() -> None:
    assert parse(TEXT, {"ps-t01"}) == {
        "ps-t01": Traffic(
            received_bytes=9000,
            received_packets=90,
            received_drops=2,
            sent_bytes=500,
            sent_packets=5,
            sent_drops=1,
        )
    }


def test_a_number_that_fills_its_column_is_read() -> None:
    assert parse(TEXT, {"ps-t02"})["ps-t02"].sent_bytes == 12345678901


def test_interfaces_of_a_task_are_added_up() -> None:
    counters = parse(TEXT, {"ps-t01", "ps-t02"})
    found = total(("ps-t01", "ps-t02"), counters)
    assert found
    assert (found.received_bytes, found.sent_packets) == (9001, 12)
    assert total(("ps-t03", "ps-t01"), counters) == counters["ps-t01"]
    assert total(("ps-t03",), counters) is None
    assert total((), counters) is None


def test_the_interfaces_are_those_of_its_addresses() -> None:
    names = Names("ps")
    addresses = tuple(TaskAddress(NetworkId(name), "10.0.0.2") for name in ("a", "b"))
    found = ports(record("t1", detail=TaskDetail(addresses=addresses)), names)
    assert found == (names.veth(TaskId("t1"), "a"), names.veth(TaskId("t1"), "b"))
