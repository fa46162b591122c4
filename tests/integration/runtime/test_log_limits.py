"""Logs of real containers keep their limits, whatever the container writes and whoever runs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from msgspec.structs import replace

from agent.runtime import conmon
from agent.runtime.base import LogLimits, RuntimeFailed
from agent.runtime.conmon import Binaries, MonitorCall, arguments
from agent.runtime.logs.reading import read_log
from agent.runtime.logs.selection import LogQuery
from tests.fixtures.runtime_contract import PATIENCE_S, exit_of, until
from tests.integration.runtime.conftest import RealWorld

MIB = 1 << 20
FLOODS = {
    "lines": "seq 1 4000000",
    "one line without an end": "dd if=/dev/zero bs=1M count=256 2>/dev/null",
    "both streams": "seq 1 2000000 & seq 1 2000000 >&2; wait",
}
"""Scripts that print as fast as they can, and end; each makes a log of more than 200 MiB."""


async def texts(log: Path) -> list[bytes]:
    return [text async for batch in read_log(log, LogQuery()) for text in batch.texts]


def used(log: Path) -> int:
    """The bytes of all files of a log, as they are on the disk."""
    sizes: dict[int, int] = {}
    for path in log.parent.glob(f"{log.name}*"):
        with suppress(FileNotFoundError):  # renamed meanwhile
            status = path.stat()
            sizes[status.st_ino] = status.st_size
    return sum(sizes.values())


@asynccontextmanager
async def tended(world: RealWorld) -> AsyncIterator[None]:
    """The runtime's own work is done meanwhile, as a running agent does it."""
    tending = asyncio.create_task(world.runtime.tend())
    try:
        yield
    finally:
        tending.cancel()
        with suppress(asyncio.CancelledError):
            await tending


async def flood(world: RealWorld, script: str, limits: LogLimits) -> int:
    """Run the script to its end; the most bytes that its log had."""
    config = world.custom("a1", ("/bin/sh", "-c", script), log_limits=limits)
    await world.runtime.create(config)
    await world.runtime.start("a1")
    log, most = Path(world.runtime.log_path("a1")), 0
    ended = asyncio.create_task(exit_of(world.runtime, "a1"))
    while not ended.done():
        most = max(most, used(log))
        await asyncio.wait([ended], timeout=0.005)
    assert (await ended).code == 0
    return most


async def test_log_rotates_and_loses_nothing(world: RealWorld) -> None:
    script = "i=0; while [ $i -lt 600 ]; do i=$((i+1)); echo line $i; sleep 0.001; done; sleep 1000"
    limits = LogLimits(max_size=8000, max_file=20)
    config = world.custom("a1", ("/bin/sh", "-c", script), log_limits=limits)
    log = Path(world.runtime.log_path("a1"))
    seen: list[bytes] = []

    async def has_rotated() -> bool:
        return log.with_name("a1.1").exists()

    async with asyncio.timeout(PATIENCE_S), tended(world):
        await world.runtime.create(config)
        await world.runtime.start("a1")
        async for batch in read_log(log, LogQuery(follow=True)):
            seen += batch.texts
            if seen[-1:] == [b"line 600"]:
                break
        await until(has_rotated)
    assert seen == [f"line {number}".encode() for number in range(1, 601)]
    assert await texts(log) == seen


async def test_a_log_longer_than_all_of_its_files_is_followed_whole(world: RealWorld) -> None:
    script = "i=0; while [ $i -lt 4000 ]; do i=$((i+1)); echo line $i; sleep 0.001; done; sleep 99"
    limits = LogLimits(max_size=20_000, max_file=3)
    config = world.custom("a1", ("/bin/sh", "-c", script), log_limits=limits)
    log = Path(world.runtime.log_path("a1"))
    seen: list[bytes] = []
    async with asyncio.timeout(PATIENCE_S), tended(world):
        await world.runtime.create(config)
        await world.runtime.start("a1")
        async for batch in read_log(log, LogQuery(follow=True)):
            seen += batch.texts
            if seen[-1:] == [b"line 4000"]:
                break
    assert seen == [f"line {number}".encode() for number in range(1, 4001)]


@pytest.mark.parametrize("kind", FLOODS)
async def test_a_flood_keeps_the_limits(kind: str, world: RealWorld) -> None:
    limits = LogLimits(max_size=4 * MIB, max_file=3)
    async with tended(world):
        most = await flood(world, FLOODS[kind], limits)
    assert 8 * MIB < most <= (limits.max_file + 1) * limits.max_size
    log = Path(world.runtime.log_path("a1"))
    assert used(log) > 8 * MIB
    if kind == "lines":
        numbers = [int(text) for text in (await texts(log))[1:]]
        assert numbers == sorted(numbers)
        assert numbers[-1] == 4_000_000


async def test_a_flood_keeps_the_limits_while_no_agent_runs(world: RealWorld) -> None:
    limits = LogLimits(max_size=4 * MIB, max_file=3)
    most = await flood(world, FLOODS["lines"], limits)
    assert most <= 2 * limits.max_size
    assert (await texts(Path(world.runtime.log_path("a1"))))[-1] == b"4000000"


async def test_a_container_of_an_earlier_agent_whose_conmon_has_no_limit_is_rotated(
    world: RealWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unlimited(binaries: Binaries, call: MonitorCall) -> list[str]:
        words = arguments(binaries, call)
        place = words.index("--log-size-max")
        return words[:place] + words[place + 2 :]

    monkeypatch.setattr(conmon, "arguments", unlimited)
    script = "i=0; while [ $i -lt 4000 ]; do i=$((i+1)); echo line $i; sleep 0.001; done"
    limits = LogLimits(max_size=20_000, max_file=20)
    config = world.custom("a1", ("/bin/sh", "-c", script), log_limits=limits)
    await world.runtime.create(config)
    async with tended(world):
        await world.runtime.start("a1")
        await exit_of(world.runtime, "a1")
    log = Path(world.runtime.log_path("a1"))
    assert log.with_name("a1.2").exists()
    assert await texts(log) == [f"line {number}".encode() for number in range(1, 4001)]


async def test_output_that_is_not_stored_reaches_attached_clients_alone(world: RealWorld) -> None:
    script = "while read line; do echo got $line; done"
    config = world.custom("a1", ("/bin/sh", "-c", script), log_limits=LogLimits(stored=False))
    await world.runtime.create(replace(config, stdin=True, stdin_once=True))
    client = await world.runtime.attach("a1")
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
        reading = group.create_task(client.run())
        await world.runtime.start("a1")
        await client.write(b"one\n")
        assert await client.read() == (1, b"got one\n")
        client.close_stdin()
        assert (await exit_of(world.runtime, "a1")).code == 0
        await reading
    client.close()
    log = Path(world.runtime.log_path("a1"))
    assert not list(log.parent.iterdir())
    assert await texts(log) == []


async def test_a_program_that_is_missing_is_named_without_a_log(world: RealWorld) -> None:
    config = world.custom("a1", ("/bin/nothing",), log_limits=LogLimits(stored=False))
    with pytest.raises(RuntimeFailed, match="/bin/nothing"):
        await world.runtime.create(config)
