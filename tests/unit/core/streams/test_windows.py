"""Credit for channels: nothing is held beyond the window, and no sender waits for ever."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from pyswarm_core.errors import InvalidArgument
from pyswarm_core.streams.limits import STREAM_FRAMES_LEADER, STREAM_FRAMES_NODE, STREAM_WINDOW
from pyswarm_core.streams.windows import Credit, Window, frame_bytes


def test_a_reader_that_does_not_read_holds_one_window() -> None:
    credit, window = Credit(), Window(STREAM_WINDOW)
    credit.grant(window.due())
    window.received(credit.left)
    credit.take(credit.left)
    assert (window.held, credit.left, window.due()) == (2 * 1024 * 1024, 0, 0)


def test_data_without_credit_is_refused() -> None:
    window = Window(10)
    assert window.due() == 10
    window.received(4)
    with pytest.raises(InvalidArgument, match="sent 7 bytes at once and may send 6"):
        window.received(7)


def test_credit_is_granted_in_halves() -> None:
    window = Window(10)
    window.due()
    window.received(10)
    window.consumed(4)
    assert window.due() == 0
    window.consumed(1)
    assert window.due() == 5


@given(size=st.integers(1, 50), steps=st.lists(st.tuples(st.booleans(), st.integers(1, 20))))
def test_prop_a_channel_holds_at_most_its_window_and_never_stalls(
    size: int, steps: list[tuple[bool, int]]
) -> None:
    credit, window = Credit(), Window(size)
    credit.grant(window.due())
    for sends, count in steps:
        if sends:
            sent = min(count, credit.left)
            credit.take(sent)
            window.received(sent)
        else:
            window.consumed(min(count, window.held))
            credit.grant(window.due())
        assert window.held + credit.left <= size
    window.consumed(window.held)
    credit.grant(window.due())
    assert credit.left > 0, "a reader that has read everything lets its sender go on"


def test_many_streams_have_smaller_frames() -> None:
    kib = 1024
    assert (16 * kib * kib, 64 * kib * kib) == (STREAM_FRAMES_NODE, STREAM_FRAMES_LEADER)
    assert [frame_bytes(STREAM_FRAMES_NODE, n) for n in (1, 32)] == [512 * kib] * 2
    assert frame_bytes(STREAM_FRAMES_NODE, 64) == 256 * kib
    assert frame_bytes(STREAM_FRAMES_NODE, 256) == 64 * kib
    assert frame_bytes(STREAM_FRAMES_LEADER, 10_000) == 60 * kib
    together = sum(frame_bytes(STREAM_FRAMES_LEADER, number) for number in range(1, 1_001))
    assert together < 240 * kib * kib
