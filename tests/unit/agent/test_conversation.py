"""The conversation's own side: what a stream may say."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from msgspec.structs import replace

from agent.assignment import Assignment
from agent.outbox import Outbox
from agent.session import conversation
from agent.session.conversation import Session, SessionEnded, too_old
from agent.session.greeting import Greeting
from agent.session.identity import Identity
from pyswarm_core.api.v1 import dispatcher_pb2
from pyswarm_core.codec import to_proto
from pyswarm_core.controlplane import ControlEndpoint, ControlHost
from pyswarm_core.ids import TaskId
from pyswarm_core.limits import CONTROLLERS_MAX, PROTOCOL, PROTOCOL_OLDEST, STATUSES_PER_MESSAGE
from pyswarm_core.objects import NodeDescription, TaskDetail, TaskStatus
from pyswarm_core.states import TaskState
from tests.fixtures.identity import identity_in
from tests.unit.agent.test_worker import Host

STATUS = TaskStatus(TaskId("t" * 25), TaskState.SHUTDOWN, TaskDetail())


async def test_a_dead_streams_iterator_takes_no_words_from_its_successor(tmp_path: Path) -> None:
    identity = identity_in(tmp_path)
    outbox = Outbox()
    async with Host(tmp_path).worker() as worker:
        session = Session(
            identity,
            _greeting,
            outbox,
            worker,
            assign=lambda _: _never(),
            probe=lambda *_: None,
            open_tunnel=lambda _, __: _never(),
        )
        dead = session._outgoing(-1)
        living = session._outgoing(session._stream)
        assert [(await anext(stream)).WhichOneof("kind") for stream in (dead, living)] == [
            "hello",
            "hello",
        ]
        outbox.put(STATUS)
        assert [message async for message in dead] == []
        assert (await anext(living)).statuses.ids == b"t" * 25


async def test_sources_of_binds_are_looked_for_and_reported_anew_in_each_session(
    tmp_path: Path,
) -> None:
    outbox = Outbox()
    asked: list[tuple[str, ...] | None] = []
    async with Host(tmp_path).worker() as worker:
        session = Session(
            identity_in(tmp_path),
            _greeting,
            outbox,
            worker,
            assign=lambda _: _never(),
            probe=lambda *_: None,
            open_tunnel=lambda _, __: _never(),
            sources=asked.append,
        )
        outbox.source("/of/a/former/session", "present")
        stream = session._outgoing(session._stream)
        assert (await anext(stream)).WhichOneof("kind") == "hello"
        sources = dispatcher_pb2.BindSources(paths=["/x", "/y", "/z"])
        message = dispatcher_pb2.ControllerMessage(bind_sources=sources)
        await session._receive(message, None, None)  # type: ignore[arg-type]
        assert asked == [None, ("/x", "/y", "/z")]
        for path, found in (("/x", "absent"), ("/y", "unclear"), ("/z", "present")):
            outbox.source(path, found)
        outbox.source("/x", "present")
        told = (await anext(stream)).found_sources
        assert (list(told.present), list(told.absent)) == (["/x", "/z"], [])
        assert list(told.unclear) == ["/y"]


async def test_a_message_carries_a_bounded_number_of_statuses(tmp_path: Path) -> None:
    identity = identity_in(tmp_path)
    outbox = Outbox()
    async with Host(tmp_path).worker() as worker:
        session = Session(
            identity,
            _greeting,
            outbox,
            worker,
            assign=lambda _: _never(),
            probe=lambda *_: None,
            open_tunnel=lambda _, __: _never(),
        )
        stream = session._outgoing(session._stream)
        await anext(stream)
        for number in range(STATUSES_PER_MESSAGE + 1):
            outbox.put(STATUS._replace(task_id=TaskId(f"{number:025}")))
        sizes = [len((await anext(stream)).statuses.states) for _ in range(2)]
        assert sizes == [STATUSES_PER_MESSAGE, 1] == [1_000, 1]


async def test_a_tunnel_shows_the_newest_certificate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = identity_in(tmp_path)
    opened: list[Any] = []
    dialled: list[tuple[str, Any]] = []

    async def open_tunnel(stub: Any, _: object) -> None:
        opened.append(stub)

    def dial(address: str, credentials: Any, **_: object) -> grpc.aio.Channel:
        dialled.append((address, credentials))
        return grpc.aio.insecure_channel("127.0.0.1:1")

    monkeypatch.setattr(conversation, "channel", dial)
    async with Host(tmp_path).worker() as worker:
        session = Session(
            identity,
            _greeting,
            Outbox(),
            worker,
            assign=lambda _: _never(),
            probe=lambda *_: None,
            open_tunnel=open_tunnel,
        )
        session._begin("192.0.2.1:1")
        stub: Any = object()
        await session._dial_back(stub, dispatcher_pb2.OpenTunnel())
        assert (opened, dialled) == ([stub], [])
        identity.renew(replace(identity.certificate, chain="newer"))
        await session._dial_back(stub, dispatcher_pb2.OpenTunnel())
        assert dialled == [("192.0.2.1:1", identity.certificate.credentials)]
        assert opened[1] is not stub


async def _greeting() -> Greeting:
    return Greeting(NodeDescription(hostname="h"), "192.0.2.1")


async def _never() -> None:
    raise AssertionError("nothing is assigned or opened here")


def test_controllers_are_remembered_the_newest_told_first_and_not_too_many(tmp_path: Path) -> None:
    identity = identity_in(tmp_path, "a:1", "b:1")
    identity.learn(("c:1", "b:1"))
    assert identity.controllers == ("c:1", "b:1", "a:1")
    identity.learn(())
    again = Identity.load(tmp_path / "identity.json")
    assert again
    assert again.controllers == ("c:1", "b:1", "a:1")
    identity.learn(tuple(f"x{n}:1" for n in range(100)))
    assert len(identity.controllers) == CONTROLLERS_MAX


async def test_a_hello_carries_one_message_of_statuses_and_the_rest_follows(tmp_path: Path) -> None:
    statuses = [
        TaskStatus(TaskId(f"{number:025}"), TaskState.RUNNING, TaskDetail())
        for number in range(2 * STATUSES_PER_MESSAGE + 1)
    ]
    identity = identity_in(tmp_path)
    async with Host(tmp_path).worker() as worker:
        worker.report = lambda: statuses  # type: ignore[method-assign]
        session = Session(
            identity,
            _greeting,
            Outbox(),
            worker,
            assign=lambda _: _never(),
            probe=lambda *_: None,
            open_tunnel=lambda _, __: _never(),
        )
        said = session._outgoing(session._stream)
        sizes = [len((await anext(said)).hello.statuses.ids) // 25]
        sizes += [len((await anext(said)).statuses.ids) // 25 for _ in range(2)]
        assert sizes == [STATUSES_PER_MESSAGE, STATUSES_PER_MESSAGE, 1]


async def test_a_probe_that_the_leader_asks_for_is_made_and_its_outcome_told(
    tmp_path: Path,
) -> None:
    identity = identity_in(tmp_path)
    outbox, asked = Outbox(), []
    async with Host(tmp_path).worker() as worker:
        session = Session(
            identity,
            _greeting,
            outbox,
            worker,
            assign=lambda _: _never(),
            probe=lambda *words: asked.append(words),
            open_tunnel=lambda _, __: _never(),
        )
        probe = dispatcher_pb2.Probe(node_id="other", addr="192.0.2.9", window=100)
        message = dispatcher_pb2.ControllerMessage(probe=probe)
        await session._receive(message, None, None)  # type: ignore[arg-type]
        assert asked == [("other", "192.0.2.9", 100)]
        said = session._outgoing(session._stream)
        await anext(said)
        outbox.probed("other", answered=True)
        result = (await anext(said)).probe_result
        assert (result.node_id, result.answered) == ("other", True)


async def test_what_controllers_report_of_the_control_plane_is_closed(tmp_path: Path) -> None:
    identity = identity_in(tmp_path)
    closed: list[tuple[ControlHost, ...]] = []

    async def close(hosts: tuple[ControlHost, ...]) -> None:
        closed.append(hosts)

    async with Host(tmp_path).worker() as worker:
        session = Session(
            identity,
            _greeting,
            Outbox(),
            worker,
            assign=lambda _: _never(),
            probe=lambda *_: None,
            open_tunnel=lambda _, __: _never(),
            close=close,
        )
        endpoint = ControlEndpoint(port=2377, api=True, anywhere=True)
        host = ControlHost(addresses=("192.0.2.1", "fd00::1"), endpoints=(endpoint,))
        for hosts in ((host,), ()):
            told = dispatcher_pb2.ControlPlane(
                hosts=[to_proto(each, dispatcher_pb2.ControlHost()) for each in hosts]
            )
            message = dispatcher_pb2.ControllerMessage(control_plane=told)
            await session._receive(message, None, None)  # type: ignore[arg-type]
        assert closed == [(host,), ()]


async def test_a_session_that_ends_is_begun_again_unless_the_agent_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A group of tasks that has an error when it is cancelled raises the error alone; one whose
    part fails while it waits for its parts leaves its task counted as cancelled.
    """
    begun, streams = asyncio.Event(), list[str]()

    async def ended() -> None:
        await asyncio.sleep(0)
        raise SessionEnded("closed")

    async def stream_to(_: object, address: str) -> None:
        streams.append(address)
        async with asyncio.TaskGroup() as group:
            if len(streams) == 1:
                group.create_task(ended())
                return
            begun.set()
            try:
                await asyncio.sleep(60)
            finally:
                raise SessionEnded("closed")

    monkeypatch.setattr(conversation, "BACKOFF_FIRST_S", 0.001)
    monkeypatch.setattr(Session, "_stream_to", stream_to)
    async with Host(tmp_path).worker() as worker:
        session = Session(
            identity_in(tmp_path, "a:1"),
            _greeting,
            Outbox(),
            worker,
            assign=lambda _: _never(),
            probe=lambda *_: None,
            open_tunnel=lambda _, __: _never(),
        )
        running = asyncio.create_task(session.run())
        await begun.wait()
        running.cancel()
        await asyncio.wait((running,), timeout=30)
    assert (running.cancelled(), streams) == (True, ["a:1", "a:1"])


