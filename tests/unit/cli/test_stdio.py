"""Output of programs: what fits is written at once, the rest by a thread, all in order."""

import asyncio
import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from cli.streams import stdio
from cli.streams.stdio import Output

SIZE = 64 * 1024


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe's two ends."""
    ends = os.pipe()
    yield ends
    for end in ends:
        with suppress(OSError):  # the test has closed it
            os.close(end)


async def test_what_fits_into_a_pipe_needs_no_thread(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    before = threading.active_count()
    output = Output(writing)
    await output(b"one ")
    await output(b"")
    await output(b"two")
    assert os.read(reading, SIZE) == b"one two"
    assert threading.active_count() <= before, "one of another test may have ended"


async def test_a_full_pipe_holds_up_the_writer_and_not_the_loop(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    output, data = Output(writing), os.urandom(3 << 20)
    first = asyncio.create_task(output(data))
    second = asyncio.create_task(output(b"end"))
    await asyncio.sleep(0.01)
    assert not first.done()
    got = bytearray()
    while len(got) < len(data) + 3:
        got += await asyncio.to_thread(os.read, reading, SIZE)
    await asyncio.gather(first, second)
    assert got == data + b"end"


async def test_a_pipe_takes_two_large_frames(pipe: tuple[int, int]) -> None:
    _, writing = pipe
    output = Output(writing)
    await output(b"typed")
    assert fcntl.fcntl(writing, fcntl.F_GETPIPE_SZ) == SIZE
    await output(bytes(512 * 1024))
    assert fcntl.fcntl(writing, fcntl.F_GETPIPE_SZ) == 1 << 20


@pytest.mark.parametrize("size", [10, 1 << 20])
async def test_a_reader_that_is_gone_is_an_error(pipe: tuple[int, int], size: int) -> None:
    reading, writing = pipe
    os.close(reading)
    with pytest.raises(BrokenPipeError):
        await Output(writing)(bytes(size))


async def test_a_reader_that_goes_away_is_an_error(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    writes = asyncio.create_task(Output(writing)(bytes(3 << 20)))
    await asyncio.to_thread(os.read, reading, SIZE)
    os.close(reading)
    with pytest.raises(BrokenPipeError):
        await writes


async def test_files_and_other_kernels_are_written_by_the_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for flag in (os.RWF_NOWAIT, 0):
        monkeypatch.setattr(stdio, "_NOWAIT", flag)
        with (tmp_path / "file").open("wb") as file:
            output = Output(file.fileno())
            for _ in range(3):
                await output(b"x" * SIZE)
        assert (tmp_path / "file").stat().st_size == 3 * SIZE
