"""Archives from agent to agent, and through the leader where there is no connection."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from agent.streams import volumes
from agent.streams.direct import pipes
from agent.streams.direct.connection import Connection, Own
from agent.streams.direct.direct import Direct, accept
from cli.volume.archiving import streaming
from cli.volume.archiving.archives import Source
from cli.volume.archiving.progress import Progress
from controller.leader.moves import copier
from pyswarm_core.aio.credentials import ClientCredentials
from pyswarm_core.identity.trust import AGENT_NAME
from pyswarm_core.streams.frames import Dial, Digest
from pyswarm_core.streams.limits import DIRECT_BYTES, DIRECT_GREETINGS, VOLUME_PORT
from pyswarm_core.streams.requests import ReadVolumeRequest, WriteVolumeRequest
from tests.fixtures.identity import FLEET, another
from tests.integration.volumes.disk import WAIT_S, Host
from tests.integration.volumes.rig import Rig, serving
from tests.integration.volumes.test_moves import begin, copying, until
from tests.integration.volumes.test_whole import filled
from tests.unit.core.archives.trees import tree

HERE = "127.0.0.1"
STRANGERS = another()


def own(shown: ClientCredentials) -> Own:
    return Own(shown.cert_pem + shown.key_pem, shown.ca_pem.decode(), FLEET.cluster.id, HERE)


def of_node(node_id: str) -> Own:
    return own(FLEET.node(node_id, serves=AGENT_NAME))


@pytest.fixture
async def rig(here: Host, there: Host) -> AsyncIterator[Rig]:
    here.own, there.own = of_node("n1"), of_node("n2")
    async with serving(here, there) as made:
        yield made


async def moved(rig: Rig) -> None:
    begin(rig)
    async with copying(rig):
        await until(lambda: rig.volume().work is None)
    assert rig.volume().failure == ""


def no_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """Archives do not go through the leader."""

    async def packed(*_: object) -> Digest:
        raise AssertionError("the archive is in the stream")

    monkeypatch.setattr(volumes, "_packed", packed)


async def test_agents_send_volumes_to_each_other(
    rig: Rig, here: Host, there: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert DIRECT_BYTES == 256 * 1024
    no_stream(monkeypatch)
    top = filled(here)
    with (top / "large").open("wb") as file:
        for number in range(32):
            file.write(bytes([number]) * (1 << 20))
    before = tree(top)
    await moved(rig)
    assert tree(there.data) == before
    assert there.left() == ["_data"]


async def test_the_leader_passes_it_on_if_the_port_is_in_use(
    rig: Rig, here: Host, there: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert VOLUME_PORT == 7946
    monkeypatch.setattr(copier, "RETRY_S", ())
    before = tree(filled(here))
    with socket.create_server((HERE, VOLUME_PORT)):
        await moved(rig)
    assert tree(there.data) == before


@pytest.mark.parametrize(
    "shown",
    [
        pytest.param(of_node("n3"), id="of another node"),
        pytest.param(own(FLEET.user("n2", serves=AGENT_NAME)), id="of a user"),
        pytest.param(own(STRANGERS.node("n2", serves=AGENT_NAME)), id="of another cluster"),
        pytest.param(None, id="none"),
    ],
)
async def test_the_leader_passes_it_on_if_the_destination_has_no_certificate_of_its_node(
    rig: Rig,
    here: Host,
    there: Host,
    shown: Own | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(copier, "RETRY_S", ())
    there.own = shown
    before = tree(filled(here))
    await moved(rig)
    assert tree(there.data) == before


async def test_a_connection_that_breaks_is_followed_by_another_one(
    rig: Rig, here: Host, there: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_stream(monkeypatch)
    monkeypatch.setattr(copier, "RETRY_S", (0.5, 1.0, 1.0))
    before, cuts, send_all = tree(filled(here)), [1], pipes.send_all

    def cut(connection: Connection, descriptor: int) -> int:
        if cuts:
            cuts.pop()
            connection.send(memoryview(bytes(100_000)))
            connection.abort()
        return send_all(connection, descriptor)

    monkeypatch.setattr(pipes, "send_all", cut)
    await moved(rig)
    assert tree(there.data) == before


async def test_connections_that_always_break_are_given_up_for_the_leader(
    rig: Rig, here: Host, there: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert copier.DIRECT_ATTEMPTS == 3
    monkeypatch.setattr(copier, "RETRY_S", (0.1, 0.1, 0.1, 1.0))
    before = tree(filled(here))

    def cut(connection: Connection, descriptor: int) -> int:
        connection.abort()
        raise ConnectionResetError("cut")

    monkeypatch.setattr(pipes, "send_all", cut)
    await moved(rig)
    assert tree(there.data) == before


async def test_an_archive_that_ends_early_is_no_copy(
    rig: Rig, here: Host, there: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copier, "RETRY_S", ())
    before = tree(filled(here))

    def cut(connection: Connection, descriptor: int) -> int:
        connection.send(memoryview(bytes(20_480)))
        connection.end()
        return 20_481

    monkeypatch.setattr(pipes, "send_all", cut)
    begin(rig)
    async with copying(rig):
        await until(lambda: rig.volume().work is None)
    assert "the archive was damaged on the way: 20480 bytes arrived of 20481" in (
        rig.volume().failure
    )
    assert not there.data.exists()
    assert tree(here.data) == before


# Who connects


@asynccontextmanager
async def agents(*shown: Own) -> AsyncIterator[list[Direct]]:
    """The connections of agents with these certificates."""
    async with asyncio.TaskGroup() as group:
        made = [Direct(partial(lambda one: one, one), group.create_task) for one in shown]
        try:
            yield made
        finally:
            for one in made:
                one.close()


def connect(direct: Direct, key: str, node: str = "n2") -> Any:
    return direct.dialled(Dial(node, HERE, VOLUME_PORT, key))


async def test_only_the_node_that_is_expected_sends_and_only_with_the_key() -> None:
    shown = (of_node("n2"), of_node("n1"), of_node("n3"))
    async with agents(*shown) as (n2, n1, n3), n2.expected("n1") as arrival:
        assert arrival is not None
        assert await connect(n3, arrival.key) is None, "another node"
        assert await connect(n1, "0" * len(arrival.key)) is None, "another key"
        assert await connect(n1, arrival.key, "n4") is None, "of another node than it wants"
        with socket.create_connection((HERE, VOLUME_PORT)) as stranger:
            stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert not arrival.connection.done()
        dialling = asyncio.create_task(connect(n1, arrival.key))
        async with asyncio.timeout(WAIT_S):
            await n2.run(await arrival.connection, partial(accept, arrival.connection.result()))
            to = await dialling
            assert to is not None
            assert await connect(n1, arrival.key) is None, "a key is used once"
        to.close()


async def test_nobody_listens_unless_an_archive_is_expected() -> None:
    async with agents(of_node("n2")) as (n2,):
        for _ in range(2):
            async with n2.expected("n1"), n2.expected("n3"):
                with socket.create_connection((HERE, VOLUME_PORT)):
                    pass
            await _until(_is_closed)


async def test_strangers_who_say_nothing_are_bounded_and_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert DIRECT_GREETINGS == 16
    monkeypatch.setattr("agent.streams.direct.direct.DIAL_S", 1.0)
    async with agents(of_node("n2")) as (n2,), n2.expected("n1"):
        silent = [
            socket.create_connection((HERE, VOLUME_PORT)) for _ in range(DIRECT_GREETINGS + 4)
        ]
        await _until(lambda: n2._greeted == DIRECT_GREETINGS)
        await _until(lambda: n2._greeted == 0)
        for one in silent:
            with suppress(ConnectionResetError):
                assert await asyncio.to_thread(one.recv, 1) == b""
            one.close()


def _is_closed() -> bool:
    try:
        socket.create_connection((HERE, VOLUME_PORT)).close()
    except ConnectionRefusedError:
        return True
    return False


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def test_no_key_is_shown_in_errors() -> None:
    assert repr(of_node("n1")) == "Own(127.0.0.1)"


async def test_callers_reach_no_agent_directly(
    rig: Rig, here: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected: list[str] = []
    listening = Direct.expected

    def noted(self: Direct, node_id: str) -> Any:
        expected.append(node_id)
        return listening(self, node_id)

    monkeypatch.setattr(Direct, "expected", noted)
    before = tree(filled(here))
    path = tmp_path / "data.tar"
    with rig.client() as client:
        async with asyncio.timeout(WAIT_S):
            reading = ReadVolumeRequest(ref="data", direct=True)
            progress = Progress(shown=False)
            await streaming.backup(client, reading, str(path), progress, lambda _: None)
            (here.data / "file").unlink()
            writing = WriteVolumeRequest(ref="data", source="n2")
            await streaming.restore(client, writing, Source(str(path)), progress)
    assert tree(here.data) == before
    assert expected == [""]
