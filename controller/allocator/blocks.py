"""Which nodes have which blocks of a network. PURE.

A node gets a block when its first task of the network is assigned, and another when its tasks
outnumber the addresses it has. It keeps them while it may still run one of them: a block is given
back when its node has none and says so (it is ready), or was removed.
"""

from collections.abc import Mapping
from functools import lru_cache
from ipaddress import IPv4Network

import numpy as np
from msgspec.structs import replace

from controller.allocator.subnets import addresses_for_tasks, block_prefix
from pyswarm_core.clock import Instant
from pyswarm_core.ids import NodeId
from pyswarm_core.nodetable import IntColumn, NodeTable
from pyswarm_core.objects import Block, Network


class Blocks:
    """One network's blocks during one decision. `load`: tasks that hold an address, by node.

    Begins by giving back the blocks that no node needs.
    """

    def __init__(
        self,
        network: Network,
        load: Mapping[NodeId, int],
        node_of_number: Mapping[int, NodeId],
        table: NodeTable,
    ) -> None:
        self.network = network
        self._subnet = IPv4Network(network.subnet)
        self._base = int(self._subnet.network_address)
        self._prefix = block_prefix(self._subnet)
        self._load = load
        self._added: dict[NodeId, int] = {}
        self._blocks: list[Block] = []
        self._room: dict[int, int] = {}
        self._used: dict[int, None] = {}
        self._given_back: dict[int, int] = {}
        self._lowest = 0
        self._changed = False
        for block in network.blocks:
            node_id = node_of_number.get(block.node_number)
            if node_id and (load.get(node_id) or not table.ready[table.rows[node_id]]):
                self._grant(block)
            else:
                self._given_back[block.node_number] = self._index(block)
                self._changed = True

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
        address = self._base + self._free_index(number) * (1 << (32 - self._prefix))
        cidr = str(IPv4Network((address, self._prefix)))
        self._grant(Block(cidr=cidr, node_number=number))
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

    def result(self, now: Instant) -> Network | None:
        """The network as it will be; None if nothing changed."""
        blocks = tuple(self._blocks)
        if not self._changed or sorted(blocks, key=_by_cidr) == sorted(
            self.network.blocks, key=_by_cidr
        ):
            return None
        return replace(self.network, blocks=blocks, updated_at=now)

    def _free_index(self, number: int) -> int:
        """The block that the node just gave back, else the lowest free one."""
        index = self._given_back.pop(number, None)
        if index is not None and index not in self._used:
            return index
        while self._lowest in self._used:
            self._lowest += 1
        return self._lowest

    def _grant(self, block: Block) -> None:
        number = block.node_number
        self._blocks.append(block)
        self._used[self._index(block)] = None
        self._room[number] = self._room.get(number, 0) + _span(block.cidr)[1]

    def _index(self, block: Block) -> int:
        return (_span(block.cidr)[0] - self._base) >> (32 - self._prefix)


@lru_cache(1 << 16)
def _span(cidr: str) -> tuple[int, int]:
    """(first address, addresses for tasks): asked for every block in every decision."""
    network = IPv4Network(cidr)
    return int(network.network_address), addresses_for_tasks(network)


def _by_cidr(block: Block) -> str:
    return block.cidr
