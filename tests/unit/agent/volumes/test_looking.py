"""Looking for sources of binds, also on file systems that hang."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from agent.volumes import looking
from agent.volumes.looking import HANGING_MAX, Looking


class Told(dict[str, str]):
    """What was reported."""

    def __init__(self) -> None:
        super().__init__()
        self._changed = asyncio.Event()

    def put(self, path: str, found: str) -> None:
        self[path] = found
        self._changed.set()

    async def until(self, reached: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not reached():
                self._changed.clear()
                await self._changed.wait()

    async def have(self, **expected: str) -> None:
        """Wait until these are reported; `x` is /x."""
        wanted = {f"/{name}": what for name, what in expected.items()}
        await self.until(lambda: not wanted.items() - self.items())


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
async def found(told: Told, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Looking]:
    monkeypatch.setattr(looking, "PERIOD_S", 0.01)
    monkeypatch.setattr(looking, "ANSWER_S", 0.2)
    made = Looking(told.put)
    running = asyncio.create_task(made.run())
    yield made
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@pytest.fixture
def hung(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, threading.Event]]:
    """Paths that hang until their event is set."""
    paths: dict[str, threading.Event] = {}
    real = looking._exists

    def exists(path: str) -> bool:
        if path in paths:
            paths[path].wait(30)
            return True
        return real(path)

    monkeypatch.setattr(looking, "_exists", exists)
    yield paths
    for event in paths.values():
        event.set()


async def test_each_path_is_reported_and_each_change_of_one(
    found: Looking, told: Told, tmp_path: Path
) -> None:
    path = tmp_path / "srv"
    (tmp_path / "dangling").symlink_to("nothing")
    paths = [str(path), "/etc/passwd", str(tmp_path / "dangling"), "/etc/passwd/x", "/a\0b"]
    found.wanted(paths)
    await told.until(lambda: len(told) == len(paths))
    assert told.pop("/etc/passwd") == "present"
    assert set(told.values()) == {"absent"}
    path.mkdir()
    await told.until(lambda: told[str(path)] == "present")
    path.rmdir()
    await told.until(lambda: told[str(path)] == "absent")
    assert "/etc/passwd" not in told  # no news


async def test_a_path_that_hangs_is_unclear_and_delays_no_other(
    found: Looking, told: Told, hung: dict[str, threading.Event]
) -> None:
    hung["/slow"] = threading.Event()
    found.wanted(["/slow", "/etc", "/tmp"])
    await told.have(slow="unclear", etc="present", tmp="present")
    found.wanted(["/slow", "/etc", "/tmp", "/usr"])
    await told.have(usr="present")
    hung.pop("/slow").set()
    await told.have(slow="absent")


async def test_so_many_threads_may_hang(
    found: Looking, told: Told, hung: dict[str, threading.Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looking, "ANSWER_S", 0.01)
    paths = [f"/slow{number}" for number in range(HANGING_MAX + 3)]
    hung.update({path: threading.Event() for path in paths})
    found.wanted([*paths, "/etc"])
    await told.until(lambda: len(told) == len(paths) + 1)
    assert set(told.values()) == {"unclear"}
    assert sum(one.name == "sources" for one in threading.enumerate()) <= HANGING_MAX + 1
    for event in hung.values():
        event.set()
    await told.have(etc="present", slow0="present")


async def test_a_new_session_is_told_all_again(found: Looking, told: Told) -> None:
    found.wanted(["/etc"])
    await told.have(etc="present")
    told.clear()
    found.wanted(None)
    found.wanted(["/etc", "/tmp"])
    await told.have(etc="present", tmp="present")


async def test_what_is_no_longer_wanted_is_not_reported(
    found: Looking, told: Told, hung: dict[str, threading.Event]
) -> None:
    hung["/slow"] = threading.Event()
    found.wanted(["/slow"])
    await told.have(slow="unclear")
    found.wanted([])
    told.clear()
    hung["/slow"].set()
    found.wanted(["/etc"])
    await told.have(etc="present")
    assert told == {"/etc": "present"}
