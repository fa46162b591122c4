"""Resolvers in real namespaces of tasks, queried by a client inside them."""

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import dns.flags
import dns.message
import dns.query
import dns.rcode
import pytest

from agent.network import message
from agent.network.base import (
    RESOLVER_ADDRESS,
    RESOLVER_PORT,
    Backend,
    DesiredEndpoint,
    DesiredOverlay,
    NetworkFailed,
)
from agent.network.dns.forward import HostServers
from agent.network.dns.server import PIPELINED, NameServers, serving_names
from agent.network.netlink import NETFILTER, Netlink
from agent.network.netns import Namespaces
from agent.network.vips.ruleset import Ruleset, replacement
from pyswarm_core.ids import NetworkId, ServiceId, TaskId
from pyswarm_core.limits import NAMES_CONNECTIONS_PER_TASK, NAMES_FORWARDED_PER_TASK
from tests.fixtures.netns import inside
from tests.integration.network import upstream
from tests.integration.network.hosts import sh
from tests.integration.network.upstream import upstreams

T = TypeVar("T")
APP, CLOSED = NetworkId("netapp"), NetworkId("netclosed")
TASK = TaskId("task-a")
TIMEOUT_S = 60.0
BACKENDS = 300


class Heard(Counter[str]):
    """A tally that tests can read."""

    def asked(self, outcome: str) -> None:
        self[outcome] += 1

    def forwarded(self, seconds: float) -> None:
        assert seconds >= 0
        self["timed"] += 1


class World:
    """The resolvers of one host's agent, and the namespace of one task."""

    def __init__(self, directory: Path) -> None:
        self.namespaces = Namespaces(directory / "netns")
        self.tally = Heard()
        self.make(TASK)

    def make(self, task_id: TaskId) -> None:
        with self.namespaces.new() as (descriptor, within):
            within.apply([message.up(1)])
            self.namespaces.keep(task_id, descriptor)

    def path(self, task_id: TaskId = TASK) -> str:
        return str(self.namespaces.path(task_id))

    @asynccontextmanager
    async def agent(
        self, host: HostServers, *networks: NetworkId, servers: tuple[str, ...] = ()
    ) -> AsyncIterator[NameServers]:
        """An agent that has the services and serves the task; it is killed at the end."""
        async with serving_names(self.namespaces, host, self.tally) as names:
            names.replace(OVERLAYS, ENDPOINTS)
            await names.open(TASK, networks or (APP,), servers)
            yield names

    async def inside(self, work: Callable[[], T]) -> T:
        return await asyncio.to_thread(inside, self.path(), work)

    async def ask(self, name: str, kind: str = "A", *, tcp: bool = False) -> dns.message.Message:
        """The answer to a client in the task."""
        query = dns.message.make_query(name, kind)
        how = dns.query.tcp if tcp else dns.query.udp
        return await self.inside(
            lambda: how(query, RESOLVER_ADDRESS, timeout=TIMEOUT_S, port=RESOLVER_PORT)
        )

    def close(self) -> None:
        for name in self.namespaces.found():
            self.namespaces.drop(name)
        self.namespaces.close()


def overlay(network: NetworkId, prefix: str, *, internal: bool = False) -> DesiredOverlay:
    return DesiredOverlay(
        network_id=network, name=network[3:], subnet=f"{prefix}.0.0/16",
        local_blocks=(f"{prefix}.0.0/26",), internal=internal,
    )  # fmt: skip


OVERLAYS = (overlay(APP, "10.128"), overlay(CLOSED, "10.129", internal=True))
ENDPOINTS = (
    DesiredEndpoint(
        service_id=ServiceId("s1"), service_name="web", network_id=APP, vip="10.128.255.254",
        backends=tuple(
            Backend(TaskId(f"t{n}"), n, f"10.128.{n // 250}.{n % 250}") for n in range(BACKENDS)
        ),
    ),
    DesiredEndpoint(
        service_id=ServiceId("s1"), service_name="web", network_id=CLOSED, vip="10.129.255.254"
    ),
)  # fmt: skip


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


@pytest.fixture
def nowhere(tmp_path: Path) -> HostServers:
    return HostServers(tmp_path / "resolv.conf")


