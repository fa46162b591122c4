"""Which nodes have which blocks of a network. PURE.

A node gets a block when its first task of the network is assigned, and another when its tasks
outnumber the addresses it has. It keeps them while it may still run one of them: a block is given
back when its node has none and says so (it is ready), or was removed. A block that holds a virtual
address or the network's gateway is nobody's. However many addresses there are, a node takes no more
tasks of a network than a bridge has ports.
"""

from collections.abc import Callable
from functools import cached_property, lru_cache
from ipaddress import IPv4Network

import numpy as np
from msgspec.structs import replace

from controller.allocator.subnets import addresses_for_tasks, range_of
from pyswarm_core.clock import Instant
from pyswarm_core.ids import NodeId
from pyswarm_core.limits import BRIDGE_PORTS, NETWORK_BLOCKS_MAX
from pyswarm_core.nodetable import IntColumn, NodeTable
from pyswarm_core.objects import Block, Network
from pyswarm_core.state import State

Room = tuple[str, IntColumn]
"""What is said of rows without room, and how many more tasks each row can take."""


class Blocks:
    """One network's blocks during one decision.

    Begins by giving back the blocks that no node needs.
    """

    def __init__(self, network: Network, state: State) -> None:
        self.network = network
        self._range = range_of(network)
        self._load = state.network_load.get(network.id, {})
        self._virtual_ips = state.virtual_ips.get(network.id, {})
        self._idle = state.idle_blocks.networks.get(network.id, {})
        self._added: dict[NodeId, int] = {}
        self._lowest = 0
        self._changed = bool(self._idle)

    # What every block says is read when first asked for: most decisions ask nothing.

    @cached_property
    def _blocks(self) -> list[Block]:
        return [block for block in self.network.blocks if block.node_number not in self._idle]

    @cached_property
    def _used(self) -> dict[int, None]:
        return dict.fromkeys([self._range.index(block.cidr) for block in self._blocks])

    @cached_property
    def _room(self) -> dict[int, int]:
        """Addresses by the number of the node that has them."""
        room: dict[int, int] = {}
        for block in self._blocks:
            room[block.node_number] = room.get(block.node_number, 0) + _room(block.cidr)
        return room

    @cached_property
    def _given_back(self) -> dict[int, int]:
        """By node, the block that it had."""
        return {
            block.node_number: self._range.index(block.cidr)
            for block in self.network.blocks
            if block.node_number in self._idle
        }

    @cached_property
    def _crowded(self) -> bool:
        """Whether a node has as many tasks as its bridge has ports."""
        return max(self._load.values(), default=0) >= BRIDGE_PORTS

    @property
    def exhausted(self) -> bool:
        """Whether every block is given out, or as many as a stored network can have."""
        used = len(self._used)
        return used + len(self._closed) >= self._range.count or used >= NETWORK_BLOCKS_MAX

    @cached_property
    def _closed(self) -> dict[int, None]:
        """Blocks that no node can get; none of them is in use."""
        span = self._range
        base, shift = span.base, 32 - span.prefix
        closed = dict.fromkeys((address - base) >> shift for address in self._virtual_ips)
        closed = {index: None for index in closed if 0 <= index < span.count}
        if span.gateway_block is not None:
            closed[span.gateway_block] = None
        return {index: None for index in closed if index not in self._used}

    def held(self, node_id: NodeId) -> int:
        """Addresses that the node's tasks hold, after what this decision placed."""
        return self._load.get(node_id, 0) + self._added.get(node_id, 0)

    def fits(self, node_id: NodeId, number: int) -> bool:
        """Whether one more task of the node can have an address, and a port of its bridge."""
        held = self.held(node_id)
        return held < BRIDGE_PORTS and (not self.exhausted or held < self._room.get(number, 0))

    def take(self, node_id: NodeId, number: int) -> None:
        """One more task of the network on that node. Call only if it `fits`."""
        self._added[node_id] = self._added.get(node_id, 0) + 1
        self._crowded = self._crowded or self.held(node_id) >= BRIDGE_PORTS
        if self.held(node_id) <= self._room.get(number, 0):
            return
        cidr = self._range.block(self._free_index(number))
        self._grant(Block(cidr=cidr, node_number=number))
        self._changed = True

    def rooms(self, table: NodeTable) -> list[Room]:
        """What narrows where tasks can go: addresses once the last block is given out, ports of
        bridges once a node has used all of them.
        """
        name, rooms = self.network.spec.name, []
        if self.exhausted:
            text = f"have no address left on network {name}, all of whose blocks are in use"
            rooms.append((text, self._left(table, lambda number: self._room.get(number, 0))))
        if self._crowded:
            text = f"run {BRIDGE_PORTS} tasks of network {name}, the most that a host carries"
            rooms.append((text, self._left(table, lambda _: BRIDGE_PORTS)))
        return rooms

    def _left(self, table: NodeTable, most: Callable[[int], int]) -> IntColumn:
        left = np.zeros(len(table.number), np.int64)
        for node_id, row in table.rows.items():
            room = most(int(table.number[row]))
            if room:
                left[row] = room - self.held(node_id)
        return left

    def result(self, now: Instant) -> Network | None:
        """The network as it will be; None if nothing changed."""
        if not self._changed:
            return None
        blocks = tuple(self._blocks)
        if sorted(blocks, key=_by_cidr) == sorted(self.network.blocks, key=_by_cidr):
            return None
        return replace(self.network, blocks=blocks, updated_at=now)

    def _free_index(self, number: int) -> int:
        """The block that the node just gave back, else the lowest free one."""
        index = self._given_back.pop(number, None)
        if index is not None and index not in self._used and index not in self._closed:
            return index
        while self._lowest in self._used or self._lowest in self._closed:
            self._lowest += 1
        return self._lowest

    def _grant(self, block: Block) -> None:
        number, used, room = block.node_number, self._used, self._room
        self._blocks.append(block)
        used[self._range.index(block.cidr)] = None
        room[number] = room.get(number, 0) + _room(block.cidr)


@lru_cache(1 << 16)
def _room(cidr: str) -> int:
    """Addresses for tasks: asked for every block in every decision."""
    return addresses_for_tasks(IPv4Network(cidr))


def _by_cidr(block: Block) -> str:
    return block.cidr
