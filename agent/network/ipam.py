"""Assigns addresses of this host's blocks to tasks. PURE.

The lowest free address first, but a released address last: connections, ARP entries and conntrack
flows of its former holder must not reach the new one. A block's network, gateway (first) and
broadcast address are never assigned.
"""

from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Network

import msgspec


class Exhausted(msgspec.Struct, frozen=True):
    """No address is free: the blocks and the number of addresses that they hold."""

    blocks: tuple[str, ...]
    size: int

    def __str__(self) -> str:
        where = ", ".join(self.blocks) or "no block"
        return f"no free address: all {self.size} of {where} are in use on this node"


@lru_cache(maxsize=4096)
def gateway(block: str) -> str:
    """The block's first address, IPv4 or IPv6, which its host's bridge has.

    The block is /30 or wider, for IPv6 /126.
    """
    return str(IPv6Network(block)[1] if ":" in block else IPv4Network(block)[1])


def capacity(blocks: tuple[str, ...]) -> int:
    """The number of tasks that the blocks have addresses for."""
    return sum(max(0, IPv4Network(block).num_addresses - 3) for block in blocks)


class Pool:
    """The addresses of one network on this host.

    After a restart, claim the running tasks' addresses with `take`.
    """

    def __init__(self, blocks: tuple[str, ...] = ()) -> None:
        self._blocks: tuple[str, ...] = ()
        self._ranges: tuple[range, ...] = ()
        self._used: set[int] = set()
        # Insertion order is the order of release.
        self._freed: dict[int, None] = {}
        self._lowest = 0
        self.extend(blocks)

    @property
    def blocks(self) -> tuple[str, ...]:
        """The blocks that addresses come from, in the order in which they were granted."""
        return self._blocks

    @property
    def used(self) -> int:
        """The number of addresses that tasks hold."""
        return len(self._used)

    def extend(self, blocks: tuple[str, ...]) -> None:
        """Assign addresses from exactly these blocks from now on.

        Addresses in use outside of them stay in use.
        """
        self._blocks = blocks
        networks = [IPv4Network(block) for block in blocks]
        self._ranges = tuple(
            range(int(net.network_address) + 2, int(net.broadcast_address)) for net in networks
        )
        self._freed = {value: None for value in self._freed if self._owns(value)}
        self._lowest = 0

    def allocate(self) -> str | Exhausted:
        """A free address, held by the caller until `release`."""
        value = self._next()
        if value is None:
            return Exhausted(self._blocks, capacity(self._blocks))
        self._claim(value)
        return str(IPv4Address(value))

    def take(self, address: str) -> bool:
        """Claim this address, for example for an adopted task.

        False if a task holds it already or no block contains it.
        """
        value = int(IPv4Address(address))
        if value in self._used or not self._owns(value):
            return False
        self._claim(value)
        return True

    def release(self, address: str) -> None:
        """Release an address. One that nobody holds is no error."""
        value = int(IPv4Address(address))
        if value in self._used:
            self._used.remove(value)
            if self._owns(value):
                self._freed[value] = None

    def _next(self) -> int | None:
        # Every position below `_lowest` is in use or was released, so the search never starts over.
        position = 0
        for span in self._ranges:
            for value in span[max(0, self._lowest - position) :]:
                if value not in self._used and value not in self._freed:
                    self._lowest = position + value - span.start
                    return value
            position += len(span)
        self._lowest = position
        return next(iter(self._freed), None)

    def _claim(self, value: int) -> None:
        self._used.add(value)
        self._freed.pop(value, None)

    def _owns(self, value: int) -> bool:
        return any(value in span for span in self._ranges)
