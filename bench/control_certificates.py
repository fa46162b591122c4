"""Certificates issued per second: hosts that renew theirs, and hosts that join. SHELL.

The controller is `python -m controller` with its own etcd; a certificate is issued once the node's
object is stored. Each host makes a key, opens a TLS connection of its own and sends one request, as
an agent does. The hosts are in this process, on the same machine.
"""

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from bench.control_agent import OWN_CONNECTION, Host, certified_credentials
from bench.control_agents import TLS, Addresses, Plane, Rig, running_controller
from bench.control_rig import (
    address,
    certified,
    cpu_s,
    description,
    embedded_etcd,
    fill,
    fleet,
    open_store,
)
from bench.report import Figure
from controller.identity import ca
from controller.identity.keyfile import create_key
from pyswarm_core.aio.credentials import ClientCredentials, channel, guest
from pyswarm_core.aio.handshake import fetch_chain
from pyswarm_core.api.v1 import dispatcher_pb2, dispatcher_pb2_grpc, objects_pb2
from pyswarm_core.codec import to_proto
from pyswarm_core.identity.tokens import parse_join_token

HOSTS = 2_000
AT_ONCE = 32
REQUIRED = 100
TIMEOUT_S = 60.0


class _Fleet(NamedTuple):
    """A running controller, and what its hosts know."""

    plane: Plane
    token: str
    stranger: ClientCredentials


def measure(quick: bool) -> list[Figure]:
    """So many hosts renew, and as many join."""
    with tempfile.TemporaryDirectory(prefix="pyswarm-bench-") as folder:
        return asyncio.run(_measure(Path(folder), 20 if quick else HOSTS))


async def _measure(folder: Path, hosts: int) -> list[Figure]:
    async with AsyncExitStack() as stack:
        etcd = await stack.enter_async_context(embedded_etcd(folder))
        state = certified(fleet(hosts))
        create_key(folder / "encryption.key")
        async with open_store(etcd) as store:
            await fill(store, state)
        rig = Rig(folder, TLS, hosts, services=0, held_s=0)
        addresses = Addresses.free(folder, etcd.pid or 0)
        plane = await stack.enter_async_context(running_controller(rig, addresses))
        token = state.cluster.worker_token
        digest = parse_join_token(token).digest
        chain = await asyncio.to_thread(fetch_chain, plane.address, digest)
        known = _Fleet(plane, token, guest(chain))
        members = [
            certified_credentials(Host(node.id, node.number), state.cluster.ca)
            for node in state.nodes.values()
        ]
        renewals = [lambda each=each: _renew(plane, each) for each in members]
        joins = [lambda number=number: _join(known, number) for number in range(hosts)]
        return [
            await _issued("renewals, each over its own TLS connection", renewals, plane),
            await _issued("joins with a token, the same", joins, plane),
        ]


async def _issued(
    what: str, requests: Sequence[Callable[[], Awaitable[None]]], plane: Plane
) -> Figure:
    """Make the requests, AT_ONCE at a time."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(request: Callable[[], Awaitable[None]]) -> None:
        async with turns:
            await request()

    used_s, etcd_s, own_s = cpu_s(plane.pid), cpu_s(plane.etcd_pid), time.process_time()
    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for request in requests:
            group.create_task(one(request))
    took_s, count = time.monotonic() - began, len(requests)
    each = [
        1000 * (after - before) / count
        for after, before in (
            (cpu_s(plane.pid), used_s),
            (cpu_s(plane.etcd_pid), etcd_s),
            (time.process_time(), own_s),
        )
    ]
    note = "processor time of each: controller {:.1f} ms, etcd {:.1f} ms, its host {:.1f} ms"
    return Figure(
        f"certificates issued: {count:,} {what}",
        count / took_s,
        "a second",
        REQUIRED,
        at_least=True,
        note=note.format(*each),
    )


async def _renew(plane: Plane, credentials: ClientCredentials) -> None:
    request = dispatcher_pb2.RenewCertificateRequest(csr=ca.csr_pem(ca.new_key()))
    async with channel(plane.address, credentials, aio=True, options=OWN_CONNECTION) as connection:
        stub = dispatcher_pb2_grpc.DispatcherStub(connection)
        reply = await stub.RenewCertificate(request, timeout=TIMEOUT_S)
    ca.parse(reply.chain)


async def _join(known: _Fleet, number: int) -> None:
    of_host = replace(description(number), hostname=f"new{number}")
    request = dispatcher_pb2.JoinRequest(
        token=known.token,
        description=to_proto(of_host, objects_pb2.NodeDescription()),
        addr=address((1 << 16) + number),
        availability="active",
        csr=ca.csr_pem(ca.new_key()),
    )
    to = known.plane.address
    async with channel(to, known.stranger, aio=True, options=OWN_CONNECTION) as connection:
        stub = dispatcher_pb2_grpc.DispatcherStub(connection)
        reply = await stub.Join(request, timeout=TIMEOUT_S)
    ca.parse(reply.certificate.chain)
