"""Listening ports, read from real copies of the kernel's socket tables."""

import asyncio
import os
import socket
from pathlib import Path

import pytest

from agent import listening as listening_module
from agent.listening import accepted, listening
from agent.network.sockets import has_unaccepted, listeners, listens
from agent.tasks.record import Record
from pyswarm_core.ids import NodeId, ServiceId, TaskId
from pyswarm_core.objects import TaskDetail
from pyswarm_core.specs import ContainerSpec, PortConfig, TaskSpec

HEAD = b"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n"
TABLE = HEAD + (
    b"   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0\n"
    b"   1: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0\n"
    b"   2: 0200800A:01BB 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0\n"
    b"   3: 0200800A:C350 0100800A:0016 01 00000000:00000000 00:00000000 00000000     0\n"
)
OWN = frozenset({"10.128.0.2"})


def test_only_listening_sockets_count() -> None:
    assert list(listeners(TABLE)) == [("127.0.0.1", 8080), ("0.0.0.0", 80), ("10.128.0.2", 443)]


def test_a_port_is_open_on_every_address_or_on_the_tasks_own() -> None:
    assert listens(TABLE, frozenset({80, 443, 8080, 50000}), OWN) == {80, 443}
    assert listens(TABLE, frozenset({443}), frozenset({"10.128.0.3"})) == frozenset()


@pytest.mark.parametrize(
    ("words", "address"),
    [
        ("00000000000000000000000000000000", "::"),
        ("0000000000000000FFFF00000200800A", "10.128.0.2"),
        ("000080FE000000000000000001000000", "fe80::1"),
    ],
)
def test_addresses_of_ipv6_sockets_are_read(words: str, address: str) -> None:
    line = f"   0: {words}:0050 {'0' * 32}:0000 0A 00000000:00000000\n"
    assert list(listeners(HEAD + line.encode())) == [(address, 80)]


async def test_a_real_process_listens_once_it_does() -> None:
    with socket.socket() as server:
        server.bind(("0.0.0.0", 0))
        record = Record(
            task_id=TaskId("t"), service_id=ServiceId("s"), service_name="web", slot=1,
            node_id=NodeId("n"), spec=TaskSpec(container_spec=ContainerSpec(image="web")),
            ports=(PortConfig(target_port=server.getsockname()[1]),),
            detail=TaskDetail(pid=os.getpid()),
        )  # fmt: skip
        assert not await listening(record)
        server.listen()
        assert await listening(record)
    assert not await listening(record)


@pytest.mark.parametrize(
    ("line", "waits"),
    [
        (b"00000000:0050 00000000:0000 0A 00000000:00000000", False),
        (b"00000000:0050 00000000:0000 0A 00000000:00000002", True),
        (b"0200800A:0050 0100800A:9C40 03 00000000:00000000", True),
        (b"0200800A:0050 0100800A:9C40 01 00000000:00000040", False),
    ],
    ids=["none", "in the accept queue", "in the handshake", "accepted, with data"],
)
def test_connections_that_no_program_has_accepted_are_found(line: bytes, waits: bool) -> None:
    table = TABLE + b"   4: " + line + b" 00:00000000 00000000     0\n"
    assert has_unaccepted(table) is waits


async def test_a_real_connection_waits_until_it_is_accepted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listening_module, "ACCEPT_MAX_S", 3600.0)
    record = Record(
        task_id=TaskId("t"), service_id=ServiceId("s"), service_name="web", slot=1,
        node_id=NodeId("n"), spec=TaskSpec(container_spec=ContainerSpec(image="web")),
        detail=TaskDetail(pid=os.getpid(), ports=(PortConfig(target_port=80),)),
    )  # fmt: skip
    server = socket.create_server(("127.0.0.1", 0))
    with server, socket.create_connection(server.getsockname()):
        waiting = asyncio.create_task(accepted(record))
        done, _ = await asyncio.wait([waiting], timeout=0.1)
        assert not done
        server.accept()[0].close()
        await waiting


def test_every_line_of_this_hosts_own_table_is_understood() -> None:
    for name in ("tcp", "tcp6"):
        for address, port in listeners(Path(f"/proc/self/net/{name}").read_bytes()):
            assert address
            assert 0 < port < 65536
