"""A caller who goes away while it is written to is no failure of the controller."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from controller.grpc import calls
from controller.grpc.calls import Context, ErrorsToStatus
from pyswarm_core.aio.logs import EventLog
from pyswarm_core.aio.system import RandomIds


def identity(data: bytes) -> bytes:
    """Bytes stay bytes."""
    return data


@asynccontextmanager
async def _called(
    behaviour: Callable[[bytes, Context], Awaitable[None]], begun: asyncio.Event
) -> AsyncIterator[Any]:
    """A call of the behaviour that has begun."""
    handler = grpc.unary_stream_rpc_method_handler(
        behaviour, request_deserializer=identity, response_serializer=identity
    )
    server = grpc.aio.server(interceptors=(ErrorsToStatus(RandomIds()),))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("s", {"m": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        codec = {"request_serializer": identity, "response_deserializer": identity}
        call = channel.unary_stream("/s/m", **codec)(b"")
        await begun.wait()
        yield call
    await server.stop(None)


async def test_what_a_part_of_a_call_writes_after_its_caller_went_away_is_not_logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "_log", EventLog("controller.api"))  # nothing written yet
    caplog.set_level(logging.INFO)
    begun, ended = asyncio.Event(), asyncio.Event()
    failed: list[Exception] = []

    async def late(context: Context, gone: asyncio.Event) -> None:
        await gone.wait()
        try:
            await context.write(b"late")
        except Exception as error:
            failed.append(error)
            raise

    async def stream(_: bytes, context: Context) -> None:
        gone = asyncio.Event()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(late(context, gone))
                begun.set()
                try:
                    await asyncio.Event().wait()
                finally:
                    gone.set()
                    await asyncio.sleep(0.05)  # the other part runs before it is cancelled
        finally:
            ended.set()

    async with _called(stream, begun) as call:
        call.cancel()
        await ended.wait()
    assert isinstance(failed[0], grpc.aio.InternalError)
    assert "call.failed" not in caplog.text
