"""Records become messages; a position in the middle of a line is resumed."""

from hypothesis import given
from hypothesis import strategies as st

from agent.logdrivers.splitting import MESSAGE_BYTES_MAX, Message, Splitter

TIME = b"2026-01-02T03:04:05.000000007+00:00"


def record(text: bytes, flag: bytes = b"F", stream: bytes = b"stdout") -> bytes:
    return b"%b %b %b %b\n" % (TIME, stream, flag, text)


def texts(messages: list[Message]) -> list[tuple[bytes, bool]]:
    return [(message.text, message.partial) for message in messages]


def test_a_line_is_a_message() -> None:
    log = record(b"one") + record(b"", stream=b"stderr")
    first, second = Splitter().feed(log)
    half = len(record(b"one"))
    assert first == Message(TIME, b"stdout", b"one", False, half, half)
    assert second == Message(TIME, b"stderr", b"", False, len(log), len(log))


def test_pieces_are_joined_per_stream() -> None:
    log = record(b"a", b"P") + record(b"x", stream=b"stderr") + record(b"b")
    first, second = Splitter().feed(log)
    assert (first.stream, first.text) == (b"stderr", b"x")
    assert (second.stream, second.text) == (b"stdout", b"ab")
    assert (first.held, second.held) == (0, len(log))


def test_a_long_line_is_cut_as_docker_cuts_it() -> None:
    piece = record(b"x" * (MESSAGE_BYTES_MAX // 2), b"P")
    got = Splitter().feed(piece * 3 + record(b"end"))
    whole = b"x" * MESSAGE_BYTES_MAX
    assert texts(got) == [(whole, True), (b"x" * (MESSAGE_BYTES_MAX // 2) + b"end", False)]


def test_an_unfinished_line_is_a_message_at_the_end() -> None:
    splitter = Splitter()
    assert splitter.feed(record(b"prompt> ", b"P")) == []
    assert texts(splitter.flush()) == [(b"prompt> ", False)]
    assert splitter.flush() == []


def test_a_line_goes_on_in_the_next_file() -> None:
    splitter = Splitter()
    assert splitter.feed(record(b"a", b"P")) == []
    splitter.next_file()
    (message,) = splitter.feed(record(b"b"))
    assert (message.text, message.end) == (b"ab", len(record(b"b")))


def test_what_is_no_record_is_skipped_and_memory_bounded() -> None:
    splitter = Splitter()
    assert splitter.feed(b"nonsense\n\n" + b"x" * 1_000_000) == []
    (message,) = splitter.feed(b"y\n" + record(b"one"))
    assert message.end == len(b"nonsense\n\n") + 1_000_000 + 2 + len(record(b"one"))


@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"stdout", b"stderr"]), st.sampled_from(b"PF"), st.binary(max_size=4)
        ),
        max_size=12,
    ),
    st.integers(1, 90),
    st.data(),
)
def test_a_resumed_log_has_every_message_once(
    records: list[tuple[bytes, int, bytes]], size: int, data: st.DataObject
) -> None:
    log = b"".join(
        record(text.replace(b"\n", b""), bytes([flag]), stream) for stream, flag, text in records
    )
    splitter = Splitter()
    blocks = [log[start : start + size] for start in range(0, len(log), size)]
    whole = [message for block in blocks for message in splitter.feed(block)]
    sent = data.draw(st.integers(0, len(whole)))
    last = whole[sent - 1] if sent else None
    resumed = Splitter(last.held, last.end) if last else Splitter()
    again = resumed.feed(log[last.held if last else 0 :])
    assert texts(again) == texts(whole[sent:])
    assert [message.end for message in again] == [message.end for message in whole[sent:]]
