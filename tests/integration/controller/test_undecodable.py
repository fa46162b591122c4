"""Bytes that are no message: every method refuses them as an argument, in one log line."""

import logging
from pathlib import Path

import grpc
import pytest

from controller.grpc import calls
from controller.store.memory import MemoryKv
from controller.store.memory_store import MemoryStore
from pyswarm_core.aio import logs
from pyswarm_core.aio.channel import CHANNEL_OPTIONS
from pyswarm_core.aio.credentials import channel as tls_channel
from pyswarm_core.aio.logs import EventLog
from pyswarm_core.aio.system import SteadyClock
from pyswarm_core.api.v1 import control_pb2, dispatcher_pb2
from tests.integration.controller.fleet import FakeAgent, config, leading, serving, stranger
from tests.integration.controller.matrix import send_all

GARBAGE = b"\x0a\xff\xff\xff\xff\x0fgarbage"
CALLS = 20
METHODS = [
    (f"/{service.full_name}/{method.name}", method.client_streaming, method.server_streaming)
    for file in (control_pb2.DESCRIPTOR, dispatcher_pb2.DESCRIPTOR)
    for service in file.services_by_name.values()
    for method in service.methods
]


class Stopped:
    """A clock of the logs that does not go on."""

    @staticmethod
    def monotonic() -> float:
        """Always the same."""
        return 0.0


def identity(data: bytes) -> bytes:
    """Bytes stay bytes."""
    return data


async def call(
    channel: grpc.aio.Channel, path: str, streams_in: bool, streams_out: bool
) -> grpc.StatusCode:
    """Send the garbage to a method of any kind; the status it answers."""
    codec = {"request_serializer": identity, "response_deserializer": identity}
    if streams_in:
        stream = channel.stream_stream(path, **codec)(None)
        await send_all(stream, GARBAGE)
        return await stream.code()
    if streams_out:
        return await channel.unary_stream(path, **codec)(GARBAGE).code()
    return await channel.unary_unary(path, **codec)(GARBAGE).code()


def test_the_garbage_is_no_message() -> None:
    with pytest.raises(Exception, match="parsing"):
        dispatcher_pb2.AgentMessage.FromString(GARBAGE)


async def test_every_method_refuses_it_as_an_argument_in_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "_log", EventLog("controller.api"))  # nothing written yet
    monkeypatch.setattr(logs, "time", Stopped)  # one line per period, however slow the machine is
    settings = config(tmp_path / "one")
    async with serving(settings, MemoryStore(MemoryKv(), SteadyClock())) as controller:
        await leading(controller)
        token, address = controller.current().state.cluster.worker_token, settings.advertise_addr
        agent, guest = FakeAgent("host1"), await stranger(address, token)
        await agent.join(address, token)

        def dial(path: str) -> grpc.aio.Channel:
            """As a caller that may call it."""
            if path.startswith("/pyswarm.v1.Control/"):
                return grpc.aio.insecure_channel(settings.listen[0], options=CHANNEL_OPTIONS)
            if path.endswith("/Join"):
                return tls_channel(address, guest, aio=True)
            return agent.dial(address)

        caplog.clear()
        with caplog.at_level(logging.INFO):
            codes = set()
            for method in METHODS:
                async with dial(method[0]) as channel:
                    codes |= {await call(channel, *method) for _ in range(CALLS)}
    assert codes == {grpc.StatusCode.INVALID_ARGUMENT}
    lines = [record for record in caplog.records if "cannot be decoded" in record.getMessage()]
    assert len(lines) == 1
    assert not any(record.exc_info for record in caplog.records)
