"""Logs as conmon writes them, and what is read of them."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from agent.runtime import logrotate
from agent.runtime.base import LogLimits
from agent.runtime.logs.lines import LineJoiner, Lines
from agent.runtime.logs.reading import read_log
from agent.runtime.logs.selection import LogQuery
from pyswarm_core.logs.lines import PARTIAL, STDERR

LIMITS = LogLimits(max_size=1, max_file=3)


def record(second: int, text: str, stream: str = "stdout", flag: str = "F") -> str:
    return f"2026-01-02T03:04:{second:02}.000000007+00:00 {stream} {flag} {text}\n"


def write_anew(log: Path, content: str, limits: LogLimits | None = LIMITS) -> None:
    """As conmon replaces a log, and then the agent moves its files; None: no agent runs."""
    draft = log.with_name(f"{log.name}.tmp")
    draft.write_text(content)
    draft.replace(log)
    if limits is not None:
        logrotate.keep(log, limits)


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
