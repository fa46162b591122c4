"""Descriptors that are opened in a thread, when their caller leaves."""

import asyncio
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from agent.runtime.program.opening import opened


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as made:
        yield made


def is_open(descriptor: int) -> bool:
    with suppress(OSError):
        os.fstat(descriptor)
        return True
    return False


async def test_the_caller_has_what_was_opened(pool: ThreadPoolExecutor, tmp_path: Path) -> None:
    descriptor = await opened(pool, lambda: os.open(tmp_path, os.O_PATH), 60)
    os.close(descriptor)
    assert await opened(pool, lambda: None, 60) is None
    with pytest.raises(FileNotFoundError):
        await opened(pool, lambda: os.open(tmp_path / "none", os.O_PATH), 60)


@pytest.mark.parametrize("limit_s", [0.01, 60])
async def test_what_arrives_when_its_caller_has_left_is_closed(
    pool: ThreadPoolExecutor, tmp_path: Path, limit_s: float
) -> None:
    began, answers, found = threading.Event(), threading.Event(), list[int]()

    def hanging() -> int:
        began.set()
        answers.wait()
        found.append(os.open(tmp_path, os.O_PATH))
        return found[0]

    asking = asyncio.create_task(opened(pool, hanging, limit_s))
    await asyncio.to_thread(began.wait)
    if limit_s > 1:
        asking.cancel()
    with pytest.raises((TimeoutError, asyncio.CancelledError)):
        await asking
    answers.set()
    async with asyncio.timeout(60):
        while not found or is_open(found[0]):  # noqa: ASYNC110  # a thread opens, the loop closes
            await asyncio.sleep(0)
