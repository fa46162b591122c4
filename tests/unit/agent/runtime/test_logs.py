"""Logs are read as they were written: joined, in order, from the end, across rotated files."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from agent.runtime import logrotate
from agent.runtime.base import LogLimits
from agent.runtime.logs import LINE_BYTES_MAX, PAUSES_MAX, LineJoiner, LogEntry, LogQuery, read_log


def record(second: int, text: str, stream: str = "stdout", flag: str = "F") -> str:
    return f"2026-01-02T03:04:{second:02}.000000007+00:00 {stream} {flag} {text}\n"


LIMITS = LogLimits(max_size=1, max_file=3)


def replace(log: Path, content: str, limits: LogLimits | None = LIMITS) -> None:
    """As conmon replaces a log, and then the agent moves its files; None: no agent runs."""
    draft = log.with_name(f"{log.name}.tmp")
    draft.write_text(content)
    draft.replace(log)
    if limits is not None:
        logrotate.keep(log, limits)


async def texts(log: Path, query: LogQuery) -> list[str]:
    return [line.text.decode() async for batch in read_log(log, query) for line in batch]


def test_pieces_are_joined_per_stream() -> None:
    joiner = LineJoiner()
    block = (
        record(1, "one ", flag="P")
        + record(2, "err", stream="stderr")
        + record(3, "line", flag="F")
    )
    got = joiner.feed(block.encode())
    assert [(line.stream, line.text) for line in got] == [
        ("stderr", b"err"),
        ("stdout", b"one line"),
    ]


def test_blocks_may_end_anywhere() -> None:
    whole = (record(1, "a b  c") + record(2, "") + record(3, "ü")).encode()
    joiner = LineJoiner()
    got = [line for index in range(len(whole)) for line in joiner.feed(whole[index : index + 1])]
    assert [line.text.decode() for line in got] == ["a b  c", "", "ü"]


def test_time_is_in_nanoseconds_whatever_the_zone() -> None:
    joiner = LineJoiner()
    block = b"1970-01-01T01:00:01.000000007+01:00 stdout F x\n"
    assert joiner.feed(block) == [LogEntry(1_000_000_007, "stdout", b"x")]


def test_what_is_no_record_is_left_out() -> None:
    assert LineJoiner().feed(b"nonsense\n\nnot-a-time stdout F x\n") == []


def test_endless_line_is_cut_and_memory_bounded() -> None:
    joiner = LineJoiner()
    piece = record(1, "x" * 8192, flag="P").encode()
    got = [line for _ in range(300) for line in joiner.feed(piece)]
    assert [len(line.text) for line in got] == [LINE_BYTES_MAX, LINE_BYTES_MAX]


def test_the_bare_end_of_a_line_that_was_cut_is_no_line() -> None:
    joiner = LineJoiner()
    piece = record(1, "x" * (LINE_BYTES_MAX // 128), flag="P").encode()
    assert len([line for _ in range(128) for line in joiner.feed(piece)]) == 1
    end = record(2, "") + record(3, "next")
    assert [line.text for line in joiner.feed(end.encode())] == [b"next"]


def test_a_line_without_its_end_is_told_when_asked_for() -> None:
    joiner = LineJoiner()
    block = record(1, "whole") + record(2, "a", "stderr", "P") + record(3, "pro", flag="P")
    block += record(4, "mpt> ", flag="P")
    assert [line.text for line in joiner.feed(block.encode())] == [b"whole"]
    told = joiner.flush()
    assert [(line.stream, line.text) for line in told] == [
        ("stderr", b"a"),
        ("stdout", b"prompt> "),
    ]
    assert told[1].at_ns - told[0].at_ns == 2_000_000_000
    assert not joiner.holds
    assert joiner.flush() == []


def test_the_rest_of_a_line_that_was_told_follows_and_its_bare_end_does_not() -> None:
    joiner = LineJoiner()
    joiner.feed(record(1, "prompt> ", flag="P").encode())
    joiner.flush()
    rest = record(2, "yes") + record(3, "") + record(4, "two", flag="P")
    assert [line.text for line in joiner.feed(rest.encode())] == [b"yes", b""]
    joiner.flush()
    rest = record(5, "") + record(6, "") + record(7, "three")
    assert [line.text for line in joiner.feed(rest.encode())] == [b"", b"three"]


def test_a_line_that_paused_is_told_whatever_the_other_stream_writes() -> None:
    joiner = LineJoiner()
    joiner.feed(record(1, "prompt> ", flag="P").encode())
    assert joiner.pause() == []
    joiner.feed((record(2, "busy", "stderr") + record(2, "more", "stderr", "P")).encode())
    assert [line.text for line in joiner.pause()] == [b"prompt> "]
    assert [line.text for line in joiner.pause()] == [b"more"]
    assert not joiner.holds


def test_a_line_that_never_pauses_is_told_now_and_then() -> None:
    joiner = LineJoiner()
    told = []
    for _ in range(2 * PAUSES_MAX):
        joiner.feed(record(1, ".", flag="P").encode())
        told += joiner.pause()
    assert [line.text for line in told] == [b"." * PAUSES_MAX] * 2
    assert joiner.feed(record(2, "").encode()) == []


def test_a_line_that_ended_leaves_no_pause_to_the_next() -> None:
    joiner = LineJoiner()
    for _ in range(2 * PAUSES_MAX):
        joiner.feed(record(1, "a", flag="P").encode())
        assert joiner.pause() == []
        assert [line.text for line in joiner.feed(record(1, "b").encode())] == [b"ab"]


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
        async for batch in read_log(log, LogQuery(follow=True), ended):
            if any(line.text == b"prompt> " for line in batch):
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
    pieces = "".join(record(2, "x" * 8192, flag="P") for _ in range(20)) + record(3, "end")
    async for batch in read_log(log, LogQuery(follow=True), ended):
        seen += [line.text.decode() for line in batch]
        with log.open("a") as more:
            if len(seen) == 1:
                more.write(record(1, "") + pieces + record(4, "last", flag="P"))
            elif seen[-1] == "last":
                ended.set()
    assert seen == ["prompt> ", "x" * 20 * 8192 + "end", "last"]


@pytest.fixture
def rotated_log(tmp_path: Path) -> Path:
    """Six lines in three files: .2 has 1-2, .1 has 3-4, the current one 5-6."""
    log = tmp_path / "log"
    for path, first in ((log.with_name("log.2"), 1), (log.with_name("log.1"), 3), (log, 5)):
        path.write_text(record(first, f"line {first}") + record(first + 1, f"line {first + 1}"))
    logrotate.keep(log, LIMITS)
    return log


@pytest.mark.parametrize("tail", [0, 1, 2, 3, 5, 6, 9])
async def test_tail_counts_across_files(rotated_log: Path, tail: int) -> None:
    expected = [f"line {number}" for number in range(1, 7)][max(0, 6 - tail) :] if tail else []
    assert await texts(rotated_log, LogQuery(tail=tail)) == expected


async def test_all_lines_come_oldest_first(rotated_log: Path) -> None:
    assert await texts(rotated_log, LogQuery()) == [f"line {number}" for number in range(1, 7)]


async def test_since_leaves_out_what_is_older(rotated_log: Path) -> None:
    fourth_ns = LineJoiner().feed(record(4, "x").encode())[0].at_ns
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
    replace(log, record(1, "first"))
    ended = asyncio.Event()
    seen: list[str] = []
    async for batch in read_log(log, LogQuery(follow=True), ended):
        seen += [line.text.decode() for line in batch]
        if seen[-1] == "first":
            with log.open("a") as late:
                late.write(record(2, "late"))
            replace(log, record(3, "second"), LogLimits(max_size=1, max_file=3))
        if seen[-1] == "second":
            ended.set()
    assert seen == ["first", "late", "second"]


@pytest.mark.parametrize("tail", [-1, 5])
@pytest.mark.parametrize("name", ["log.2", "log.1", "log"])
async def test_a_rotation_just_before_a_file_is_opened_skips_nothing(
    rotated_log: Path, monkeypatch: pytest.MonkeyPatch, name: str, tail: int
) -> None:
    waiting, opened = [name], os.open

    def rotating(path: Any, flags: int, mode: int = 0o777) -> int:
        if waiting and Path(path) == rotated_log.with_name(name):
            waiting.clear()
            replace(rotated_log, record(7, "line 7"), LogLimits(max_size=1, max_file=5))
        return opened(path, flags, mode)

    monkeypatch.setattr(os, "open", rotating)
    got = await texts(rotated_log, LogQuery(tail=tail))
    assert not waiting
    last = got[-1].removeprefix("line ")
    count = int(last) if tail < 0 else tail
    assert last in "67"
    assert got == [f"line {number}" for number in range(int(last) - count + 1, int(last) + 1)]


def test_a_log_is_whole_in_the_middle_of_a_rotation(rotated_log: Path) -> None:
    newer = rotated_log.with_name("log.1")
    newer.replace(rotated_log.with_name("log.3"))
    names = [path.name for path in logrotate.files(rotated_log)]
    assert names == ["log.3", "log.2", "log"]


def test_rotation_drops_only_the_oldest(tmp_path: Path) -> None:
    log = tmp_path / "log"
    for number in range(5):
        replace(log, str(number))
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "log": "4",
        "log.0": "4",
        "log.1": "3",
        "log.2": "2",
    }
    assert [path.name for path in logrotate.files(log)] == ["log.2", "log.1", "log"]


def test_files_that_were_replaced_while_no_agent_ran_keep_their_bound(tmp_path: Path) -> None:
    log = tmp_path / "log"
    for number in range(5):
        replace(log, str(number))
    for number in range(5, 9):
        replace(log, str(number), None)
    names = [path.name for path in logrotate.files(log)]
    assert names == ["log.2", "log.1", "log.0", "log"]
    assert [path.read_text() for path in logrotate.files(log)] == ["2", "3", "4", "8"]
    logrotate.keep(log, LIMITS)
    assert [path.read_text() for path in logrotate.files(log)] == ["3", "4", "8"]
    logrotate.remove(log)
    assert not list(tmp_path.iterdir())


def test_a_log_is_due_until_its_current_file_has_a_second_name(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert not logrotate.is_due(log)
    log.write_text("12345")
    assert logrotate.is_due(log)
    logrotate.keep(log, LIMITS)
    assert not logrotate.is_due(log)
    replace(log, "", None)
    assert logrotate.is_due(log)
    assert logrotate.exceeds(log.with_name("log.0"), LogLimits(max_size=4, max_file=2))
    assert not logrotate.exceeds(log.with_name("log.0"), LogLimits(max_size=5, max_file=2))
    assert not logrotate.exceeds(tmp_path / "none", LIMITS)


@pytest.mark.parametrize(
    ("limits", "kept"),
    [
        (LogLimits(), False),
        (LogLimits(max_size=5), False),
        (LogLimits(max_size=5, max_file=2), True),
        (LogLimits(max_file=2), False),
        (LogLimits(max_size=5, max_file=2, stored=False), False),
    ],
)
def test_replaced_files_are_kept_only_of_a_log_of_several_files(
    limits: LogLimits, kept: bool
) -> None:
    assert logrotate.is_kept(limits) is kept
