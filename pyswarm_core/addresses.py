"""The IPv6 address that belongs to an IPv4 address of a dual-stack network. PURE.

A network's addresses are allocated once, as IPv4; host n of the IPv4 subnet is host n of the IPv6
subnet. Blocks, virtual addresses and tasks' addresses therefore need no second allocator, and each
address follows from the other.
"""

from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network


def address6(subnet: str, subnet6: str, address: str) -> str:
    """The IPv6 address that belongs to `address` of `subnet`."""
    first, first6 = _first(subnet, subnet6)
    return str(IPv6Address(first6 + int(IPv4Address(address)) - first))


def address4(subnet: str, subnet6: str, address: str) -> str:
    """The IPv4 address that belongs to `address` of `subnet6`. Raises ValueError if it is that of
    no host of `subnet`.
    """
    first, first6 = _first(subnet, subnet6)
    return str(IPv4Address(first + int(IPv6Address(address)) - first6))


def packed6(subnet: str, subnet6: str, packed: bytes) -> bytes:
    """The same for packed addresses: four bytes to sixteen."""
    first, first6 = _first(subnet, subnet6)
    return (first6 + int.from_bytes(packed) - first).to_bytes(16)


def block6(subnet: str, subnet6: str, block: str) -> str:
    """The IPv6 block that belongs to `block` of `subnet`: `10.128.0.64/26` has a /122."""
    address, _, prefix = block.partition("/")
    return f"{address6(subnet, subnet6, address)}/{96 + int(prefix)}"


@lru_cache(maxsize=1024)
def _first(subnet: str, subnet6: str) -> tuple[int, int]:
    return int(IPv4Network(subnet).network_address), int(IPv6Network(subnet6).network_address)
