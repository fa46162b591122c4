"""Every call by every caller of docs/security.md, over TLS with real certificates and tokens."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest

from controller.grpc.streams.calls import OPENINGS
from pyswarm_core.api.v1 import streams_pb2
from pyswarm_core.identity.users import Role
from tests.fixtures import build
from tests.fixtures.identity import naming
from tests.integration.controller.fleet import WAIT_S
from tests.integration.controller.identified import Identified, identified
from tests.integration.controller.matrix import Row, call_of, methods, request_of, rows

NODE = "0" * 24 + "1"
DESCRIPTORS = dict(methods())
ENDLESS = ("/grpc.health.v1.Health/Watch",)
Caller = tuple[grpc.aio.Channel, tuple[tuple[str, str], ...]]


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Identified]:
    async with identified(tmp_path) as found:
        await found.put(build.node(NODE))
        yield found


async def _callers(fleet: Identified) -> dict[str, list[Caller]]:
    """By column; users once with a certificate and once with a token."""
    agent = fleet.ca.node(NODE)
    await fleet.put(naming(build.node(NODE), agent.cert_pem))
    found: dict[str, list[Caller]] = {
        "guest": [(fleet.dial(fleet.guest), ())],
        "agent": [(fleet.dial(agent), ())],
        "controller": [(fleet.dial(fleet.ca.manager("c2")), ())],
    }
    for role in Role:
        user = await fleet.user(f"the-{role}", role)
        token = await fleet.token(user)
        found["admin, root" if role is Role.ADMIN else role] = [
            (fleet.as_user(user), ()),
            (fleet.dial(fleet.guest), (("authorization", f"Bearer {token}"),)),
        ]
    found["admin, root"].append((fleet.as_root(), ()))
    limited = await fleet.user("limited", Role.OPERATOR, "web")
    found["of a stack"] = [(fleet.as_user(limited), ())]
    return found


async def _refused(caller: Caller, row: Row) -> str | None:
    """The policy's error; None if the call got further."""
    (channel, metadata), method = caller, DESCRIPTORS[row.method]
    call: Any = call_of(channel, row.method, method)
    request = request_of(method, row.kind)
    async with asyncio.timeout(WAIT_S):
        if method.client_streaming:
            made = call(None, metadata=metadata)
            with suppress(grpc.RpcError, asyncio.InvalidStateError):  # it may be refused by now
                if method.name in OPENINGS:
                    first = streams_pb2.StreamFrame(**{OPENINGS[method.name]: request})
                    await made.write(first)
                await made.done_writing()
        else:
            made = call(request, metadata=metadata)
        if row.method in ENDLESS:
            await made.read()
            made.cancel()
            return None
        if method.server_streaming:
            with suppress(grpc.RpcError):
                while await made.read() is not grpc.aio.EOF:  # type: ignore[attr-defined]
                    pass
        code, details = await made.code(), await made.details() or ""
    denied = code is grpc.StatusCode.PERMISSION_DENIED and " may not " in details
    assert denied or code is not grpc.StatusCode.INTERNAL, details
    return details if denied else None


async def test_every_caller_may_call_what_the_document_says_and_nothing_else(
    fleet: Identified,
) -> None:
    callers = await _callers(fleet)
    wrong, made = [], 0
    for row in rows():
        for column, known in callers.items():
            for number, caller in enumerate(known):
                refused = await _refused(caller, row)
                made += 1
                if row.cells[column] == "theirs":
                    continue  # test_stacks.py calls them with objects of both kinds
                if (refused is None) != (row.cells[column] == "yes"):
                    wrong.append(f"{row.method} {row.kind} {column} {number}: {refused}")
    for known in callers.values():
        for channel, _ in known:
            await channel.close(None)
    assert wrong == []
    assert made == len(rows()) * 11
