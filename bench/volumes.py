"""Moves of volumes beside `tar | tar` over the same link. SHELL.

The agents of source and destination are two processes, the leader is this one. The link is
loopback. A move is encrypted, as between hosts; `tar -c | tar -x` over a TCP socket is not, and is
measured a second time through `openssl s_client` and `s_server`. All have the same options of tar,
and what is copied is in the page cache. A move ends when the copy is on the destination's disk, so
`tar -x` is followed by `sync -f` too. All of it shares the processors: with as many as processes
it is the link that counts, with two it is the processor time.
"""

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import cache, partial
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any, NamedTuple

import grpc
import msgspec

from agent.streams.direct.connection import Own
from agent.volumes import tar
from agent.volumes.jail import SHOWN
from agent.volumes.store import VolumeStore
from bench import machine
from bench.report import Figure
from controller.grpc.admission import Admission
from controller.grpc.calls import ErrorsToStatus, received
from controller.grpc.tunnels import GrpcTunnel
from controller.identity import ca
from controller.identity.ca import Subject, Unit
from controller.identity.cluster import issuer_of
from controller.leader.moves.copier import _Copy
from controller.leader.tunnels import Tunnels
from pyswarm_core.aio.channel import SERVER_OPTIONS
from pyswarm_core.aio.system import RandomIds, SystemClock
from pyswarm_core.aio.trees import remove_tree
from pyswarm_core.api.v1 import dispatcher_pb2, dispatcher_pb2_grpc
from pyswarm_core.clock import HOUR, Instant
from pyswarm_core.identity.certificates import CertificateAuthority
from pyswarm_core.identity.trust import AGENT_NAME
from pyswarm_core.ids import NodeId
from pyswarm_core.volumes.volume import (
    Volume,
    VolumeId,
    VolumeSpec,
    VolumeWork,
    VolumeWorkKind,
)

_MIB = 1 << 20
_ID = VolumeId("v1")
_SOURCE, _DESTINATION = NodeId("source"), NodeId("destination")
_BOUND = 0.8
_CLUSTER = "bench"
_PROCESSES = ("source", "leader", "destination")


class _Moved(NamedTuple):
    """One move."""

    took_s: float
    cpu_s: dict[str, float]
    """Processor seconds by process, without those of tar."""


class _Turn(NamedTuple):
    """Each way once, in seconds or as a move."""

    tar: float
    tls: float
    direct: _Moved
    relayed: _Moved


def measure(quick: bool) -> Iterable[Figure]:
    """Large files and 10,000 small ones, in turns."""
    rounds = 1 if quick else 7
    with tempfile.TemporaryDirectory(prefix="pyswarm-bench-") as base:
        for name, count, size in (
            ("4 large files", 4, (64 if quick else 256) * _MIB),
            ("10,000 files of 4 KiB", 1_000 if quick else 10_000, 4096),
        ):
            top = Path(base) / name.split()[0]
            data = _made(top / "source", count, size)
            turns = [_turn(top, data) for _ in range(rounds)]
            yield from _figures(name, turns, count * size / _MIB)
            remove_tree(top)


def _figures(name: str, turns: Sequence[_Turn], mib: float) -> Iterable[Figure]:
    load = f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} processors"
    for what, peer, own, bound in (
        ("tar | tar", "tar", "direct", _BOUND),
        ("tar | tar through TLS", "tls", "direct", _BOUND),
        ("tar | tar, through the leader", "tar", "relayed", None),
    ):
        ratios = [getattr(one, peer) / getattr(one, own).took_s for one in turns]
        ours = median(getattr(one, own).took_s for one in turns)
        theirs = median(getattr(one, peer) for one in turns)
        used = ", ".join(
            f"{process} {1e3 * median(getattr(one, own).cpu_s[process] for one in turns) / mib:.1f}"
            for process in _PROCESSES
        )
        yield Figure(
            f"move of {name}: speed over {what}",
            median(ratios),
            "x",
            bound,
            True,
            note=f"of {min(ratios):.2f} to {max(ratios):.2f} in {len(turns)} turns; {ours:.2f} s,"
            f" {theirs:.2f} s; {mib / ours:.0f} MiB/s; {load}; processor time of a MiB in ms,"
            f" without tar: {used}",
        )


