"""UDP flows as netlink messages: what was encoded is decoded as the same flow."""

from agent.network import conntrack
from agent.network.message import AF_INET, AF_INET6

HERE, THERE = bytes((10, 1, 255, 1)), bytes((10, 1, 0, 2))


def test_a_flow_says_where_it_was_sent_and_who_answers() -> None:
    body = conntrack.forget_all(AF_INET, HERE, THERE)[16:]
    flow = conntrack.read(body)
    assert flow is not None
    assert (flow.address, flow.port, flow.answers) == (HERE, 0, THERE)
    assert conntrack.read(conntrack.forget(AF_INET, flow)[16:]) == conntrack.Flow(
        address=HERE, port=0, answers=b"", original=flow.original
    )


def test_a_port_is_asked_for_and_read() -> None:
    flow = conntrack.read(conntrack.dump(AF_INET, port=53)[16:])
    assert flow is not None
    assert flow.port == 53


def test_what_is_not_udp_is_no_flow() -> None:
    body = conntrack.forget_all(AF_INET, HERE, THERE)[16:]
    assert conntrack.read(body.replace(b"\x05\0\1\0\x11", b"\x05\0\1\0\x06")) is None


def test_flows_of_ipv6_are_not_filtered_by_address() -> None:
    six = bytes(range(16))
    assert six not in conntrack.dump(AF_INET6, address=six)
    assert HERE in conntrack.dump(AF_INET, address=HERE)
