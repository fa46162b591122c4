"""Which subnet a network gets, and which of its blocks. PURE.

A chosen subnet is the lowest of the pools that overlaps neither another network nor a route of the
host. Every refusal says what is in the way.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv4Network

from pyswarm_core.errors import Conflict, InvalidArgument
from pyswarm_core.limits import BLOCK_PREFIX

SMALLEST_BLOCK = 29
"""Prefix length of the smallest block: five addresses for tasks."""
NOT_FOR_TASKS = 3
"""Of every block: its network address, the bridge's, and broadcast."""
_BLOCKS_WANTED = 16


def parse_subnet(text: str) -> IPv4Network:
    """The subnet that a user wrote. Raises InvalidArgument."""
    try:
        subnet = IPv4Network(text)
    except ValueError as error:
        raise InvalidArgument(f"subnet {text!r}: {error}; write it as 10.128.0.0/16") from error
    if subnet.prefixlen > SMALLEST_BLOCK:
        raise InvalidArgument(
            f"subnet {text!r}: too small, at most /{SMALLEST_BLOCK} leaves addresses for tasks"
        )
    return subnet


def overlap(subnet: IPv4Network, networks: Mapping[str, str], routes: Iterable[str] = ()) -> str:
    """What the subnet overlaps, for people; empty if nothing. `networks` maps names to subnets.

    A default route is in nobody's way.
    """
    for name, taken in networks.items():
        if subnet.overlaps(IPv4Network(taken)):
            return f"network {name} ({taken})"
    for route in routes:
        taken_route = IPv4Network(route, strict=False)
        if taken_route.prefixlen and subnet.overlaps(taken_route):
            return f"a route of the host ({taken_route})"
    return ""


def check_subnet(text: str, networks: Mapping[str, str], routes: Iterable[str] = ()) -> IPv4Network:
    """The subnet if it is free. Raises InvalidArgument or Conflict."""
    subnet = parse_subnet(text)
    taken = overlap(subnet, networks, routes)
    if taken:
        raise Conflict(f"subnet {subnet} overlaps {taken}")
    return subnet


def choose_subnet(
    pools: Sequence[str], size: int, networks: Mapping[str, str], routes: Iterable[str] = ()
) -> IPv4Network:
    """The lowest free subnet of that prefix length in the pools. Raises Conflict with numbers."""
    taken = [IPv4Network(subnet) for subnet in networks.values()]
    taken += [route for text in routes if (route := IPv4Network(text, strict=False)).prefixlen]
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


def _free_subnets(
    pool: IPv4Network, prefix: int, taken: Sequence[IPv4Network]
) -> Iterator[IPv4Network]:
    """Free subnets, lowest first; jumps over what is taken instead of trying every candidate."""
    step = 1 << (32 - prefix)
    address, end = int(pool.network_address), int(pool.broadcast_address)
    within = sorted(
        (int(net.network_address), int(net.broadcast_address))
        for net in taken
        if net.overlaps(pool)
    )
    for first, last in within:
        while address + step <= first:
            yield IPv4Network((address, prefix))
            address += step
        if last >= address:
            address = (last // step + 1) * step
    while address + step - 1 <= end:
        yield IPv4Network((address, prefix))
        address += step


def block_prefix(subnet: IPv4Network) -> int:
    """Prefix length of a subnet's blocks: BLOCK_PREFIX, or smaller so that 16 nodes find room."""
    wanted = subnet.prefixlen + _BLOCKS_WANTED.bit_length() - 1
    return max(min(max(BLOCK_PREFIX, wanted), SMALLEST_BLOCK), subnet.prefixlen)


def addresses_for_tasks(block: IPv4Network) -> int:
    """How many tasks one block has addresses for."""
    return block.num_addresses - NOT_FOR_TASKS