def addresses(reply: dns.message.Message) -> list[str]:
    return [row.to_text() for rows in reply.answer for row in rows]


@pytest.mark.parametrize("tcp", [False, True])
async def test_a_task_resolves_its_services_address(
    world: World, nowhere: HostServers, tcp: bool
) -> None:
    async with world.agent(nowhere):
        assert addresses(await world.ask("WEB", tcp=tcp)) == ["10.128.255.254"]
        assert addresses(await world.ask("7.web", tcp=tcp)) == ["10.128.0.7"]
        name = await world.ask("7.0.128.10.in-addr.arpa", "PTR", tcp=tcp)
        assert addresses(name) == ["web.7.t7."]
        six = await world.ask("web", "AAAA", tcp=tcp)
        assert (six.rcode(), addresses(six)) == (dns.rcode.NOERROR, [])
    assert world.tally == {"answered": 3, "empty": 1}


def led(world: World) -> str:
    """The task's namespace, in which DNS queries are redirected to the agent's port."""
    with inside(world.path(), lambda: Netlink(NETFILTER)) as netfilter:
        netfilter.commit(replacement(Ruleset()))
    return world.path()


async def test_the_clients_of_a_container_understand_it(world: World, nowhere: HostServers) -> None:
    ask = f"nsenter --net={led(world)} busybox nslookup web {RESOLVER_ADDRESS}"
    async with world.agent(nowhere):
        assert "10.128.255.254" in await asyncio.to_thread(sh, ask)


def test_questions_are_led_at_the_loopback_in_nfts_own_words(world: World) -> None:
    found = sh(f"nsenter --net={led(world)} nft list table netdev pyswarm")
    lines = [line.strip() for line in found.splitlines()]
    assert 'type filter hook ingress device "lo" priority filter; policy accept;' in lines
    for protocol in ("udp", "tcp"):
        here, there = f"{protocol} dport", f"{protocol} sport"
        assert f"ip daddr {RESOLVER_ADDRESS} {here} 53 {here} set {RESOLVER_PORT}" in lines, found
        assert f"ip saddr {RESOLVER_ADDRESS} {there} {RESOLVER_PORT} {there} set 53" in lines, found


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_who_asks_when_no_agent_is_there_hears_it_at_once(world: World, kind: int) -> None:
    def ask() -> None:
        with socket.socket(socket.AF_INET, kind) as asking:
            asking.settimeout(TIMEOUT_S)
            asking.connect((RESOLVER_ADDRESS, 53))
            asking.send(b"?")
            asking.recv(1)

    with pytest.raises(ConnectionRefusedError):
        inside(led(world), ask)


async def test_too_many_for_a_datagram_are_sent_over_a_stream(
    world: World, nowhere: HostServers
) -> None:
    async with world.agent(nowhere):
        cut = await world.ask("tasks.web")
        assert cut.flags & dns.flags.TC
        assert 0 < len(addresses(cut)) < BACKENDS
        whole = await world.ask("tasks.web", tcp=True)
        assert not whole.flags & dns.flags.TC
        assert len(set(addresses(whole))) == BACKENDS


async def test_new_endpoints_count_at_once(world: World, nowhere: HostServers) -> None:
    async with world.agent(nowhere) as names:
        names.replace(OVERLAYS, ())
        assert (await world.ask("web")).rcode() == dns.rcode.SERVFAIL


async def test_a_task_of_two_networks_hears_of_the_first(
    world: World, nowhere: HostServers
) -> None:
    async with world.agent(nowhere, CLOSED, APP) as names:
        assert addresses(await world.ask("web")) == ["10.129.255.254"]
        await names.open(TASK, (APP, CLOSED), ())
        assert addresses(await world.ask("web")) == ["10.128.255.254"]


async def test_a_restarted_agent_answers_where_the_killed_one_did(
    world: World, nowhere: HostServers
) -> None:
    lingering = []
    for _ in range(2):
        async with world.agent(nowhere):
            # Closed from the agent's side first: the closed connection stays in the kernel for a
            # while.
            lingering.append(await world.inside(connected))
            assert addresses(await world.ask("web", tcp=True)) == ["10.128.255.254"]
    with pytest.raises(ConnectionRefusedError):
        await world.inside(connected)
    for stream in lingering:
        stream.close()


