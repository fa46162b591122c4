"""Whether a task listens on its ports and has accepted its connections, from the socket tables of
its network namespace; and which process of the host listens. SHELL over /proc.
"""

import asyncio
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from agent.network.base import HOST_NETWORK
from agent.network.sockets import has_unaccepted, inodes, listens
from agent.tasks.record import Record
from pyswarm_core.specs import PortConfig, Protocol

POLL_FIRST_S = 0.02
POLL_MAX_S = 1.0
"""The time between two checks: the first, growing to the second."""
ACCEPT_MAX_S = 1.0
"""The stop signal waits at most this long until a task has accepted its connections."""


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


async def accepted(record: Record) -> None:
    """Return once no connection to the task waits to be accepted, or after ACCEPT_MAX_S.

    Programs that close their socket on the stop signal reset such connections. A task on the
    network of its host is not examined: the table has the sockets of the whole host.
    """
    if not record.is_reachable or _is_on_host_network(record):
        return
    for _ in range(round(ACCEPT_MAX_S / POLL_FIRST_S)):
        if not await asyncio.to_thread(_has_unaccepted, record.detail.pid):
            return
        await asyncio.sleep(POLL_FIRST_S)


def _is_on_host_network(record: Record) -> bool:
    return any(network.target == HOST_NETWORK for network in record.spec.networks)


def _has_unaccepted(pid: int) -> bool:
    return any(has_unaccepted(_read(Path(f"/proc/{pid}/net/{name}"))) for name in ("tcp", "tcp6"))


def conflict(ports: Iterable[PortConfig]) -> str:
    """Which process of this host listens on one of the published ports; empty: none does."""
    for port in ports:
        if port.published_port and (found := _sockets(port)):
            holder = _holder(found)
            by = f" by {holder}" if holder else ""
            return f"port {port.published_port}/{port.protocol} is in use on this host{by}"
    return ""


def _sockets(port: PortConfig) -> frozenset[str]:
    if port.protocol is Protocol.SCTP:
        return frozenset()
    is_udp = port.protocol is Protocol.UDP
    tables = (_read(Path(f"/proc/thread-self/net/{port.protocol}{end}")) for end in ("", "6"))
    found = (inodes(table, port.published_port, udp=is_udp) for table in tables)
    return frozenset().union(*found)


def _holder(sockets: frozenset[str]) -> str:
    """`nginx (process 812)`; empty: no process that this one may look at."""
    wanted = {f"socket:[{inode}]" for inode in sockets}
    for process in Path("/proc").iterdir():
        if process.name.isdecimal() and wanted.intersection(_open_files(process)):
            name = _read(process / "comm").decode(errors="replace").strip()
            return f"{name} (process {process.name})"
    return ""


def _open_files(process: Path) -> Iterator[str]:
    names: list[str] = []
    with suppress(OSError):  # it has just ended
        names = os.listdir(process / "fd")  # noqa: PTH208  # of thousands of files
    for name in names:
        with suppress(OSError):
            yield os.readlink(f"{process}/fd/{name}")  # noqa: PTH115


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
