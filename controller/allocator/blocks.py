"""Which nodes have which blocks of a network. PURE.

A node gets a block when its first task of the network is assigned, and another when its tasks
outnumber the addresses it has. It keeps them while it may still run one of them: a block is given
back when its node has none and says so (it is ready), or was removed.
"""

from collections.abc import Mapping
from ipaddress import IPv4Network

import numpy as np
from msgspec.structs import replace

from controller.allocator.subnets import addresses_for_tasks, block_prefix
from pyswarm_core.clock import Instant
from pyswarm_core.ids import NodeId
from pyswarm_core.nodetable import IntColumn, NodeTable
from pyswarm_core.objects import Block, Network

UNBOUNDED = 1 << 40


class Blocks:
    """One network's blocks during one decision. `load`: tasks that hold an address, by node."""

    def __init__(self, network: Network, load: Mapping[NodeId, int]) -> None:
        self.network = network
        self._subnet = IPv4Network(network.subnet)
        self._prefix = block_prefix(self._subnet)
        self._step = 1 << (32 - self._prefix)
        self._load = load
        self._added: dict[NodeId, int] = {}
        self._blocks = list(network.blocks)
        self._room: dict[int, int] = {}
        base = int(self._subnet.network_address)
        self._used: dict[int, None] = {}
        for block in network.blocks:
            cidr = IPv4Network(block.cidr)
            self._grant(block.node_number, cidr)
            self._used[(int(cidr.network_address) - base) // self._step] = None
        self._lowest = 0
        self._changed = False

    @property
    def count(self) -> int:
        """Blocks that the subnet has in all."""
        return 1 << (self._prefix - self._subnet.prefixlen)

    @property
    def exhausted(self) -> bool:
        """Whether every block is given out."""
        return len(self._used) >= self.count

    def held(self, node_id: NodeId) -> int:
        """Addresses that the node's tasks hold, after what this decision placed."""
        return self._load.get(node_id, 0) + self._added.get(node_id, 0)

    def fits(self, node_id: NodeId, number: int) -> bool:
        """Whether one more task of the node can have an address."""
        return not self.exhausted or self.held(node_id) < self._room.get(number, 0)

    def take(self, node_id: NodeId, number: int) -> None:
        """One more task of the network on that node. Call only if it `fits`."""
        self._added[node_id] = self._added.get(node_id, 0) + 1
        if self.held(node_id) <= self._room.get(number, 0):
            return
        while self._lowest in self._used:
            self._lowest += 1
        address = int(self._subnet.network_address) + self._lowest * self._step
        cidr = IPv4Network((address, self._prefix))
        self._used[self._lowest] = None
        self._blocks.append(Block(cidr=str(cidr), node_number=number))
        self._grant(number, cidr)
        self._changed = True

    def rooms(self, table: NodeTable) -> IntColumn | None:
        """By row, how many more tasks can have an address; None while there are blocks left."""
        if not self.exhausted:
            return None
        rooms = np.zeros(len(table.number), np.int64)
        for node_id, row in table.rows.items():
            room = self._room.get(int(table.number[row]), 0)
            if room:
                rooms[row] = room - self.held(node_id)
        return rooms

    def release(self, node_of_number: Mapping[int, NodeId], table: NodeTable) -> None:
        """Give back the blocks that no node needs."""
        kept = [block for block in self._blocks if self._needed(block, node_of_number, table)]
        if len(kept) != len(self._blocks):
            self._blocks = kept
            self._changed = True

    def result(self, now: Instant) -> Network | None:
        """The network as it will be; None if nothing changed."""
        if not self._changed:
            return None
        return replace(self.network, blocks=tuple(self._blocks), updated_at=now)

    def _grant(self, number: int, cidr: IPv4Network) -> None:
        self._room[number] = self._room.get(number, 0) + addresses_for_tasks(cidr)

    def _needed(self, block: Block, node_of_number: Mapping[int, NodeId], table: NodeTable) -> bool:
        node_id = node_of_number.get(block.node_number)
        if node_id is None:
            return False
        return self.held(node_id) > 0 or not table.ready[table.rows[node_id]]
