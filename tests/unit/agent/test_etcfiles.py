"""The files in /etc: what of the host's is taken over, and what a service says instead."""

import pytest

from agent import etcfiles
from pyswarm_core.specs import DnsConfig

HOST = "# by hand\nnameserver 127.0.0.53\nnameserver 192.0.2.1\nsearch old.example\nsearch corp.example\noptions edns0\n"  # noqa: E501
RESOLVER = "127.0.0.11"
PLAIN = DnsConfig()


def resolver(of_host: str = HOST, dns: DnsConfig = PLAIN) -> list[str]:
    return etcfiles.resolver_conf(of_host, dns, RESOLVER).decode().splitlines()


def own(dns: DnsConfig = PLAIN, *, loopback: bool = False) -> list[str]:
    return etcfiles.resolv_conf(HOST, dns, loopback=loopback).decode().splitlines()


def test_a_task_with_a_resolver_asks_it_alone_and_searches_as_the_host() -> None:
    assert resolver() == ["nameserver 127.0.0.11", "search corp.example", "options ndots:0"]


def test_a_domain_is_searched_too() -> None:
    assert resolver("domain corp.example\n")[1] == "search corp.example"
    assert resolver("") == ["nameserver 127.0.0.11", "options ndots:0"]


def test_a_services_search_replaces_the_hosts() -> None:
    assert resolver(dns=DnsConfig(search=("a.example", "b.example")))[1] == (
        "search a.example b.example"
    )


def test_a_dot_is_searching_nowhere() -> None:
    assert resolver(dns=DnsConfig(search=(".",))) == ["nameserver 127.0.0.11", "options ndots:0"]
    assert "search" not in " ".join(own(DnsConfig(search=(".",))))


def test_options_are_added_and_their_dots_win() -> None:
    assert resolver(dns=DnsConfig(options=("timeout:1",)))[-1] == "options ndots:0 timeout:1"
    assert resolver(dns=DnsConfig(options=("ndots:2",)))[-1] == "options ndots:2"


def test_a_services_servers_are_the_resolvers_to_ask_not_the_tasks() -> None:
    assert resolver(dns=DnsConfig(nameservers=("192.0.2.9",)))[0] == "nameserver 127.0.0.11"


def test_a_task_without_a_resolver_asks_the_hosts_servers_but_those_on_its_loopback() -> None:
    assert own() == [line for line in HOST.splitlines() if "127.0.0.53" not in line]


def test_a_task_in_the_hosts_network_asks_what_the_host_asks() -> None:
    assert own(loopback=True) == HOST.splitlines()


def test_what_a_service_says_replaces_the_hosts_lines() -> None:
    dns = DnsConfig(nameservers=("192.0.2.9",), search=("a.example",), options=("ndots:3",))
    for loopback in (True, False):
        assert own(dns, loopback=loopback) == [
            "# by hand",
            "nameserver 192.0.2.9",
            "search a.example",
            "options ndots:3",
        ]


def test_the_servers_of_a_file_are_its_addresses() -> None:
    text = f"{HOST}nameserver fe80::1%eth0\nnameserver\nnameserver name.example\n; nameserver x\n"
    assert etcfiles.nameservers(text) == ("127.0.0.53", "192.0.2.1", "fe80::1%eth0")


def test_hosts_has_the_tasks_names_at_each_address_and_what_was_added() -> None:
    extra = etcfiles.extra_hosts(("192.0.2.5 db db.example", "host-gateway host"), "10.128.0.1")
    names = ("box", "web.1", "web.1", "web.1.abc")
    text = etcfiles.hosts(names, ("10.128.0.2", "fd00::2"), extra).decode()
    assert text.splitlines()[2:] == [
        "10.128.0.2\tbox web.1 web.1.abc",
        "fd00::2\tbox web.1 web.1.abc",
        "192.0.2.5\tdb db.example",
        "10.128.0.1\thost",
    ]


def test_a_task_in_the_hosts_network_has_the_hosts_file() -> None:
    found = etcfiles.hosts_of_host("127.0.0.1 localhost\n", ("192.0.2.5\tdb",))
    assert found == b"127.0.0.1 localhost\n192.0.2.5\tdb\n"
    assert b"localhost" in etcfiles.hosts_of_host("")


def test_an_edited_file_keeps_the_lines_of_the_container() -> None:
    before, after = b"1.1.1.1\ta\n2.2.2.2\tb\n", b"1.1.1.1\ta\n3.3.3.3\tc\n"
    assert etcfiles.edited(before, before, after) == after
    present = b"9.9.9.9\town\n2.2.2.2\tb\n\xff raw\n"
    assert etcfiles.edited(present, before, after) == b"9.9.9.9\town\n\xff raw\n3.3.3.3\tc\n"
    assert etcfiles.edited(b"", before, after) == b"3.3.3.3\tc\n"
    assert etcfiles.edited(after, before, after) == after, "a killed agent edited it already"


def test_lines_are_looked_up_in_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    """The container writes the one file, users the other: both may have very many lines."""
    compared = 0

    class Line(str):
        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return str.__eq__(self, other)

        __hash__ = str.__hash__

    def split(text: str) -> list[str]:
        return [Line(line) for line in text.split("\n")[:-1]]

    monkeypatch.setattr(etcfiles, "split_lines", split)
    ours = "".join(f"10.0.0.1\thost{number}\n" for number in range(200)).encode()
    own = "".join(f"10.0.0.2\town{number}\n" for number in range(200)).encode()
    assert etcfiles.edited(own, b"", ours) == own + ours
    assert compared < 2000
