"""Whether a task listens on its ports, from its network namespace. SHELL over /proc."""

import asyncio
from pathlib import Path

from agent.network.sockets import listens
from agent.tasks.record import Record

POLL_FIRST_S = 0.02
POLL_MAX_S = 1.0
"""The time between two checks: the first, growing to the second."""


async def listening(record: Record) -> bool:
    """Whether a process of the task listens on every TCP port that its service publishes."""
    return await asyncio.to_thread(_listening, record)


def _listening(record: Record) -> bool:
    missing = record.tcp_ports
    addresses = frozenset(address.address for address in record.detail.addresses)
    for name in ("tcp", "tcp6"):
        if missing:
            table = _read(Path(f"/proc/{record.detail.pid}/net/{name}"))
            missing -= listens(table, missing, addresses)
    return not missing


def _read(path: Path) -> bytes:
    # The process may just have ended, and a kernel without IPv6 has no tcp6.
    try:
        return path.read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""
    except OSError as error:
        if error.errno == 22:  # EINVAL: the namespace is removed while it is read
            return b""
        raise
