"""Files of a log are found at a bounded cost, also while they are rotated without a pause."""

import asyncio
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from agent.runtime import logrotate
from agent.runtime.base import LogLimits
from agent.runtime.logs import files, reading
from agent.runtime.logs.beginning import Beginning, beginning
from agent.runtime.logs.selection import LogQuery
from pyswarm_core.logs.patterns import pattern
from tests.unit.agent.runtime.logfiles import at_ns, batches, record, texts, write_anew

MANY = LogLimits(max_size=1, max_file=100)


def with_files(folder: Path, count: int) -> Path:
    """Files of a line each, which are numbered from 1."""
    log = folder / "log"
    for number in range(1, count + 1):
        write_anew(log, record(1, str(number)), MANY)
    return log


@contextmanager
def calls(monkeypatch: pytest.MonkeyPatch, *names: str) -> Iterator[list[str]]:
    """The calls of these functions of `os`."""
    made: list[str] = []

    def counted(name: str) -> Any:
        original = getattr(os, name)

        def call(*given: Any, **named: Any) -> Any:
            made.append(name)
            return original(*given, **named)

        return call

    with monkeypatch.context() as patch:
        for name in names:
            patch.setattr(os, name, counted(name))
        yield made


def read_all(descriptors: list[int]) -> list[int]:
    return [int(os.pread(one, 100, 0).split()[-1]) for one in descriptors]


def test_a_follower_looks_at_one_name_and_opens_the_next_file_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = with_files(tmp_path, 50)
    newest, before = log.stat().st_ino, logrotate.rotated(log, 1).stat().st_ino
    with calls(monkeypatch, "stat", "open") as made:
        assert not files.has_newer(log, newest)
        assert files.has_newer(log, before)
    assert made == ["stat"] * 2
    with calls(monkeypatch, "stat", "open") as made:
        descriptor = files.opened_after(log, before)
    assert descriptor is not None
    assert files.inode_of(descriptor) == newest
    os.close(descriptor)
    assert len(made) <= 6


def test_the_file_after_each_is_the_next_one(tmp_path: Path) -> None:
    log = with_files(tmp_path, 5)
    for after, expected in [(0, [1]), (1, [2]), (3, [4]), (4, [5]), (5, [])]:
        with files.all_opened(log) as opened:
            inode = files.inode_of(opened[after - 1]) if after else 0
        descriptor = files.opened_after(log, inode)
        found = [] if descriptor is None else [descriptor]
        assert read_all(found) == expected
        for one in found:
            os.close(one)


def test_a_log_that_conmon_replaced_before_the_agent_looked_has_a_next_file(tmp_path: Path) -> None:
    log = with_files(tmp_path, 3)
    before = log.stat().st_ino
    write_anew(log, record(1, "4"), None)
    assert files.has_newer(log, before)
    descriptor = files.opened_after(log, before)
    assert descriptor is not None
    assert read_all([descriptor]) == [4]
    os.close(descriptor)


@pytest.mark.parametrize("every", [2, 3, 7])
def test_files_that_are_rotated_without_a_pause_are_all_found_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    log = with_files(tmp_path, 9)
    original, opens, written = os.open, 0, 9

    def rotating(path: Any, flags: int, mode: int = 0o777) -> int:
        nonlocal opens, written
        if Path(path).parent != tmp_path or ".tmp" in str(path):
            return original(path, flags, mode)
        opens += 1
        assert opens < 200, "it does not end"
        if opens % every == 0:
            written += 1
            write_anew(log, record(1, str(written)), MANY)
        return original(path, flags, mode)

    monkeypatch.setattr(os, "open", rotating)
    with files.all_opened(log) as opened:
        found = read_all(opened)
    assert found[:9] == list(range(1, 10))
    assert found == sorted(set(found))


def test_reading_since_a_time_opens_each_file_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = with_files(tmp_path, 30)
    for number in range(1, 30):
        os.utime(logrotate.rotated(log, number), (1, 1))
    with calls(monkeypatch, "stat", "open") as made:
        begin = beginning(log, LogQuery(since_ns=at_ns(1)), Event())
    assert begin.descriptor is not None
    assert read_all([begin.descriptor]) == [30]
    os.close(begin.descriptor)
    assert len(made) < 40


async def test_many_files_are_opened_beside_the_event_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = with_files(tmp_path, 4)
    threads: set[threading.Thread] = set()
    original = os.open

    def noted(path: Any, flags: int, mode: int = 0o777) -> int:
        if Path(path).parent == tmp_path:
            threads.add(threading.current_thread())
        return original(path, flags, mode)

    monkeypatch.setattr(os, "open", noted)
    ended = asyncio.Event()
    ended.set()
    seen = [
        text async for batch in batches(log, LogQuery(follow=True), ended) for text in batch.texts
    ]
    assert seen == [b"1", b"2", b"3", b"4"]
    assert await texts(log, LogQuery()) == ["1", "2", "3", "4"]
    assert threads
    assert threading.main_thread() not in threads


@pytest.mark.parametrize(
    "query", [LogQuery(tail=1), LogQuery(tail=1, matches=pattern("--grep", "a"))]
)
async def test_a_log_that_is_written_without_a_pause_is_read_to_where_it_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, query: LogQuery
) -> None:
    log = tmp_path / "log"
    log.write_text(record(1, "a 1") + record(1, "a 2"))

    def growing(*given: Any) -> Beginning:
        found = beginning(*given)
        with log.open("a") as more:
            more.write(record(2, "a later") * 1000)
        return found

    monkeypatch.setattr(reading, "beginning", growing)
    assert await texts(log, query) == ["a 2"]


async def test_the_file_of_a_cancelled_reader_is_closed_whatever_its_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    closed: list[int] = []
    monkeypatch.setattr(os, "close", closed.append)
    for descriptor in (0, 7, None):
        work = asyncio.get_running_loop().create_future()
        work.set_result(Beginning(descriptor))
        reading._close(work)
    monkeypatch.undo()
    assert closed == [0, 7]
