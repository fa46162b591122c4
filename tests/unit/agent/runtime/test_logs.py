"""Logs are read as they were written: joined, in order, from the end, across rotated files."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from agent.runtime import logrotate
from agent.runtime.base import LogLimits
from agent.runtime.logs.lines import PAUSES_MAX, LineJoiner, Lines
from agent.runtime.logs.reading import read_log
from agent.runtime.logs.selection import LogQuery, Selection
from pyswarm_core.logs.limits import LOG_LINE_BYTES
from pyswarm_core.logs.lines import PARTIAL, STDERR, LogPlace
from pyswarm_core.logs.patterns import pattern


def record(second: int, text: str, stream: str = "stdout", flag: str = "F") -> str:
    return f"2026-01-02T03:04:{second:02}.000000007+00:00 {stream} {flag} {text}\n"


async def batches(
    log: Path, query: LogQuery, ended: asyncio.Event | None = None
) -> AsyncIterator[Lines]:
    """Those with lines."""
    async for batch in read_log(log, query, ended):
        if batch:
            yield batch


LIMITS = LogLimits(max_size=1, max_file=3)


def write_anew(log: Path, content: str, limits: LogLimits | None = LIMITS) -> None:
    """As conmon replaces a log, and then the agent moves its files; None: no agent runs."""
    draft = log.with_name(f"{log.name}.tmp")
    draft.write_text(content)
    draft.replace(log)
    if limits is not None:
        logrotate.keep(log, limits)


async def texts(log: Path, query: LogQuery) -> list[str]:
    return [text.decode() async for batch in read_log(log, query) for text in batch.texts]


def at_ns(second: int) -> int:
    return LineJoiner().feed(record(second, "x").encode()).at[0]


def rows(lines: Lines) -> list[tuple[str, str]]:
    """The marks and texts: `e` of stderr, `p` partial."""
    return [
        ("e" * bool(mark & STDERR) + "p" * bool(mark & PARTIAL), text.decode())
        for mark, text in zip(lines.marks, lines.texts, strict=True)
    ]


def test_pieces_are_joined_per_stream() -> None:
    joiner = LineJoiner()
    block = (
        record(1, "one ", flag="P")
        + record(2, "err", stream="stderr")
        + record(3, "line", flag="F")
    )
    assert rows(joiner.feed(block.encode())) == [("e", "err"), ("", "one line")]


def test_blocks_may_end_anywhere() -> None:
    whole = (record(1, "a b  c") + record(2, "") + record(3, "ü")).encode()
    joiner = LineJoiner()
    parts = [joiner.feed(whole[index : index + 1]) for index in range(len(whole))]
    assert [row for part in parts for row in rows(part)] == [("", "a b  c"), ("", ""), ("", "ü")]


def test_time_is_in_nanoseconds_whatever_the_zone() -> None:
    joiner = LineJoiner()
    block = b"1970-01-01T01:00:01.000000007+01:00 stdout F x\n"
    assert joiner.feed(block).at == [1_000_000_007]


def test_what_is_no_record_is_left_out() -> None:
    block = b"nonsense\n\nnot-a-time-of-19-cha.123456789 stdout F x\n" + record(1, "a").encode()
    assert rows(LineJoiner().feed(block)) == [("", "a")]


def test_any_bytes_are_text() -> None:
    text = bytes(byte for byte in range(256) if byte != ord("\n"))
    block = record(1, "@").encode().replace(b"@", text)
    assert LineJoiner().feed(block).texts == [text]


def test_a_record_after_a_torn_one_is_read() -> None:
    torn = record(1, "a")[:30]
    block = torn + record(2, "b")
    assert rows(LineJoiner().feed(block.encode())) == [("", "b")]


def test_a_torn_last_record_is_no_line() -> None:
    joiner = LineJoiner()
    assert rows(joiner.feed((record(1, "a") + record(2, "b")[:-1]).encode())) == [("", "a")]
    assert rows(joiner.flush()) == []


def test_endless_line_is_cut_and_memory_bounded() -> None:
    assert LOG_LINE_BYTES == 64 * 1024
    joiner = LineJoiner()
    piece = record(1, "x" * 8192, flag="P").encode()
    got = [row for _ in range(10) for row in rows(joiner.feed(piece))]
    assert [len(text) for _, text in got] == [LOG_LINE_BYTES, 8192, 8192]
    assert {marks for marks, _ in got} == {"p"}
    assert rows(joiner.feed((record(2, "end") + record(3, "next")).encode())) == [
        ("", "end"),
        ("", "next"),
    ]


def test_a_line_without_its_end_is_partial() -> None:
    joiner = LineJoiner()
    block = record(1, "whole") + record(2, "a", "stderr", "P") + record(3, "pro", flag="P")
    block += record(4, "mpt> ", flag="P")
    assert rows(joiner.feed(block.encode())) == [("", "whole")]
    told = joiner.flush()
    assert rows(told) == [("ep", "a"), ("p", "prompt> ")]
    assert told.at[1] - told.at[0] == 2_000_000_000
    assert not joiner.holds
    assert rows(joiner.flush()) == []


def test_the_rest_of_a_line_of_which_a_part_was_told_is_told_as_it_comes() -> None:
    joiner = LineJoiner()
    joiner.feed(record(1, "prompt> ", flag="P").encode())
    joiner.flush()
    rest = record(2, "y", flag="P") + record(2, "es") + record(3, "") + record(4, "t", flag="P")
    assert rows(joiner.feed(rest.encode())) == [("p", "y"), ("", "es"), ("", "")]
    assert rows(joiner.feed(record(5, "wo").encode())) == [("", "two")]


def test_a_resumed_line_is_told_in_the_parts_in_which_it_was_written() -> None:
    joiner = LineJoiner(at_ns(2), ["out", "err"])
    block = record(1, "a", flag="P") + record(2, "b", flag="P") + record(3, "c", flag="P")
    block += record(3, "err", "stderr") + record(4, "d") + record(5, "e", flag="P")
    assert rows(joiner.feed(block.encode())) == [("p", "b"), ("p", "c"), ("e", "err"), ("", "d")]
    assert joiner.holds


def test_a_line_that_paused_is_told_whatever_the_other_stream_writes() -> None:
    joiner = LineJoiner()
    joiner.feed(record(1, "prompt> ", flag="P").encode())
    assert rows(joiner.pause()) == []
    joiner.feed((record(2, "busy", "stderr") + record(2, "more", "stderr", "P")).encode())
    assert rows(joiner.pause()) == [("p", "prompt> ")]
    assert rows(joiner.pause()) == [("ep", "more")]
    assert not joiner.holds


def test_a_line_that_never_pauses_is_told_after_a_while() -> None:
    joiner = LineJoiner()
    told = []
    for _ in range(PAUSES_MAX):
        assert rows(joiner.feed(record(1, ".", flag="P").encode())) == []
        told += rows(joiner.pause())
    assert told == [("p", "." * PAUSES_MAX)]
    more = record(1, ".", flag="P") + record(2, "")
    assert rows(joiner.feed(more.encode())) == [("p", "."), ("", "")]


def test_a_line_that_ended_leaves_no_pause_to_the_next() -> None:
    joiner = LineJoiner()
    for _ in range(2 * PAUSES_MAX):
        joiner.feed(record(1, "a", flag="P").encode())
        assert rows(joiner.pause()) == []
        assert rows(joiner.feed(record(1, "b").encode())) == [("", "ab")]


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
            write_anew(log, record(3, "second"), LogLimits(max_size=1, max_file=3))
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
        async with asyncio.timeout(5):
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


def test_a_log_is_whole_in_the_middle_of_a_rotation(rotated_log: Path) -> None:
    newer = rotated_log.with_name("log.1")
    newer.replace(rotated_log.with_name("log.3"))
    names = [path.name for path in logrotate.files(rotated_log)]
    assert names == ["log.3", "log.2", "log"]


def test_rotation_drops_only_the_oldest(tmp_path: Path) -> None:
    log = tmp_path / "log"
    for number in range(5):
        write_anew(log, str(number))
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
        write_anew(log, str(number))
    for number in range(5, 9):
        write_anew(log, str(number), None)
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
    write_anew(log, "", None)
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


def whole(found: Sequence[Lines], stream: int) -> bytes:
    """What a stream's lines are when they are printed."""
    return b"".join(
        text + b"\n" * (not mark & PARTIAL)
        for lines in found
        for mark, text in zip(lines.marks, lines.texts, strict=True)
        if mark & STDERR == stream
    )