def connected() -> socket.socket:
    return socket.create_connection((RESOLVER_ADDRESS, RESOLVER_PORT), timeout=TIMEOUT_S)


async def test_closing_lets_go_of_the_namespace(world: World, nowhere: HostServers) -> None:
    async with world.agent(nowhere) as names:
        number = world.namespaces.path(TASK).stat().st_ino
        stream = await world.inside(connected)
        await names.close(TASK)
        await names.close(TASK)
        with stream:
            assert stream.recv(1) == b""
        world.namespaces.drop(TASK)
        assert f"net:[{number}]" not in sh("lsns -t net -n -o NS,PATH | sed 's/^ */net:[/'")
        world.make(TASK)
        await names.open(TASK, (APP,), ())
        assert addresses(await world.ask("web")) == ["10.128.255.254"]


async def test_a_namespace_that_is_not_there_is_named(world: World, nowhere: HostServers) -> None:
    async with serving_names(world.namespaces, nowhere, world.tally) as names:
        with pytest.raises(NetworkFailed, match="task gone"):
            await names.open(TaskId("gone"), (APP,), ())


async def test_nonsense_hurts_nobody(world: World, nowhere: HostServers) -> None:
    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            for raw in (b"", b"x", b"\0" * 12, b"\1" * 5000, b"\0\1\1\0\0\1" + b"\0" * 6 + b"\xc0"):
                client.sendto(raw, (RESOLVER_ADDRESS, RESOLVER_PORT))
        for raw in (b"\xff\xff", b"\0\0", b"\0\x0c" + b"\xc0" * 12, b"\0\5abc"):
            with connected() as stream:
                stream.sendall(raw)

    async with world.agent(nowhere):
        await world.inside(send)
        assert addresses(await world.ask("web")) == ["10.128.255.254"]
        assert addresses(await world.ask("web", tcp=True)) == ["10.128.255.254"]
    assert world.tally["malformed"] >= 3


async def test_questions_of_one_connection_need_not_wait_for_each_other(
    world: World, tmp_path: Path
) -> None:
    def converse() -> list[str]:
        with connected() as stream:
            asked = {}
            wire = b""
            for name in ("slow.example", *["web"] * PIPELINED):
                query = dns.message.make_query(name, "A")
                asked[query.id] = name
                raw = query.to_wire()
                wire += len(raw).to_bytes(2) + raw
            stream.sendall(wire)
            return [asked[dns.query.receive_tcp(stream)[0].id] for _ in asked]

    async with upstreams(tmp_path / "r", upstream.silent) as (host, _), world.agent(host):
        heard = await world.inside(converse)
        assert heard == ["web"] * (len(heard) - 1) + ["slow.example"]


async def test_further_connections_than_a_task_may_have_are_closed(
    world: World, nowhere: HostServers
) -> None:
    def many() -> bytes:
        streams = [connected() for _ in range(NAMES_CONNECTIONS_PER_TASK + 1)]
        try:
            return streams[-1].recv(1)
        finally:
            for stream in streams:
                stream.close()

    async with world.agent(nowhere):
        assert await world.inside(many) == b""
        assert addresses(await world.ask("web")) == ["10.128.255.254"]
    assert world.tally["busy"] == 1


async def test_other_names_are_asked_of_the_hosts_servers(world: World, tmp_path: Path) -> None:
    async with upstreams(tmp_path / "r", upstream.honest) as (host, (server,)):
        async with world.agent(host):
            reply = await world.ask("db.example")
            assert addresses(reply) == ["192.0.2.7"]
            assert reply.answer[0].ttl == 77
            assert [rows.to_text() for rows in reply.additional] == [
                'by.example. 5 IN TXT "upstream"'
            ]
            (tmp_path / "r").write_text("nameserver 127.0.0.9\n")
            assert (await world.ask("db.example")).rcode() == dns.rcode.SERVFAIL
        assert server.asked == 1
    assert world.tally == {"forwarded": 1, "timed": 1, "failed": 1}


