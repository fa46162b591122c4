"""What follows something goes on under the next leader, and gives up when it must."""

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from cli.errors import NoAnswer, Unreachable
from cli.streams import resuming
from cli.streams.resuming import resumed
from pyswarm_core.errors import Exhausted, NotFound, Unavailable

GONE = Unavailable("another term of leadership began: try again")


class Streams:
    """Streams that bring these items in turn, and raise what is an error."""

    def __init__(self, *streams: list[Any]) -> None:
        self.left = list(streams)

    def __call__(self) -> Iterator[Any]:
        for item in self.left.pop(0):
            if isinstance(item, Exception):
                raise item
            yield item


def client(*, has_answer: bool = False) -> Any:
    return SimpleNamespace(has_answer=has_answer)


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resuming, "PAUSE_S", 0.0)


def test_a_stream_is_opened_again_until_one_ends() -> None:
    streams = Streams([1, 2, GONE], [GONE], [Unreachable("gone")], [3])
    assert list(resumed(client(), streams)) == [1, 2, 3]


def test_without_a_controller_it_fails_at_once_unless_there_was_one() -> None:
    with pytest.raises(Unreachable):
        list(resumed(client(), Streams([Unreachable("none")])))
    assert list(resumed(client(has_answer=True), Streams([Unreachable("restarts")], [1]))) == [1]


@pytest.mark.parametrize("error", [NoAnswer("silent"), Exhausted("limit"), NotFound("gone")])
def test_other_errors_end_it(error: Exception) -> None:
    with pytest.raises(type(error)):
        list(resumed(client(), Streams([1, error], [2])))


def test_a_stream_that_lasted_was_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def waits(seconds: float) -> Iterator[int]:
        now[0] += seconds
        if seconds:
            raise Unreachable("killed")
        yield 7

    streams = iter([waits(3_600.0), waits(0.0)])
    assert list(resumed(client(), lambda: next(streams))) == [7]


def test_it_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    down = Streams(*([Unavailable("there is no leader now")] for _ in range(100)))

    def stream() -> Iterator[Any]:
        now[0] += 1.0
        return down()

    with pytest.raises(Unavailable, match="no leader"):
        list(resumed(client(has_answer=True), stream))
    assert len(down.left) == 100 - resuming.RECONNECT_S - 1
