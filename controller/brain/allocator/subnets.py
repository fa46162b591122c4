"""Which subnet a network gets, and which part of it is for nodes and services. PURE.

The allocator chooses the lowest subnet of the pools that overlaps neither another network nor a
route of the host. Every error names the conflict.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2s
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from itertools import count

import msgspec

from pyswarm_core.errors import Conflict, Taken, invalid, quoted
from pyswarm_core.limits import BLOCK_PREFIX, NETWORKS_MAX
from pyswarm_core.objects import Network
from pyswarm_core.specs import ipv4_config

SMALLEST_BLOCK = 29
"""Prefix length of the smallest block: five addresses for tasks."""
NOT_FOR_TASKS = 3
"""Of every block: its network address, the bridge's, and broadcast."""
_BLOCKS_MIN = 16


def parse_subnet(text: str) -> IPv4Network:
    """The subnet that a user wrote. Raises InvalidArgument."""
    try:
        subnet = IPv4Network(text)
    except ValueError as error:
        raise invalid("--subnet", text, f"{error}: expected one such as 10.128.0.0/16") from error
    if subnet.prefixlen > SMALLEST_BLOCK:
        reason = f"expected /{SMALLEST_BLOCK} or larger, which leaves addresses for tasks"
        raise invalid("--subnet", text, reason)
    return subnet


def overlap(subnet: IPv4Network, networks: Mapping[str, str], routes: Iterable[str] = ()) -> str:
    """What the subnet overlaps, for people; empty if nothing. `networks` maps names to subnets.

    Default routes do not count.
    """
    if name := _overlapping(subnet, networks):
        return f"network {name} ({networks[name]})"
    for route in routes:
        taken_route = IPv4Network(route, strict=False)
        if taken_route.prefixlen and subnet.overlaps(taken_route):
            return f"a route of the host ({taken_route})"
    return ""


def _overlapping(subnet: IPv4Network, networks: Mapping[str, str]) -> str:
    """The name of a network whose subnet overlaps; empty if there is none."""
    first, last = _span(subnet)
    for name, taken in networks.items():
        other_first, other_last = span_of(taken)
        if other_first <= last and first <= other_last:
            return name
    return ""


def _taken(subnet: object, name: str, other: str) -> Taken:
    """The error about a network whose subnet overlaps; `holder` is its name."""
    hidden = f"subnet {subnet} overlaps that of a network outside your stacks ({other})"
    return Taken(f"subnet {subnet} overlaps network {name} ({other})", name, hidden)


def check_subnet(text: str, networks: Mapping[str, str], routes: Iterable[str] = ()) -> IPv4Network:
    """The subnet if it is free. Raises InvalidArgument or Conflict."""
    subnet = parse_subnet(text)
    if name := _overlapping(subnet, networks):
        raise _taken(subnet, name, networks[name])
    if taken := overlap(subnet, {}, routes):
        raise Conflict(f"subnet {subnet} overlaps {taken}")
    return subnet


def choose_subnet(
    pools: Sequence[str], size: int, networks: Mapping[str, str], routes: Iterable[str] = ()
) -> IPv4Network:
    """The lowest free subnet of that prefix length in the pools. Raises Conflict with numbers."""
    taken = [span_of(subnet) for subnet in networks.values()]
    parsed = [IPv4Network(text, strict=False) for text in routes]
    taken += [_span(route) for route in parsed if route.prefixlen]
    total = 0
    for text in pools:
        pool = IPv4Network(text)
        prefix = max(size, pool.prefixlen)
        total += 1 << (prefix - pool.prefixlen)
        free = next(_free_subnets(pool, prefix, taken), None)
        if free is not None:
            return free
    raise Conflict(
        f"all {total} subnets of /{size} in {', '.join(pools)} are in use by {len(networks)}"
        " networks or routes of the host; remove a network or give one with --subnet"
    )


def check_subnet6(text: str, subnet: IPv4Network, networks: Mapping[str, str]) -> IPv6Network:
    """The IPv6 subnet if it is free and has room for the IPv4 subnet's host numbers.

    `networks` maps names to IPv6 subnets. Raises InvalidArgument or Conflict.
    """
    subnet6 = IPv6Network(text)
    longest = 128 - (32 - subnet.prefixlen)
    if subnet6.prefixlen > longest:
        reason = f"expected /{longest} or larger, for as many hosts as {subnet} has"
        raise invalid("--subnet", text, reason)
    for name, taken in networks.items():
        if subnet6.overlaps(_subnet6(taken)):
            raise _taken(subnet6, name, taken)
    return subnet6


