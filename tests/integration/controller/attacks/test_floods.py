"""One host that floods a controller: others are served meanwhile, and memory stays bounded.

`make attack` does the same on a larger scale, and reports how long the others waited.
"""

import asyncio
from collections.abc import Iterator
from contextlib import suppress

import grpc
import pytest

from pyswarm_core.aio.credentials import channel
from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.api.v1 import control_pb2_grpc
from pyswarm_core.limits import RECEIVED_PER_CALLER, STRANGERS_PER_CALLER, TUNNEL_FRAME_BYTES
from tests.integration.controller.attacks.caller import calling
from tests.integration.controller.attacks.floods import FLOODS, JOIN, QUIET_S, Scale, suffer
from tests.integration.controller.attacks.raw import END_STREAM, HEADERS, Http2, context
from tests.integration.controller.attacks.target import Target, running
from tests.integration.controller.fleet import FakeAgent, until

SCALE = Scale(seconds=1.0, connections=200, streams=100)
GROWTH_MAX = RECEIVED_PER_CALLER * TUNNEL_FRAME_BYTES + (48 << 20)
"""Requests of one caller, buffers of the transport, and what the allocator keeps."""


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with running(tmp_path_factory.mktemp("target")) as found:
        yield found


@pytest.mark.parametrize("name", FLOODS)
def test_others_are_served_and_memory_is_bounded(target: Target, name: str) -> None:
    outcome = suffer(target, FLOODS[name], SCALE)
    assert outcome.calls.errors == []
    assert outcome.calls.took_s
    assert outcome.most - outcome.before < GROWTH_MAX, outcome.told
    assert not outcome.told.startswith("0 "), outcome.told


def test_requests_of_a_user_that_do_not_arrive_hold_no_more(target: Target) -> None:
    with channel(target.socket, None, aio=False) as root:
        request = pb.CreateUserRequest()
        request.spec.name, request.spec.role = "slow", "viewer"
        user = control_pb2_grpc.ControlStub(root).CreateUser(request, timeout=60).user
    before = target.memory()
    target.forget_most_memory()
    streams = range(1, 2 * SCALE.streams, 2)
    least = RECEIVED_PER_CALLER * TUNNEL_FRAME_BYTES // 2
    with Http2(target.host_port, context(target.pki.user(user.id))) as connection:
        connection.greet()
        for stream in streams:
            connection.call(stream, "/pyswarm.v1.Control/GetInfo")
        sent = connection.fill(streams, TUNNEL_FRAME_BYTES, QUIET_S, least)
    assert sent > least
    assert target.most_memory() - before < GROWTH_MAX


def test_a_guest_finds_the_end_of_its_metadata(target: Target) -> None:
    call = {"request_serializer": bytes, "response_deserializer": bytes}
    with channel(target.address, target.pki.guest(), aio=False) as connection:
        check = connection.unary_unary("/grpc.health.v1.Health/Check", **call)
        for size, fails in ((7_000, False), (8_200, True), (100_000, True)):
            made = check.future(b"", metadata=(("x", "y" * size),), timeout=60)
            assert (made.code() is not grpc.StatusCode.OK) == fails, size


async def test_silent_guests_take_no_place_of_agents_and_users_of_their_host(
    target: Target,
) -> None:
    agent = FakeAgent("host1")
    await agent.join(target.address, target.pki.token)
    # The server waits five seconds for the greeting; the caller's process takes a while to start.
    with calling(target) as calls, Http2(target.host_port, context(target.pki.guest())) as silent:
        silent.greet()
        for number in range(STRANGERS_PER_CALLER + 100):
            silent.call(2 * number + 1, JOIN)
        refused = await asyncio.to_thread(_first_to_end, silent)
        # All before it have a place. The agent's call to join was a guest's, and may have one yet.
        assert refused in (2 * STRANGERS_PER_CALLER - 1, 2 * STRANGERS_PER_CALLER + 1)
        session = asyncio.create_task(agent.converse(target.address))
        await until(lambda: agent.full_sets or session.done(), "an agent has a session")
        assert agent.full_sets == 1
        session.cancel()
        with suppress(asyncio.CancelledError):
            await session
    assert calls.errors == []
    assert calls.took_s


def _first_to_end(connection: Http2) -> int:
    """The stream that the server ends first."""
    return next(
        stream
        for kind, flags, stream, _ in connection.frames()
        if kind == HEADERS and flags & END_STREAM
    )
