"""The leader's copier, with agents that answer from a script."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from msgspec.structs import replace

from controller.leader.moves import copier
from controller.leader.moves.copier import Copier
from controller.leader.moves.progress import MoveProgress
from controller.leader.tunnels import DIAL_TIMEOUT_S
from pyswarm_core.decision import Writes
from pyswarm_core.errors import Conflict, NotFound, PyswarmError, Unavailable
from pyswarm_core.ids import NodeId
from pyswarm_core.kinds import VOLUME
from pyswarm_core.streams.failures import exit_of
from pyswarm_core.streams.frames import (
    STDOUT,
    Data,
    Dial,
    Digest,
    Exit,
    Frame,
    HalfClose,
    Size,
    Started,
    Window,
    decode,
    encode,
)
from pyswarm_core.streams.limits import MOVES_AT_ONCE
from pyswarm_core.streams.wire import packed, unpacked
from pyswarm_core.volumes.volume import Volume, VolumeId, VolumeWork, VolumeWorkKind
from tests.fixtures import build
from tests.fixtures.build import NOW, Numbered
from tests.fixtures.desk import Desk, StoppedClock

N1, N2 = NodeId("n1"), NodeId("n2")
ARCHIVE = (Data(STDOUT, b"a" * 100), Data(STDOUT, b"b" * 50))
DIGEST = Digest(b"d" * 32, 150)


def moved(name: str, **changes: object) -> Volume:
    work = VolumeWork(kind=VolumeWorkKind.MOVE, to=N2, started_at=NOW)
    return replace(build.volume(name, "n1"), work=work, **changes)


class Agents:
    """Both ends: what the source sends, and what the destination answers at the archive's end."""

    def __init__(self) -> None:
        self.sent: list[Frame] = [Started(), Size(150), *ARCHIVE, DIGEST, HalfClose(STDOUT), Exit()]
        self.answers: list[Frame] = [Exit()]
        self.got: list[Frame] = []
        self.credit: list[Frame] = []
        self.asked: list[tuple[str, str, Any]] = []
        self.hold: asyncio.Event | None = None
        self.open = 0

    @asynccontextmanager
    async def opened(self, node_id: NodeId, exchange: Any, request: Any) -> AsyncIterator[Any]:
        self.asked.append((exchange.field, node_id, request))
        self.open += 1
        try:
            yield _Source(self) if exchange.field == "read_volume" else _Destination(self)
        finally:
            self.open -= 1


class _Source:
    def __init__(self, agents: Agents) -> None:
        self._agents = agents
        self._left = [*agents.sent]

    async def read(self) -> Any:
        await asyncio.sleep(0)
        if self._agents.hold is not None:
            await self._agents.hold.wait()
        if not self._left:
            return None
        frame = self._left.pop(0)
        return packed(frame) if isinstance(frame, Data) else encode(frame)

    async def write(self, frame: Any) -> None:
        found = decode(frame)
        assert found is not None
        self._agents.credit.append(found)


class _Destination:
    def __init__(self, agents: Agents) -> None:
        self._agents = agents
        self._first: list[Frame] = [Started(port=7946, key="5ecre7"), Window(STDOUT, 1000)]
        self._complete = asyncio.Event()

    async def write(self, frame: Any) -> None:
        found = unpacked(frame) if isinstance(frame, bytes) else decode(frame)
        assert found is not None
        self._agents.got.append(found)
        if isinstance(found, HalfClose):
            self._complete.set()

    async def read(self) -> Any:
        if self._first:
            return encode(self._first.pop(0))
        await self._complete.wait()
        return encode(self._agents.answers.pop(0)) if self._agents.answers else None


class World:
    """A leader with volumes that are moved."""

    def __init__(self, *volumes: Volume) -> None:
        self.desk = Desk(build.state(nodes=build.nodes(2)), Numbered())
        self.desk.put(Writes(objects=volumes))
        self.agents = Agents()
        self.desk.tunnels.open = self.agents.opened  # type: ignore[method-assign]

    def volume(self, name: str = "data") -> Volume:
        return self.desk.state.of(VOLUME)[VolumeId(name)]

    @asynccontextmanager
    async def copying(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(Copier(self.desk, StoppedClock()).run())
            yield
            task.cancel()

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not holds():  # noqa: ASYNC110
                await asyncio.sleep(0)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copier, "LOOK_PERIOD_S", 0.0)
    monkeypatch.setattr(copier, "RETRY_S", (0.0, 0.0))
    monkeypatch.setattr(copier, "SUBMIT_RETRY_S", 0.0)
    assert DIAL_TIMEOUT_S < copier.STALLED_S


async def test_a_move_that_is_ready_is_copied_and_finished() -> None:
    world = World(moved("data"))
    async with world.copying():
        await world.until(lambda: world.volume().work is None)
        await world.until(lambda: not world.desk.moves)
    volume = world.volume()
    assert (volume.copies, volume.leaving, volume.failure) == ((N2,), (N1,), "")
    agents = world.agents
    assert [(one, node) for one, node, _ in agents.asked] == [
        ("read_volume", N1),
        ("write_volume", N2),
    ]
    assert [request.ref for _, _, request in agents.asked] == ["data", "data"]
    assert agents.asked[0][2].still
    assert agents.got == [*ARCHIVE, DIGEST, HalfClose(STDOUT)]
    address = world.desk.state.nodes[N2].status.addr
    assert agents.credit == [Dial(N2, address, 7946, "5ecre7"), Window(STDOUT, 1000)]
    assert (agents.asked[0][2].direct, agents.asked[1][2].source) == (True, N1)
    assert agents.open == 0