@pytest.mark.parametrize(
    "first", [None, upstream.silent, upstream.failing, upstream.lying],
    ids=["dead", "silent", "failing", "lying"],
)  # fmt: skip
async def test_a_bad_server_costs_time_not_the_answer(
    world: World, tmp_path: Path, first: upstream.Replies | None
) -> None:
    async with (
        upstreams(tmp_path / "r", first, upstream.honest) as (host, servers),
        world.agent(host),
    ):
        assert addresses(await world.ask("db.example")) == ["192.0.2.7"]
        asked = servers[0].asked
        assert addresses(await world.ask("db.example")) == ["192.0.2.7"]
        again = servers[0].asked - asked
        assert again == (first is upstream.lying), "the one that answered is asked first"


async def test_the_last_word_of_unhelpful_servers_is_passed_on(
    world: World, tmp_path: Path
) -> None:
    async with (
        upstreams(tmp_path / "r", None, upstream.failing) as (host, _),
        world.agent(host),
    ):
        assert (await world.ask("db.example")).rcode() == dns.rcode.SERVFAIL
    assert world.tally["forwarded"] == 1


async def test_no_such_name_is_an_answer(world: World, tmp_path: Path) -> None:
    async with (
        upstreams(tmp_path / "r", upstream.unknowing, upstream.honest) as (host, servers),
        world.agent(host),
    ):
        assert (await world.ask("no.example")).rcode() == dns.rcode.NXDOMAIN
        assert servers[1].asked == 0


async def test_a_cut_answer_is_relayed_and_fetched_whole_for_a_stream(
    world: World, tmp_path: Path
) -> None:
    async with (
        upstreams(tmp_path / "r", upstream.terse) as (host, (server,)),
        world.agent(host),
    ):
        assert (await world.ask("db.example")).flags & dns.flags.TC
        assert server.streams == 0
        assert addresses(await world.ask("db.example", tcp=True)) == ["192.0.2.7"]
        assert server.streams == 1


async def test_a_services_own_servers_are_asked_from_inside_the_task(
    world: World, nowhere: HostServers
) -> None:
    def listen() -> socket.socket:
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.bind(("127.0.0.1", 53))
        server.settimeout(TIMEOUT_S)
        return server

    def answer_one(server: socket.socket) -> None:
        raw, sender = server.recvfrom(1000)
        (reply,) = upstream.honest(dns.message.from_wire(raw))
        server.sendto(reply, sender)

    server = await world.inside(listen)
    with server:
        # Also from an internal network, which the query cannot leave.
        async with world.agent(nowhere, CLOSED, servers=(RESOLVER_ADDRESS, "127.0.0.1")):
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.to_thread(answer_one, server))
                assert addresses(await world.ask("db.example")) == ["192.0.2.7"]
            assert addresses(await world.ask("web")) == ["10.129.255.254"]


async def test_a_task_of_internal_networks_alone_is_refused_the_outside(
    world: World, tmp_path: Path
) -> None:
    async with (
        upstreams(tmp_path / "r", upstream.honest) as (host, (server,)),
        world.agent(host, CLOSED),
    ):
        assert (await world.ask("db.example")).rcode() == dns.rcode.REFUSED
        assert addresses(await world.ask("web")) == ["10.129.255.254"]
        assert server.asked == 0


async def test_one_task_cannot_have_everything_asked_at_once(world: World, tmp_path: Path) -> None:
    def flood() -> list[int]:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(TIMEOUT_S)
            client.connect((RESOLVER_ADDRESS, RESOLVER_PORT))
            for number in range(NAMES_FORWARDED_PER_TASK + 5):
                client.send(dns.message.make_query(f"n{number}.example", "A").to_wire())
            return [dns.message.from_wire(client.recv(1000)).rcode() for _ in range(5)]

    async with upstreams(tmp_path / "r", upstream.silent) as (host, _), world.agent(host) as names:
        assert await world.inside(flood) == [dns.rcode.SERVFAIL] * 5
        assert world.tally["busy"] == 5
        await names.close(TASK)
        assert names.forwarding == 0