def _made(top: Path, count: int, size: int) -> Path:
    store = VolumeStore(top / "state")
    store.prepare()
    store.begin(_ID)
    data = store.finish(_ID, "data")
    for number in range(count):
        directory = data / f"{number % 100}"
        directory.mkdir(exist_ok=True)
        with (directory / f"{number}").open("wb") as file:
            for _ in range(max(1, size // _MIB)):
                file.write(os.urandom(min(size, _MIB)))
    return data


def _turn(top: Path, data: Path) -> _Turn:
    """Each way once."""
    tar_s = _tar(data, top / "peer")
    direct = asyncio.run(_move(top, direct=True))
    remove_tree(top / "destination")
    tls_s = _tar(data, top / "peer", tls=_certificate(top))
    relayed = asyncio.run(_move(top, direct=False))
    remove_tree(top / "destination")
    return _Turn(tar_s, tls_s, direct, relayed)


def _certificate(top: Path) -> Path:
    """Of a node, with its key, for openssl."""
    file = top / "node.pem"
    if not file.exists():
        file.write_bytes(_own("peer").chain_and_key)
    return file


@cache
def _own(node_id: str) -> Own:
    """What an agent shows to others."""
    key = ca.new_key()
    subject = Subject(Unit.WORKER, node_id, _CLUSTER)
    issued = issuer_of(_authority()).certify(
        key.public_key(), subject, HOUR, SystemClock().now(), serves=AGENT_NAME
    )
    shown = issued.pem + ca.key_pem(key)
    return Own(shown, _authority().certificate, _CLUSTER, "127.0.0.1")


@cache
def _authority() -> CertificateAuthority:
    return ca.new_authority(_CLUSTER, SystemClock().now())


def _tar(data: Path, into: Path, tls: Path | None = None) -> float:
    """Seconds of `tar -c` on one end of a TCP connection, and `tar -x` on the other; `tls`: of a
    connection of openssl with this certificate.
    """
    into.mkdir()
    try:
        began = time.perf_counter()
        (_plain if tls is None else partial(_encrypted, tls))(data, into)
        subprocess.run(["sync", "-f", into], check=True)
        return time.perf_counter() - began
    finally:
        remove_tree(into)


def _plain(data: Path, into: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with socket.create_connection(listener.getsockname()) as sending:
            receiving, _ = listener.accept()
            with receiving:
                unpacking = subprocess.Popen(_words(tar.UNPACK, into), stdin=receiving.fileno())
            packing = subprocess.Popen(_words(tar.PACK, data), stdout=sending.fileno())
            assert packing.wait() == 0
        assert unpacking.wait() == 0


def _encrypted(certificate: Path, data: Path, into: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
    accept = ("openssl", "s_server", "-quiet", "-naccept", "1", "-4", "-accept", port, "-tls1_3")
    serving = subprocess.Popen(
        [*accept, "-cert", certificate, "-key", certificate, "-num_tickets", "0"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    unpacking = subprocess.Popen(_words(tar.UNPACK, into), stdin=serving.stdout)
    packing = subprocess.Popen(_words(tar.PACK, data), stdout=subprocess.PIPE)
    while f":{int(port):04X} 00000000:0000 0A" not in Path("/proc/net/tcp").read_text():
        time.sleep(0.01)
    connect = ("openssl", "s_client", "-quiet", "-nocommands", "-no_ign_eof", "-connect")
    sending = subprocess.Popen(
        [*connect, f"127.0.0.1:{port}"],
        stdin=packing.stdout,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for pipe in (serving.stdout, packing.stdout):
        assert pipe is not None
        pipe.close()
    assert [packing.wait(), sending.wait(), unpacking.wait()] == [0, 0, 0]
    serving.wait()


def _words(words: Sequence[str], directory: Path) -> list[str]:
    """The command of an agent, outside of its jail."""
    return [word.replace(SHOWN, str(directory)) for word in words]


class _Dispatcher(dispatcher_pb2_grpc.DispatcherServicer):
    """The leader's end of tunnels."""

    def __init__(self) -> None:
        self.asked: dict[str, NodeId] = {}
        self.tunnels: Tunnels | None = None

    async def Tunnel(self, frames: object, context: Any) -> None:  # type: ignore[override]  # noqa: N802
        first = received(await context.read(), dispatcher_pb2.TunnelFrame)
        assert first is not None
        assert self.tunnels is not None
        tunnel = GrpcTunnel(context)
        self.tunnels.accept(first.tunnel_id, self.asked.pop(first.tunnel_id), tunnel)
        await tunnel.wait_closed()


async def _move(top: Path, *, direct: bool) -> _Moved:
    ids = RandomIds()
    server = grpc.aio.server(
        interceptors=[ErrorsToStatus(ids), Admission()], options=SERVER_OPTIONS
    )
    dispatcher = _Dispatcher()  # type: ignore[abstract]
    dispatcher_pb2_grpc.add_DispatcherServicer_to_server(dispatcher, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    address = f"127.0.0.1:{port}"
    async with (
        _agent(top / "source", address, _SOURCE) as source,
        _agent(top / "destination", address, _DESTINATION) as destination,
    ):
        agents = {_SOURCE: source, _DESTINATION: destination}

        def ask(node_id: NodeId, request: dispatcher_pb2.OpenTunnel) -> None:
            dispatcher.asked[request.tunnel_id] = node_id
            stdin = agents[node_id].stdin
            assert stdin is not None
            stdin.write(f"{request.SerializeToString().hex()}\n".encode())

        dispatcher.tunnels = Tunnels(ids, ask)
        node = SimpleNamespace(id=_DESTINATION, status=SimpleNamespace(addr="127.0.0.1"))
        state = SimpleNamespace(nodes={_DESTINATION: node})
        leader: Any = SimpleNamespace(tunnels=dispatcher.tunnels, moves={}, state=state)
        work = VolumeWork(kind=VolumeWorkKind.MOVE, to=_DESTINATION, started_at=Instant(0))
        volume = Volume(id=_ID, spec=VolumeSpec(name="data"), copies=(_SOURCE,))
        before, began = _used(source, destination), time.perf_counter()
        async with asyncio.timeout(600) as limit:
            await _Copy(leader, volume, work, limit, direct=direct).run()
        took, after = time.perf_counter() - began, _used(source, destination)
    await server.stop(None)
    return _Moved(took, {name: after[name] - before[name] for name in after})


def _used(
    source: asyncio.subprocess.Process, destination: asyncio.subprocess.Process
) -> dict[str, float]:
    return {
        "source": machine.process_cpu_s(source.pid),
        "leader": time.process_time(),
        "destination": machine.process_cpu_s(destination.pid),
    }


@asynccontextmanager
async def _agent(
    top: Path, address: str, node_id: NodeId
) -> AsyncIterator[asyncio.subprocess.Process]:
    top.mkdir(exist_ok=True)
    (top / "own.json").write_bytes(msgspec.json.encode(_own(node_id)))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.volumes_agent", str(top), address,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    await process.stdout.readline()
    try:
        yield process
    finally:
        process.stdin.close()
        await process.wait()