async def read_in_pieces(
    log: Path, query: LogQuery, breaks: Iterator[int], meanwhile: Callable[[], None]
) -> list[Lines]:
    """Everything, though the reading breaks after so many batches, again and again."""
    found: list[Lines] = []
    place, left = None, next(breaks)
    while True:
        async with aclosing(read_log(log, replace(query, place=place))) as reading:
            async for batch in reading:
                found.append(batch)
                if batch.position:
                    place = LogPlace(batch.position)
                else:
                    assert place is not None
                    place = replace(place, lines=place.lines + len(batch))
                if left == 0:
                    break
                left -= 1
            else:
                return found
        left = next(breaks)
        meanwhile()


@given(
    writes=st.lists(
        st.tuples(
            st.sampled_from(["stdout", "stderr"]),
            st.sampled_from("PPF"),
            st.sampled_from([1, 8192]),
            st.booleans(),
        ),
        min_size=1,
        max_size=80,
    ),
    breaks=st.lists(st.integers(0, 3), max_size=12),
    tail=st.sampled_from([-1, 0, 1, 3]),
)
@settings(deadline=None)
async def test_reading_is_resumed_at_any_batch_without_loss_or_repetition(
    writes: list[tuple[str, str, int, bool]], breaks: list[int], tail: int
) -> None:
    with TemporaryDirectory() as directory:
        log = Path(directory) / "log"
        log.touch()
        half = len(writes) // 2

        def write(part: Sequence[tuple[str, str, int, bool]], at: int) -> None:
            for number, (stream, flag, size, rotates) in enumerate(part):
                with log.open("a") as file:
                    # Many records of one instant.
                    file.write(record(at, f"{number:06}" + "x" * size, stream, flag))
                if rotates:
                    logrotate.keep(log, LogLimits(max_size=1, max_file=100))
                    write_anew(log, "", LogLimits(max_size=1, max_file=100))

        write(writes[:half], 1)
        expected = [batch async for batch in read_log(log, LogQuery(tail=tail))]
        place = LogPlace([batch.position for batch in expected if batch.position][-1])
        more = iter([writes[half:]])

        def meanwhile() -> None:
            write(next(more, []), 2)

        meanwhile()
        # What is resumed at the last position is what was written since.
        query = LogQuery(tail=-1, place=place)
        since = [batch async for batch in read_log(log, query)]
        everything = [batch async for batch in read_log(log, LogQuery())]
        if tail < 0:
            for stream in (0, STDERR):
                assert whole(expected + since, stream) == whole(everything, stream)
        pieces = await read_in_pieces(
            log, LogQuery(), iter([*breaks, -1]), lambda: write([("stdout", "F", 1, True)], 3)
        )
        final = [batch async for batch in read_log(log, LogQuery())]
        for stream in (0, STDERR):
            assert whole(pieces, stream) == whole(final, stream)


async def test_a_place_in_a_file_that_is_gone_is_the_oldest_file(rotated_log: Path) -> None:
    (first, *_) = [batch async for batch in read_log(rotated_log, LogQuery())][1:]
    assert first.texts == [b"line 1", b"line 2"]
    place = LogPlace(first.position)
    assert await texts(rotated_log, LogQuery(place=place)) == [f"line {n}" for n in range(3, 7)]
    rotated_log.with_name("log.2").unlink()
    assert await texts(rotated_log, LogQuery(place=place)) == [f"line {n}" for n in range(3, 7)]
    # Another file with the same inode.
    newest = [batch async for batch in read_log(rotated_log, LogQuery(tail=1))][-1]
    rotated_log.write_text(record(8, "line 8") + record(9, "line 9"))
    again = await texts(rotated_log, LogQuery(place=LogPlace(newest.position)))
    assert again == ["line 3", "line 4", "line 8", "line 9"]
    broken = LogPlace(b'{"inode": "x"}')
    assert len(await texts(rotated_log, LogQuery(place=broken))) == 4
