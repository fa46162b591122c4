"""What comes from outside the fleet is bounded before anybody looks at it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from msgspec.structs import replace

from controller.app import Controller
from controller.config import Config
from controller.grpc import admission
from controller.grpc.admission import JOINS, REQUESTS, STRANGERS
from controller.identity import ca
from controller.store.memory import MemoryKv
from controller.store.memory_store import MemoryStore
from pyswarm_core.aio.credentials import channel
from pyswarm_core.aio.streams.framed import ENDED, send
from pyswarm_core.aio.system import SteadyClock
from pyswarm_core.api.v1 import (
    control_pb2,
    control_pb2_grpc,
    dispatcher_pb2,
    dispatcher_pb2_grpc,
    specs_pb2,
)
from pyswarm_core.ids import short
from pyswarm_core.limits import REQUEST_BYTES_MAX
from pyswarm_core.payloads.limits import CONFIG_BYTES_MAX, PAYLOAD_REQUEST_BYTES_MAX
from tests.fixtures.identity import Pki
from tests.integration.controller.fleet import HELLO, agents_of, config, leading, serving, until

FEW = 3
AGENTS = 20


@pytest.fixture
def settings(tmp_path: Path) -> Config:
    return config(tmp_path)


@pytest.fixture
async def controller(
    settings: Config, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Controller]:
    monkeypatch.setattr(admission, "STRANGERS", replace(STRANGERS, per_caller=FEW))
    monkeypatch.setattr("controller.grpc.dispatcher.JOINS", replace(JOINS, per_caller=FEW))
    monkeypatch.setattr(admission, "REQUESTS", replace(REQUESTS, per_caller=FEW))
    async with serving(settings, MemoryStore(MemoryKv(), SteadyClock())) as found:
        await leading(found)
        yield found


def _dial(settings: Config) -> grpc.aio.Channel:
    """As a user."""
    return channel(settings.listen[0], None, aio=True)


def _come(controller: Controller, settings: Config) -> grpc.aio.Channel:
    """As a host that has nothing but what everybody has."""
    credentials = Pki(controller.current().state.cluster).guest()
    return channel(settings.advertise_addr, credentials, aio=True)


async def test_streams_of_agents_without_a_hello_are_bounded(
    controller: Controller, settings: Config
) -> None:
    token = controller.current().state.cluster.worker_token
    async with (
        agents_of(settings.advertise_addr, token, 2) as agents,
        AsyncExitStack() as stack,
    ):
        await until(lambda: len(controller.current().sessions) == 2, "members do not count")
        connection = await stack.enter_async_context(
            channel(settings.advertise_addr, agents[0].credentials, aio=True)
        )
        stub: Any = dispatcher_pb2_grpc.DispatcherStub(connection)
        for open_one in (stub.Session, stub.Tunnel, stub.Session):
            call = open_one(None)
            stack.callback(call.cancel)
            await call.wait_for_connection()
        for open_one in (stub.Session, stub.Tunnel):
            code, details = await _answer(open_one(None))
            assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
            counted = f"{FEW} joins, sessions and tunnels without a valid token"
            assert f"node {short(agents[0].node_id)} has {counted}" in details
        assert len(controller.current().sessions) == 2


async def _answer(call: Any) -> tuple[grpc.StatusCode, str]:
    return await call.code(), await call.details()


async def test_joins_whose_request_never_comes_are_bounded_and_so_are_users_requests(
    controller: Controller, settings: Config
) -> None:
    codec: dict[str, Any] = {"request_serializer": _same, "response_deserializer": _same}
    for path, dialled in (
        ("/pyswarm.v1.Dispatcher/Join", _come(controller, settings)),
        ("/pyswarm.v1.Dispatcher/RenewCertificate", _come(controller, settings)),
        ("/pyswarm.v1.Control/GetInfo", _dial(settings)),
    ):
        async with dialled as connection, AsyncExitStack() as stack:
            method = connection.stream_unary(path, **codec)
            for _ in range(FEW):
                call = method(None)
                stack.callback(call.cancel)
                await call.wait_for_connection()
            code, details = await _answer(method(None))
            assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert f"has {FEW}" in details


def _same(data: bytes) -> bytes:
    return data


async def test_a_fleet_behind_one_address_gets_in_though_few_may_be_strangers_at_once(
    controller: Controller, settings: Config
) -> None:
    sessions = controller.current().sessions
    token = controller.current().state.cluster.worker_token
    async with agents_of(settings.advertise_addr, token, AGENTS):
        await until(lambda: len(sessions) == AGENTS, "every agent has a session")
        sessions.close_all()  # all dial at once
        await until(lambda: len(sessions) == AGENTS, "every agent has a session again")


async def test_a_guest_and_a_wrong_token_wait_in_no_line(
    controller: Controller, settings: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controller.grpc.dispatcher.RateLimiter.__aenter__", _never)
    async with _come(controller, settings) as connection:
        stub: Any = dispatcher_pb2_grpc.DispatcherStub(connection)
        call = stub.Session(None)
        with suppress(*ENDED):  # it may be refused by now
            await send(call, HELLO)
        assert await call.code() is grpc.StatusCode.PERMISSION_DENIED
        join = stub.Join(dispatcher_pb2.JoinRequest(token="guess"))
        assert await join.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_joins_with_a_valid_token_wait_in_a_line_of_their_own(
    controller: Controller, settings: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = controller.current().state.cluster.worker_token
    waiting: list[object] = []
    monkeypatch.setattr("controller.grpc.dispatcher.RateLimiter.__aenter__", _noted(waiting))
    request = dispatcher_pb2.JoinRequest(token=token, csr=ca.csr_pem(ca.new_key()))
    async with _come(controller, settings) as connection, AsyncExitStack() as stack:
        stub: Any = dispatcher_pb2_grpc.DispatcherStub(connection)
        for _ in range(FEW):
            join = stub.Join(request)
            stack.callback(join.cancel)
        await until(lambda: len(waiting) == FEW, "joins wait")
        code, details = await _answer(stub.Join(request))
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert f"has {FEW} joins and renewals with a valid token" in details
        call = stub.Session(None)
        with suppress(*ENDED):  # it may be refused by now
            await send(call, HELLO)
        assert await call.code() is grpc.StatusCode.PERMISSION_DENIED


def _noted(waiting: list[object]) -> Any:
    async def enter(line: object) -> None:
        waiting.append(line)
        await asyncio.Event().wait()

    return enter


async def _never(_: object) -> None:
    await asyncio.Event().wait()


async def test_a_request_that_is_too_large_is_not_decoded(
    controller: Controller, settings: Config
) -> None:
    assert REQUEST_BYTES_MAX == 512 * 1024
    async with _dial(settings) as connection:
        stub: Any = control_pb2_grpc.ControlStub(connection)
        request = control_pb2.RefRequest(ref="x" * REQUEST_BYTES_MAX)
        code, details = await _answer(stub.GetService(request))
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert "is too large: expected at most 512" in details


async def test_a_request_with_data_may_be_as_large_as_a_config(
    controller: Controller, settings: Config
) -> None:
    async with _dial(settings) as connection:
        stub: Any = control_pb2_grpc.ControlStub(connection)
        spec = specs_pb2.PayloadSpec(name="large")
        request = control_pb2.CreatePayloadRequest(spec=spec, data=bytes(CONFIG_BYTES_MAX - 1))
        made = await stub.CreateConfig(request)
        assert len(made.value) > len(request.data)
        request.data = bytes(PAYLOAD_REQUEST_BYTES_MAX)
        code, details = await _answer(stub.CreateConfig(request))
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert "is too large: expected at most 1.25" in details