def test_controllers_that_cannot_be_saved_are_known_all_the_same(tmp_path: Path) -> None:
    identity = identity_in(tmp_path, "a:1")
    (tmp_path / "identity.new").mkdir()  # as a full disk would refuse it
    identity.learn(("b:1",))
    assert identity.controllers == ("b:1", "a:1")
    again = Identity.load(tmp_path / "identity.json")
    assert again
    assert again.controllers == ("a:1",)


def test_a_controller_that_is_too_old_is_named_with_what_to_upgrade() -> None:
    assert PROTOCOL_OLDEST == 6
    assert not any(map(too_old, (PROTOCOL_OLDEST, PROTOCOL, PROTOCOL + 1)))
    for protocol, shown in ((0, 1), (5, 5)):
        told = too_old(protocol)
        assert f"has protocol {shown}, this agent supports 6 to {PROTOCOL}" in told
        assert "upgrade pyswarm on the controller" in told


async def test_parts_of_an_assignment_are_acted_upon_at_once(tmp_path: Path) -> None:
    async with _told(tmp_path) as (session, assigned):
        for number in range(3):
            assert assigned == []
            await session._receive_part(_part(number, more=number < 2))
        (whole,) = assigned
        assert (whole.full, whole.revision) == (True, 5)
        assert [overlay.network_id for overlay in whole.overlays] == ["net0", "net1", "net2"]


