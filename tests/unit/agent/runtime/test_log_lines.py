"""Lines of a log are joined from their records, whatever the blocks; bytes stay as they are."""

from agent.runtime.logs.lines import PAUSES_MAX, LineJoiner
from pyswarm_core.logs.limits import LOG_LINE_BYTES
from tests.unit.agent.runtime.logfiles import at_ns, record, rows


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
