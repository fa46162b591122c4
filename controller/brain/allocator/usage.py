"""How much of a network is allocated. PURE."""

from collections.abc import Iterable
from typing import NamedTuple

from controller.brain.allocator.subnets import range_of
from pyswarm_core.objects import Network


class Usage(NamedTuple):
    """A network's blocks and addresses, each counted once."""

    blocks_of_nodes: int
    blocks_of_services: int
    """Blocks that no node can get: they hold a virtual address or the gateway."""
    blocks_free: int
    tasks: int
    """Addresses that tasks hold."""
    services: int
    """Virtual addresses."""


def usage(network: Network, load: Iterable[int], virtual_ips: Iterable[int]) -> Usage:
    """What nodes, tasks and services hold. `load`: the number of tasks on each node."""
    span = range_of(network)
    held = {span.index(block.cidr) for block in network.blocks}
    addresses = list(virtual_ips)
    shift = 32 - span.prefix
    closed = {(address - span.base) >> shift for address in addresses}
    if span.gateway_block is not None:
        closed.add(span.gateway_block)
    closed = {index for index in closed - held if 0 <= index < span.count}
    free = max(0, span.count - len(held) - len(closed))
    return Usage(len(held), len(closed), free, sum(load), len(addresses))
