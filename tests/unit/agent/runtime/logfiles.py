"""Logs as conmon writes them, and what is read of them."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from agent.runtime.logs.lines import LineJoiner, Lines
from agent.runtime.logs.reading import read_log
from agent.runtime.logs.selection import LogQuery
from pyswarm_core.logs.lines import PARTIAL, STDERR


def record(second: int, text: str, stream: str = "stdout", flag: str = "F") -> str:
    return f"2026-01-02T03:04:{second:02}.000000007+00:00 {stream} {flag} {text}\n"


async def batches(
    log: Path, query: LogQuery, ended: asyncio.Event | None = None
) -> AsyncIterator[Lines]:
    """Those with lines."""
    async for batch in read_log(log, query, ended):
        if batch:
            yield batch


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


def rotate(log: Path) -> None:
    """Rename every file of a log to the next older name."""
    number = 1
    while log.with_name(f"{log.name}.{number}").exists():
        number += 1
    for older in range(number, 1, -1):
        log.with_name(f"{log.name}.{older - 1}").replace(log.with_name(f"{log.name}.{older}"))
    log.replace(log.with_name(f"{log.name}.1"))
