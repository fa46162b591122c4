"""The real `PathMtu`: measures path MTUs by ICMP echoes. SHELL.

A tunnel or router below the overlay may carry less than this host's device and drop larger packets
silently: connections open, and stall with their first full packet. Invariant: a host that answers
no echo at all is not judged, since many networks drop echoes.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable

from agent.network.trace.probes import echo_by
from pyswarm_core.aio.logs import EventLog

_log = EventLog("agent.paths")

LEAST = 576
"""The packet size that every IPv4 host accepts (RFC 791)."""
MEASURE_PERIOD_S = 120.0
"""How often every host is measured."""
_PATIENCE_S = 0.5

Carries = Callable[[str, int], Awaitable[bool]]
"""Whether a packet of that size reaches that address."""


class EchoPathMtu:
    """The paths from this host, measured by `carries`."""

    def __init__(self, carries: Carries) -> None:
        self._carries = carries
        self._measured: dict[str, int] = {}
        self._looked_at: dict[str, float] = {}

    @property
    def measured(self) -> dict[str, int]:
        """See PathMtu."""
        return dict(self._measured)

    async def measure(self, addresses: Iterable[str], most: int) -> bool:
        """See PathMtu."""
        before = self.measured
        now = asyncio.get_running_loop().time()
        known = dict.fromkeys(addresses)
        self._measured = {a: size for a, size in before.items() if a in known}
        self._looked_at = {a: at for a, at in self._looked_at.items() if a in known}
        for address in known:
            whole = self._measured.get(address, most) >= most
            if whole and now < self._looked_at.get(address, -MEASURE_PERIOD_S) + MEASURE_PERIOD_S:
                continue
            self._looked_at[address] = now
            size = await self._size(address, most)
            if size is not None:
                self._measured[address] = size
                self._log_change(address, before.get(address, most), size, most)
        return self._measured != before

    async def _size(self, address: str, most: int) -> int | None:
        narrow = self._measured.get(address, most)
        # Most likely it is unchanged: a search would wait for many lost echoes.
        same = narrow < most and await self._carries(address, narrow)
        if same and not await self._carries(address, narrow + 1):
            return narrow
        return await largest(lambda size: self._carries(address, size), most)

    @staticmethod
    def _log_change(address: str, before: int, size: int, most: int) -> None:
        if size < min(before, most):
            _log.warning("network.narrow_path", to=address, carries=size, device=most)
        elif size > before:
            _log.info("network.path_widened", to=address, carries=size)


async def largest(carries: Callable[[int], Awaitable[bool]], most: int) -> int | None:
    """The largest size up to `most` that is carried; None if not even the smallest is."""
    if await carries(most):
        return most
    if not await carries(LEAST):
        return None
    low, high = LEAST, most
    while high - low > 1:
        middle = (low + high) // 2
        if await carries(middle):
            low = middle
        else:
            high = middle
    return low


def answers(source: str, address: str, size: int) -> bool:
    """Whether a host answers an echo of that size, which must not be fragmented. Raises OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
        raw.bind((source, 0))
        return not echo_by(raw, address, size, _PATIENCE_S).error