async def test_parts_of_another_stream_do_not_count(tmp_path: Path) -> None:
    async with _told(tmp_path) as (session, assigned):
        await session._receive_part(_part(0, more=True))
        session._begin("192.0.2.1:1")
        await session._receive_part(_part(1, more=False))
        (whole,) = assigned
        assert [overlay.network_id for overlay in whole.overlays] == ["net1"]


async def test_an_assignment_of_too_many_parts_ends_the_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversation, "ASSIGNMENT_PARTS", 2)
    async with _told(tmp_path) as (session, assigned):
        for number in range(2):
            await session._receive_part(_part(number, more=True))
        with pytest.raises(SessionEnded, match="more than 2 parts"):
            await session._receive_part(_part(2, more=False))
        assert assigned == []


@pytest.mark.parametrize(
    ("code", "shortest", "longest"),
    [
        (grpc.StatusCode.RESOURCE_EXHAUSTED, 3, 10),
        (grpc.StatusCode.INTERNAL, 3, 10),  # what gRPC makes of it while the hello is written
        (grpc.StatusCode.UNAVAILABLE, 0, 3),
    ],
)
async def test_an_agent_that_is_refused_dials_again_later(
    code: grpc.StatusCode,
    shortest: float,
    longest: float,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[float] = []
    none = grpc.aio.Metadata()

    async def refuse(address: str) -> None:
        raise ExceptionGroup("", [grpc.aio.AioRpcError(code, none, none, "", "")])

    async def pause(length: float) -> None:
        pauses.append(length)
        if len(pauses) == 50:
            raise asyncio.CancelledError

    async with _told(tmp_path) as (session, _):
        monkeypatch.setattr(session, "_stream_to", refuse)
        with monkeypatch.context() as patched:
            patched.setattr("agent.session.conversation.asyncio.sleep", pause)
            with pytest.raises(asyncio.CancelledError):
                await session.run()
    assert shortest <= min(pauses)
    assert max(pauses) <= longest


def _part(number: int, *, more: bool) -> dispatcher_pb2.Assignments:
    overlay = dispatcher_pb2.Overlay(network_id=f"net{number}").SerializeToString()
    return dispatcher_pb2.Assignments(full=True, revision=5, overlays=[overlay], more=more)


@asynccontextmanager
async def _told(tmp_path: Path) -> AsyncIterator[tuple[Session, list[Assignment]]]:
    identity = identity_in(tmp_path)
    assigned: list[Assignment] = []

    async def assign(what: Assignment) -> None:
        assigned.append(what)

    async with Host(tmp_path).worker() as worker:
        yield (
            Session(
                identity,
                _greeting,
                Outbox(),
                worker,
                assign=assign,
                probe=lambda *_: None,
                open_tunnel=lambda _, __: _never(),
            ),
            assigned,
        )
