"""The rtnetlink codec, checked against an independent decoder of the same bytes."""

from socket import AF_INET, AF_INET6
from typing import Any

import pytest
from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from agent.network import message
from agent.network.state import DeviceAddress, Fdb, Link, Neighbour, Route, Rule

VXLAN = Link(
    name="abc-x1", kind="vxlan", mac="02:70:00:00:00:01", mtu=1450, vni=4097,
    local="192.168.0.1", port=4789,
)  # fmt: skip


def parsed(kind: Any, data: bytes) -> Any:
    found = kind(data)
    found.decode()
    return found


def test_a_vxlan_device_is_asked_for_and_read_back_alike() -> None:
    asked = parsed(ifinfmsg, message.make_link(VXLAN))
    assert asked.get_attr("IFLA_IFNAME") == "abc-x1"
    data = asked.get_attr("IFLA_LINKINFO").get_attr("IFLA_INFO_DATA")
    assert data.get_attr("IFLA_VXLAN_ID") == 4097
    assert data.get_attr("IFLA_VXLAN_PORT") == 4789
    assert data.get_attr("IFLA_VXLAN_LEARNING") == 0
    assert data.get_attr("IFLA_VXLAN_UDP_CSUM") == 0
    assert message.read_link(message.make_link(VXLAN)[16:]) == (0, 0, VXLAN)


ROUTES = {
    "peer": Route(dst="10.1.0.0/26", device="x", via="10.1.0.1", source="10.1.1.1", onlink=True),
    "local": Route(dst="10.1.0.0/26", device="x", source="10.1.1.1"),
    "unreachable": Route(dst="10.1.0.0/16", metric=7),
    "default": Route(dst="0.0.0.0/0", device="x", via="10.1.0.1"),
    "narrow": Route(dst="10.1.0.0/26", device="x", via="10.1.0.1", onlink=True, mtu=1350),
    "peer6": Route(dst="fd00::40/122", device="x", via="fe80::1", source="fd00::1", onlink=True),
    "local6": Route(dst="fd00::/122", device="x", source="fd00::1"),
    "unreachable6": Route(dst="fd00::/64", metric=7),
    "default6": Route(dst="::/0", device="x", via="fd00::1"),
}


@pytest.mark.parametrize("name", list(ROUTES))
def test_a_route_is_written_and_read_back_alike(name: str) -> None:
    entry = ROUTES[name]
    data = message.route(5, entry)
    other = parsed(rtmsg, data)
    assert other["family"] == (AF_INET6 if ":" in entry.dst else AF_INET)
    target, _, length = entry.dst.partition("/")
    assert other["dst_len"] == int(length)
    assert other.get_attr("RTA_DST") == (target if int(length) else None)
    assert other.get_attr("RTA_PREFSRC") == (entry.source or None)
    assert other.get_attr("RTA_GATEWAY") == (entry.via or None)
    assert other.get_attr("RTA_PRIORITY") == (entry.metric or None)
    metrics = other.get_attr("RTA_METRICS")
    assert (metrics.get_attr("RTAX_MTU") if metrics else 0) == entry.mtu
    read = message.read_route(data[16:])
    assert read is not None
    index, found = read
    assert index == (5 if entry.device else 0)
    assert (found.dst, found.via, found.source, found.metric, found.onlink, found.mtu) == (
        entry.dst, entry.via, entry.source, entry.metric, entry.onlink, entry.mtu,
    )  # fmt: skip


def test_neighbours_fdb_entries_and_addresses_say_what_others_read() -> None:
    neighbour = parsed(ndmsg, message.neighbour(5, Neighbour("x", "10.1.0.1", VXLAN.mac)))
    assert neighbour.get_attr("NDA_LLADDR") == VXLAN.mac
    fdb = message.fdb(5, Fdb("x", VXLAN.mac, "192.168.0.2"))
    assert message.read_neighbour(fdb[16:]) == (5, "192.168.0.2", VXLAN.mac)
    address = parsed(ifaddrmsg, message.address(5, DeviceAddress("x", "10.1.0.1/26")))
    assert (address["prefixlen"], address.get_attr("IFA_LOCAL")) == (26, "10.1.0.1")


