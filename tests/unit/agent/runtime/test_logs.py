"""Logs are read as they were written: joined, in order, from the end, across rotated files."""

import asyncio
import os
import time
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from msgspec.structs import replace

from agent.runtime.base import LogLimits
from agent.runtime.logs.beginning import beginning
from agent.runtime.logs.lines import LineJoiner
from agent.runtime.logs.selection import LogQuery, Selection
from pyswarm_core.logs.patterns import pattern
from tests.unit.agent.runtime.logfiles import at_ns, batches, record, rows, texts, write_anew


async def test_a_prompt_beside_a_busy_stream_is_told(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(record(1, "prompt> ", flag="P"))
    ended = asyncio.Event()

    async def write() -> None:
        while not ended.is_set():
            with log.open("a") as more:
                more.write(record(2, "busy", "stderr"))
            await asyncio.sleep(0.01)

    async with asyncio.TaskGroup() as group:
        group.create_task(write())
        async for batch in batches(log, LogQuery(follow=True), ended):
            if b"prompt> " in batch.texts:
                ended.set()


async def test_the_end_of_a_log_is_told_though_its_line_has_none(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(record(1, "one") + record(2, "t", flag="P") + record(3, "wo", flag="P"))
    assert await texts(log, LogQuery()) == ["one", "two"]
    assert await texts(log, LogQuery(tail=1)) == ["two"]
    assert await texts(log, LogQuery(tail=2)) == ["one", "two"]
    assert await texts(log, LogQuery(tail=0)) == []


async def test_a_line_without_its_end_counts_on_either_stream(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(record(1, "prompt> ", flag="P") + record(2, "error", "stderr"))
    assert await texts(log, LogQuery(tail=1)) == ["error"]
    assert await texts(log, LogQuery(tail=2)) == ["error", "prompt> "]


async def test_a_line_that_began_in_an_older_file_counts_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    older = record(0, "zero") + record(1, "one") + record(2, "t", flag="P")
    log.with_name("log.1").write_text(older)
    for flag in ("P", "F"):
        log.write_text(record(3, "wo", flag=flag))
        assert await texts(log, LogQuery(tail=2)) == ["one", "two"]


async def test_a_prompt_of_a_followed_task_is_told_and_a_long_line_stays_whole(
    tmp_path: Path,
) -> None:
    log = tmp_path / "log"
    log.write_text(record(1, "prompt> ", flag="P"))
    ended = asyncio.Event()
    seen: list[str] = []
    pieces = "".join(record(2, "x" * 8192, flag="P") for _ in range(4)) + record(3, "end")
    async for batch in batches(log, LogQuery(follow=True), ended):
        seen += [text.decode() for text in batch.texts]
        with log.open("a") as more:
            if len(seen) == 1:
                more.write(record(1, "") + pieces + record(4, "last", flag="P"))
            elif seen[-1] == "last":
                ended.set()
    assert seen == ["prompt> ", "", "x" * 4 * 8192 + "end", "last"]


@pytest.mark.parametrize("tail", [0, 1, 2, 3, 5, 6, 9])
async def test_tail_counts_across_files(rotated_log: Path, tail: int) -> None:
    expected = [f"line {number}" for number in range(1, 7)][max(0, 6 - tail) :] if tail else []
    assert await texts(rotated_log, LogQuery(tail=tail)) == expected


async def test_all_lines_come_oldest_first(rotated_log: Path) -> None:
    assert await texts(rotated_log, LogQuery()) == [f"line {number}" for number in range(1, 7)]


async def test_since_leaves_out_what_is_older(rotated_log: Path) -> None:
    fourth_ns = at_ns(4)
    assert await texts(rotated_log, LogQuery(since_ns=fourth_ns)) == ["line 4", "line 5", "line 6"]


async def test_tail_of_a_long_file_begins_at_a_line(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("".join(record(1, f"{number:05} " + "x" * 100) for number in range(3000)))
    got = await texts(log, LogQuery(tail=1500))
    assert [text[:5] for text in got] == [f"{number:05}" for number in range(1500, 3000)]


async def test_missing_log_has_no_lines(tmp_path: Path) -> None:
    assert await texts(tmp_path / "log", LogQuery()) == []


async def test_follow_goes_on_over_a_rotation_and_ends_when_told(tmp_path: Path) -> None:
    log = tmp_path / "log"
    write_anew(log, record(1, "first"))
    ended = asyncio.Event()
    seen: list[str] = []
    async for batch in batches(log, LogQuery(follow=True), ended):
        seen += [text.decode() for text in batch.texts]
        if seen[-1] == "first":
            with log.open("a") as late:
                late.write(record(2, "late"))
            write_anew(log, record(3, "second"))
        if seen[-1] == "second":
            ended.set()
    assert seen == ["first", "late", "second"]


async def test_a_follower_of_a_log_that_is_cut_reads_it_from_its_beginning(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(record(1, "first") + record(1, "torn")[:-10])
    ended = asyncio.Event()
    seen: list[str] = []
    async for batch in batches(log, LogQuery(follow=True), ended):
        seen += [text.decode() for text in batch.texts]
        if seen[-1] == "first":
            os.truncate(log, 0)
            with log.open("a") as more:
                more.write(record(2, "2"))
        else:
            ended.set()
    assert seen == ["first", "2"]


async def test_until_ends_a_log_and_a_follower(rotated_log: Path) -> None:
    until = LogQuery(until_ns=at_ns(3))
    assert await texts(rotated_log, until) == ["line 1", "line 2", "line 3"]
    # A writer that goes on for ever.
    following = LogQuery(until_ns=at_ns(3), since_ns=at_ns(2), follow=True)
    assert await texts(rotated_log, following) == ["line 2", "line 3"]


async def test_a_follower_of_a_silent_log_ends_at_until(tmp_path: Path) -> None:
    log = tmp_path / "log"
    until_ns = time.time_ns() + 300_000_000
    assert await texts(log, LogQuery(until_ns=until_ns, follow=True)) == []
    assert time.time_ns() >= until_ns
    log.write_text(record(1, "a"))
    until_ns = time.time_ns() + 300_000_000
    assert await texts(log, LogQuery(until_ns=until_ns, follow=True)) == ["a"]
    assert time.time_ns() >= until_ns


@pytest.mark.parametrize("tail", [0, 1, 2, 3, 9])
async def test_tail_counts_the_lines_that_match(rotated_log: Path, tail: int) -> None:
    found = ["line 1", "line 3", "line 5"]
    odd = LogQuery(tail=tail, matches=pattern("--grep", "[135]$"))
    assert await texts(rotated_log, odd) == (found[-tail:] if tail else [])
    before = replace(odd, until_ns=at_ns(4))
    assert await texts(rotated_log, before) == (found[:2][-tail:] if tail else [])
    between = replace(before, since_ns=at_ns(2))
    assert await texts(rotated_log, between) == (["line 3"] if tail else [])


async def test_a_matching_line_that_began_in_an_older_file_is_whole(tmp_path: Path) -> None:
    log = tmp_path / "log"
    older = record(0, "two zero") + record(1, "one") + record(2, "t", flag="P")
    log.with_name("log.1").write_text(older)
    log.write_text(record(3, "wo") + record(4, "three"))
    for tail in (1, 2):
        two = LogQuery(tail=tail, matches=pattern("--grep", "^two"))
        assert await texts(log, two) == ["two zero", "two"][-tail:]


async def test_a_follower_gets_matching_lines_only(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(record(1, "a 1") + record(1, "b 1"))
    ended = asyncio.Event()
    seen: list[str] = []
    query = LogQuery(tail=1, matches=pattern("--grep", "^a"), follow=True)
    async for batch in batches(log, query, ended):
        seen += [text.decode() for text in batch.texts]
        if len(seen) == 2:
            ended.set()
            continue
        with log.open("a") as more:
            more.write(record(2, "b 2") + record(2, "a 2"))
    assert seen == ["a 1", "a 2"]


def test_a_part_of_a_line_that_matches_is_a_line() -> None:
    joiner = LineJoiner()
    joiner.feed(record(1, "ask> ", flag="P").encode())
    selection = Selection(LogQuery(matches=pattern("--grep", "ask")))
    assert rows(selection.of(joiner.flush())) == [("", "ask> ")]


async def test_a_reader_ends_though_the_log_grows_while_it_reads(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(record(1, "x" * 100) * 2000)
    seen = 0
    async for batch in batches(log, LogQuery()):
        seen += len(batch)
        with log.open("a") as more:
            more.write(record(2, "y" * 100) * 2000)
    assert seen == 2000


async def test_a_reader_that_is_cancelled_leaves_no_file_open(rotated_log: Path) -> None:
    def open_files() -> set[str]:
        held = set()
        for path in Path("/proc/self/fd").iterdir():
            with suppress(FileNotFoundError):
                held.add(str(path.readlink()))
        return {name for name in held if name.startswith(str(rotated_log))}

    for query in (LogQuery(follow=True), LogQuery(tail=3), LogQuery(tail=2, until_ns=at_ns(5))):
        reading = asyncio.create_task(texts(rotated_log, query))
        await asyncio.sleep(0)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        async with asyncio.timeout(60):
            while open_files():  # noqa: ASYNC110
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("tail", [-1, 5])
@pytest.mark.parametrize("name", ["log.2", "log.1", "log"])
async def test_a_rotation_just_before_a_file_is_opened_skips_nothing(
    rotated_log: Path, monkeypatch: pytest.MonkeyPatch, name: str, tail: int
) -> None:
    waiting, opened = [name], os.open

    def rotating(path: Any, flags: int, mode: int = 0o777) -> int:
        if waiting and Path(path) == rotated_log.with_name(name):
            waiting.clear()
            write_anew(rotated_log, record(7, "line 7"), LogLimits(max_size=1, max_file=5))
        return opened(path, flags, mode)

    monkeypatch.setattr(os, "open", rotating)
    got = await texts(rotated_log, LogQuery(tail=tail))
    assert not waiting
    last = got[-1].removeprefix("line ")
    count = int(last) if tail < 0 else tail
    assert last in "67"
    assert got == [f"line {number}" for number in range(int(last) - count + 1, int(last) + 1)]


def test_a_log_is_counted_no_further_once_its_reader_is_gone(rotated_log: Path) -> None:
    query = LogQuery(tail=1, matches=pattern("--grep", "line"))
    skips = []
    abandoned = Event()
    for _ in range(2):
        begin = beginning(rotated_log, query, abandoned)
        assert begin.descriptor is not None
        os.close(begin.descriptor)
        skips.append(begin.skip)
        abandoned.set()
    assert skips == [1, 0]