async def test_progress_is_shown_while_it_lasts() -> None:
    world = World(moved("data"))
    world.agents.hold = asyncio.Event()
    async with world.copying():
        await world.until(lambda: bool(world.desk.moves))
        assert world.desk.moves == {VolumeId("data"): MoveProgress(begun_at=NOW)}
        world.agents.hold.set()
        await world.until(lambda: not world.desk.moves)


async def test_a_full_disk_ends_the_move_at_once_and_says_why() -> None:
    world = World(moved("data"))
    told = "the archive cannot be unpacked: ./f: Cannot write: No space left on device"
    world.agents.answers = [exit_of(Conflict(told))]
    async with world.copying():
        await world.until(lambda: world.volume().work is None)
    volume = world.volume()
    assert (volume.copies, volume.leaving, volume.failure) == ((N1,), (N2,), told)
    assert len(world.agents.asked) == 2


@pytest.mark.parametrize(
    "broken",
    [
        [Started(), *ARCHIVE],
        [Started(), exit_of(Unavailable("volume data cannot be read: ./f: file changed"))],
    ],
    ids=["cut", "refused"],
)
async def test_a_copy_that_breaks_is_repeated_and_then_fails(broken: list[Frame]) -> None:
    world = World(moved("data"))
    world.agents.sent = broken
    async with world.copying():
        await world.until(lambda: world.volume().work is None)
    assert world.volume().copies == (N1,)
    assert world.volume().failure
    assert len(world.agents.asked) == 2 * 3


async def test_a_copy_that_works_the_second_time_is_finished() -> None:
    world = World(moved("data"))
    complete, world.agents.sent = world.agents.sent, [Started()]
    async with world.copying():
        await world.until(lambda: len(world.agents.asked) > 2)
        world.agents.sent = complete
        await world.until(lambda: world.volume().work is None)
    assert world.volume().copies == (N2,)


async def test_a_volume_without_files_is_moved_without_a_copy() -> None:
    world = World(moved("data"))
    world.agents.sent = [exit_of(NotFound("volume data has no files yet"))]
    async with world.copying():
        await world.until(lambda: world.volume().work is None)
    assert world.volume().copies == (N2,)


async def test_a_move_that_ends_otherwise_ends_its_copy() -> None:
    world = World(moved("data"))
    world.agents.hold = asyncio.Event()
    async with world.copying():
        await world.until(lambda: world.agents.open == 2)
        world.desk.put(Writes(objects=(replace(world.volume(), work=None),)))
        await world.until(lambda: world.agents.open == 0)
    assert world.volume().copies == (N1,)
    assert not world.desk.moves


async def test_a_leader_that_ends_leaves_the_move_to_the_next() -> None:
    world = World(moved("data"))
    world.agents.hold = asyncio.Event()
    async with world.copying():
        await world.until(lambda: world.agents.open == 2)
    assert world.agents.open == 0
    assert world.volume().work is not None
    world.agents.hold.set()
    async with world.copying():
        await world.until(lambda: world.volume().work is None)
    assert world.volume().copies == (N2,)


async def test_a_store_that_takes_no_writes_does_not_repeat_the_copy() -> None:
    world = World(moved("data"))
    submit, refusals = world.desk.submit, [Unavailable("the store is full")] * 3

    async def refused(*args: Any, **kwargs: Any) -> Any:
        if refusals:
            raise refusals.pop()
        return await submit(*args, **kwargs)

    world.desk.submit = refused  # type: ignore[method-assign]
    async with world.copying():
        await world.until(lambda: world.volume().work is None)
    assert len(world.agents.asked) == 2


async def test_so_many_volumes_are_copied_at_once() -> None:
    assert MOVES_AT_ONCE == 4
    names = [f"v{number}" for number in range(6)]
    world = World(*map(moved, names))
    world.agents.hold = asyncio.Event()
    async with world.copying():
        await world.until(lambda: world.agents.open == 2 * MOVES_AT_ONCE)
        for _ in range(50):
            await asyncio.sleep(0)
        assert world.agents.open == 2 * MOVES_AT_ONCE
        world.agents.answers = [Exit()] * 6
        world.agents.hold.set()
        await world.until(lambda: all(world.volume(name).work is None for name in names))


async def test_a_bug_fails_the_move_and_not_the_leader(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(moved("data"))

    async def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(copier._Copy, "run", broken)
    async with world.copying():
        await world.until(lambda: world.volume().work is None)
    assert world.volume().failure.startswith("a bug: ZeroDivisionError")
    with suppress(PyswarmError):
        assert world.volume().copies == (N1,)


async def test_a_copy_that_breaks_is_repeated_unless_the_leader_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A group of tasks that is cancelled and has an error may leave its task counted as cancelled,
    or raise the error alone.
    """
    world, begun, attempts = World(moved("data")), asyncio.Event(), list[None]()

    async def run(_: object) -> None:
        attempts.append(None)
        if len(attempts) == 1:
            with suppress(ExceptionGroup):
                async with asyncio.TaskGroup() as group:
                    group.create_task(gone())
            raise Unavailable("the agent is gone")
        begun.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise Unavailable("the agent is gone") from None

    async def gone() -> None:
        await asyncio.sleep(0)
        raise Unavailable("the agent is gone")

    monkeypatch.setattr(copier._Copy, "run", run)
    async with asyncio.timeout(30), world.copying():
        await begun.wait()
    assert len(attempts) == 2
    assert world.volume().work is not None