def test_what_is_said_of_ipv6_is_what_others_read() -> None:
    neighbour = message.neighbour(5, Neighbour("x", "fe80::1", VXLAN.mac))
    other = parsed(ndmsg, neighbour)
    assert (other["family"], other.get_attr("NDA_DST")) == (AF_INET6, "fe80::1")
    assert message.read_neighbour(neighbour[16:]) == (5, "fe80::1", VXLAN.mac)
    for data in (
        message.address(5, DeviceAddress("x", "fd00::1/122")),
        message.inside_address(5, "fd00::1/122"),
    ):  # fmt: skip
        address = parsed(ifaddrmsg, data)
        assert (address["family"], address["prefixlen"]) == (AF_INET6, 122)
        assert address.get_attr("IFA_LOCAL") == address.get_attr("IFA_ADDRESS") == "fd00::1"
        assert address.get_attr("IFA_FLAGS") & 0x02, "nobody is asked whether he has it"
        assert message.read_address(data[16:]) == (5, "fd00::1/122")


def test_a_device_is_kept_from_taking_an_ipv6_address_by_itself() -> None:
    asked = parsed(ifinfmsg, message.without_ipv6(5))
    (of_family,) = asked.get_attr("IFLA_AF_SPEC")["attrs"]
    assert of_family[0] == "AF_INET6"
    assert of_family[1].get_attr("IFLA_INET6_ADDR_GEN_MODE") == 1


def test_the_metric_that_the_kernel_writes_for_none_is_read_as_none() -> None:
    data = message.route(5, Route(dst="fd00::/64", device="x", metric=1024))
    found = message.read_route(data[16:])
    assert found is not None
    assert found[1].metric == 0


def test_learned_entries_are_not_taken_for_ours() -> None:
    learned = bytearray(message.neighbour(5, Neighbour("x", "10.1.0.1", VXLAN.mac)))
    learned[24:26] = (2).to_bytes(2, "little")
    assert message.read_neighbour(bytes(learned[16:])) is None


def test_foreign_routes_are_not_taken_for_ours() -> None:
    foreign = bytearray(message.route(5, ROUTES["peer"]))
    foreign[16 + 5] = 2
    assert message.read_route(bytes(foreign[16:])) is None


RULES = {
    "way": Rule(priority=9, iif="abc-b1", mark=0x90000200, mask=0xFFFFFF00, table=0x80000002),
    "jump": Rule(priority=8, mask=0xF0000000, goto=10),
    "landing": Rule(priority=10),
    "source": Rule(priority=1000, source="10.1.0.2", table=97),
    "way6": Rule(
        priority=9, iif="abc-b1", mark=0x90000200, mask=0xFFFFFF00, table=0x80000002, six=True
    ),
    "landing6": Rule(priority=10, six=True),
    "source6": Rule(priority=1000, source="fd00::2", table=97, six=True),
}


@pytest.mark.parametrize("name", RULES)
def test_a_rule_is_written_and_read_back_alike(name: str) -> None:
    entry = RULES[name]
    data = message.rule(entry)
    other = parsed(fibmsg, data)
    assert other["family"] == (AF_INET6 if entry.six else AF_INET)
    assert other.get_attr("FRA_PRIORITY") == entry.priority
    assert other.get_attr("FRA_IIFNAME") == (entry.iif or None)
    assert other.get_attr("FRA_FWMARK") == (entry.mark or None)
    assert other.get_attr("FRA_FWMASK") == (entry.mask or None)
    assert other.get_attr("FRA_TABLE") == (entry.table or None)
    assert other.get_attr("FRA_GOTO") == (entry.goto or None)
    assert (other.get_attr("FRA_SRC"), other["src_len"]) == (
        entry.source or None, (128 if entry.six else 32) if entry.source else 0,
    )  # fmt: skip
    assert message.read_rule(data[16:]) == entry


def test_foreign_rules_are_not_taken_for_ours() -> None:
    ours = message.rule(RULES["way"])
    assert message.read_rule(ours[16:-4] + b"\2\0\0\0") is None


def test_a_route_of_another_table_is_written_and_read_back_alike() -> None:
    entry = Route(dst="0.0.0.0/0", device="x", via="240.0.0.2", onlink=True, table=0x80000002)
    data = message.route(5, entry)
    assert parsed(rtmsg, data).get_attr("RTA_TABLE") == entry.table
    read = message.read_route(data[16:])
    assert read is not None
    assert read[1].table == entry.table
