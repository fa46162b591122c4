"""Reading is resumed where it broke."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from agent.runtime import logrotate
from agent.runtime.base import LogLimits
from agent.runtime.logs.lines import Lines
from agent.runtime.logs.reading import read_log
from agent.runtime.logs.selection import LogQuery
from pyswarm_core.logs.lines import PARTIAL, STDERR, LogPlace
from tests.unit.agent.runtime.logfiles import record, texts, write_anew


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
@settings(deadline=None, max_examples=40)
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
