"""Merging lines of several tasks, and places in their logs."""

from hypothesis import given
from hypothesis import strategies as st

from controller.api.logs.parts import behind, cut, merged
from pyswarm_core.logs.limits import LOG_FRAME_BYTES
from pyswarm_core.logs.lines import LogLines, LogPlace
from pyswarm_core.views import LogSource


def columns(*at: int, text: bytes = b"") -> LogLines:
    """Lines of these times, which are numbered."""
    return LogLines(
        at=at,
        marks=bytes(number % 4 for number in range(len(at))),
        texts=tuple(b"%d" % number + text for number in range(len(at))),
    )


def source(name: str) -> LogSource:
    return LogSource(name, name, "host1")


@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=6), min_size=1, max_size=4))
def test_lines_are_merged_by_time_and_those_of_a_task_stay_in_order(times: list[list[int]]) -> None:
    runs = [(source(str(number)), columns(*at)) for number, at in enumerate(times)]
    (part,) = merged(runs)
    lines = part.lines
    assert lines is not None
    of = part.source_of or [0] * len(lines.at)
    for number, (name, given_lines) in enumerate(runs):
        own = [index for index, one in enumerate(of) if part.sources[one] == name]
        assert tuple(lines.at[index] for index in own) == given_lines.at
        assert bytes(lines.marks[index] for index in own) == given_lines.marks
        assert tuple(lines.texts[index] for index in own) == given_lines.texts
        if len(times) > 1:
            assert all(of[index] == number for index in own)
    if all(at == sorted(at) for at in times):
        assert list(lines.at) == sorted(lines.at)


def test_a_clock_that_was_set_back_does_not_reorder_a_task() -> None:
    (part,) = merged([(source("a"), columns(5, 3, 6)), (source("b"), columns(4, 7))])
    assert part.lines is not None
    assert [(of, at) for of, at in zip(part.source_of, part.lines.at, strict=True)] == [
        (1, 4),
        (0, 5),
        (0, 3),
        (0, 6),
        (1, 7),
    ]


def test_lines_of_one_task_are_passed_on_as_they_are() -> None:
    lines = columns(1, 2)
    (part,) = merged([(source("a"), lines)])
    assert part.lines is lines
    assert cut(lines, 0, 2) is lines
    assert cut(lines, 1, 2).texts == (b"1",)


def test_a_part_is_no_larger_than_a_frame() -> None:
    large = b"x" * (LOG_FRAME_BYTES // 3)
    runs = [(source(name), columns(*range(4), text=large)) for name in "ab"]
    parts = [part.lines for part in merged(runs) if part.lines]
    assert [len(lines.at) for lines in parts] == [2, 2, 2, 2]
    assert max(sum(map(len, lines.texts)) for lines in parts) <= LOG_FRAME_BYTES


def test_a_place_is_a_position_and_the_lines_since() -> None:
    place = behind(LogPlace(), LogLines(position=b"p"))
    assert place == LogPlace(b"p", 0)
    place = behind(behind(place, columns(1, 2)), columns(3))
    assert place == LogPlace(b"p", 3)
    assert behind(place, LogLines(at=(4,), position=b"q")) == LogPlace(b"q", 0)