def choose_subnet6(cluster_id: str, vni: int, networks: Mapping[str, str]) -> IPv6Network:
    """A /64 of unique local addresses (RFC 4193), derived from cluster and VNI."""
    taken = [_subnet6(subnet) for subnet in networks.values()]
    for attempt in count():
        seed = f"{cluster_id} {vni} {attempt}".encode()
        high = b"\xfd" + blake2s(seed, digest_size=7, person=b"pyswula").digest()
        subnet6 = IPv6Network((high + bytes(8), 64))
        if not any(subnet6.overlaps(other) for other in taken):
            return subnet6
    raise AssertionError("2^56 subnets are in use")


def _free_subnets(
    pool: IPv4Network, prefix: int, taken: Sequence[tuple[int, int]]
) -> Iterator[IPv4Network]:
    """Free subnets, lowest first; skips taken spans instead of trying every subnet."""
    step = 1 << (32 - prefix)
    address, end = _span(pool)
    for first, last in sorted(span for span in taken if span[0] <= end and address <= span[1]):
        while address + step <= first:
            yield IPv4Network((address, prefix))
            address += step
        if last >= address:
            address = (last // step + 1) * step
    while address + step - 1 <= end:
        yield IPv4Network((address, prefix))
        address += step


@lru_cache(2 * NETWORKS_MAX)
def _subnet6(text: str) -> IPv6Network:
    return IPv6Network(text)


@lru_cache(2 * NETWORKS_MAX)
def span_of(subnet: str) -> tuple[int, int]:
    """A network's first and last address, as numbers. Called for all networks, so it is cached."""
    return _span(IPv4Network(subnet))


def _span(subnet: IPv4Network) -> tuple[int, int]:
    return int(subnet.network_address), int(subnet.broadcast_address)


def block_prefix(subnet: IPv4Network) -> int:
    """Prefix length of a subnet's blocks: BLOCK_PREFIX, or smaller for at least 16."""
    length = subnet.prefixlen + _BLOCKS_MIN.bit_length() - 1
    return max(min(max(BLOCK_PREFIX, length), SMALLEST_BLOCK), subnet.prefixlen)


class Range(msgspec.Struct, frozen=True):
    """The part of a subnet that addresses are taken from, in blocks; 0 is the lowest."""

    cidr: str
    base: int
    """Its first address, as a number."""
    prefix: int
    """Prefix length of its blocks."""
    count: int
    """How many blocks it has."""
    reserved: tuple[int, ...]
    """Addresses that are never allocated: the subnet's first and last, and its gateway."""
    gateway_block: int | None
    """The block that holds the gateway, unless at its first address, which no task gets anyway."""

    def block(self, index: int) -> str:
        """The block of that index."""
        return str(IPv4Network((self.base + (index << (32 - self.prefix)), self.prefix)))

    def index(self, block: str) -> int:
        """The index of that block."""
        return self.index_of(read_block(block)[0])

    def index_of(self, address: int) -> int:
        """The index of the address's block; below 0 or at least `count` if outside the range."""
        return (address - self.base) >> (32 - self.prefix)

    def bit(self, index: int) -> int:
        """The index as a bit; 0 if the range has no such block."""
        return 1 << index if 0 <= index < self.count else 0

    def addresses(self, index: int) -> range:
        """The addresses of the block of that index, as numbers."""
        size = 1 << (32 - self.prefix)
        return range(self.base + index * size, self.base + (index + 1) * size)


def range_of(network: Network) -> Range:
    """Where the network's blocks and virtual addresses come from."""
    config = ipv4_config(network.spec)
    return _range(network.subnet, config.ip_range or network.subnet, config.gateway)


@lru_cache(1 << 12)
def _range(subnet: str, cidr: str, gateway: str) -> Range:
    whole, part = IPv4Network(subnet), IPv4Network(cidr)
    prefix = block_prefix(part)
    base, size = int(part.network_address), 1 << (32 - prefix)
    reserved = [int(whole.network_address), int(whole.broadcast_address)]
    gateway_block = None
    if gateway:
        number = int(IPv4Address(gateway))
        reserved.append(number)
        index, position = divmod(number - base, size)
        if number in range(base, base + part.num_addresses) and position != 1:
            gateway_block = index
    count = 1 << (prefix - part.prefixlen)
    return Range(cidr, base, prefix, count, tuple(reserved), gateway_block)


def read_block(cidr: str) -> tuple[int, int]:
    """A stored block's first address and prefix length. Raises ValueError.

    Called for every block of every network: IPv4Network takes ten times as long.
    """
    address, _, prefix = cidr.partition("/")
    octets = bytes(map(int, address.split(".")))
    if len(octets) != 4 or not 0 <= int(prefix) <= 32:
        raise ValueError(f"block {quoted(cidr)} is not valid: expected one such as 10.128.0.0/26")
    return int.from_bytes(octets), int(prefix)
