"""Which nodes have which blocks of a network. PURE.

A node gets a block when its first task on the network is assigned, and another when its tasks
outnumber its addresses. The allocator takes a block back when its node has no task on the network
and is ready, or was removed. No node gets a block that holds a virtual address or the network's
gateway. A task with a chosen address runs on the node that has its block; one that no node has goes
to the node that gets the task. A node takes no more tasks of a network than a bridge has ports,
however many addresses there are.
"""

from collections import Counter
from functools import cached_property
from ipaddress import IPv4Address

import numpy as np
from msgspec.structs import replace

from controller.brain.allocator.held import Held, held_of
from controller.brain.allocator.subnets import NOT_FOR_TASKS, range_of, read_block
from pyswarm_core.clock import Instant
from pyswarm_core.ids import NodeId
from pyswarm_core.indexes.nodes import IntColumn, NodeTable
from pyswarm_core.limits import BRIDGE_PORTS, NETWORK_BLOCKS_MAX
from pyswarm_core.objects import Block, Network
from pyswarm_core.state import State

Room = tuple[str, IntColumn]
"""The text for rows without room, and how many more tasks each row can take."""


class Blocks:
    """One network's blocks during one decision. Idle blocks count as free from the beginning."""

    def __init__(self, network: Network, state: State) -> None:
        self.network = network
        self._state = state
        self._range = range_of(network)
        self._load = state.network_load.get(network.id, {})
        self._virtual_ips = state.virtual_ips.get(network.id, {})
        self._idle = state.idle_blocks.networks.get(network.id, {})
        self._added: dict[NodeId, int] = {}
        self._granted: list[Block] = []
        self._granted_room: dict[int, int] = {}

    # These are computed at first use: most decisions use none of them.

    @cached_property
    def _held(self) -> Held:
        return held_of(self.network, self._state)

    @cached_property
    def _returned(self) -> list[Block]:
        """The blocks that the allocator takes back."""
        of_number = self._state.idle_blocks.of_network(self.network.id)
        return [
            Block(cidr=cidr, node_number=number)
            for number in self._idle
            for cidr in of_number.get(number, ())
        ]

    @cached_property
    def _returned_indexes(self) -> list[int]:
        """The indexes that no node has once these blocks are taken back."""
        times = self._held.times
        indexes = Counter(self._range.index(block.cidr) for block in self._returned)
        return [index for index, count in indexes.items() if times.get(index) == count]

    @cached_property
    def _used(self) -> int:
        """Bit i is set if a node has the block of index i."""
        used = self._held.used
        for index in self._returned_indexes:
            used &= ~self._range.bit(index)
        return used

    def _room(self, number: int) -> int:
        """Addresses that the node of that number has."""
        kept = 0 if number in self._idle else self._held.room.get(number, 0)
        return kept + self._granted_room.get(number, 0)

    @cached_property
    def _given_back(self) -> dict[int, int]:
        """By node, the index of the block that it had."""
        return {block.node_number: self._range.index(block.cidr) for block in self._returned}

    @cached_property
    def _crowded(self) -> bool:
        """Whether a node has as many tasks as its bridge has ports."""
        return max(self._load.values(), default=0) >= BRIDGE_PORTS

    @property
    def exhausted(self) -> bool:
        """Whether every block is allocated, or as many as a stored network can have."""
        used = len(self._held.times) - len(self._returned_indexes) + len(self._granted)
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
        return {index: None for index in closed if not self._used & span.bit(index)}

    @cached_property
    def _closed_bits(self) -> int:
        return sum(self._range.bit(index) for index in self._closed)

    def held(self, node_id: NodeId) -> int:
        """The addresses that the node's tasks hold, with those that this decision placed."""
        return self._load.get(node_id, 0) + self._added.get(node_id, 0)

    def fits(self, node_id: NodeId, number: int, freed: int = 0, address: str = "") -> bool:
        """Whether one more task of the node can have an address (the given one, if it is not empty)
        and a port of its bridge, after `freed` of its tasks have ended.
        """
        held = self.held(node_id) - freed
        if held >= BRIDGE_PORTS or (self.exhausted and held >= self._room(number)):
            return False
        return not address or self._may_have(number, self._index_of(address))

    def take(self, node_id: NodeId, number: int, address: str = "") -> None:
        """One more task of the network on that node. Call only if it `fits`."""
        self._added[node_id] = self._added.get(node_id, 0) + 1
        self._crowded = self._crowded or self.held(node_id) >= BRIDGE_PORTS
        if address and not self._owners(index := self._index_of(address)):
            self._grant(Block(cidr=self._range.block(index), node_number=number))
        if self.held(node_id) <= self._room(number):
            return
        cidr = self._range.block(self._free_index(number))
        self._grant(Block(cidr=cidr, node_number=number))

    def cover(self, node_id: NodeId, number: int, address: str = "") -> None:
        """A task of the node, which is counted, joined the network while it runs: give the node the
        block of its address, or one if its tasks outnumber its addresses. Without a free block its
        agent refuses the change.
        """
        index = self._index_of(address) if address else -1
        if address and not self._owners(index) and self._may_have(number, index):
            self._grant(Block(cidr=self._range.block(index), node_number=number))
        if self.held(node_id) > self._room(number) and not self.exhausted:
            cidr = self._range.block(self._free_index(number))
            self._grant(Block(cidr=cidr, node_number=number))

    def rooms(self, table: NodeTable, address: str = "") -> list[Room]:
        """What limits the nodes for more tasks: addresses, once the last block is allocated; ports
        of bridges, once a node has used all of them; whose block has the `address`.
        """
        name, rooms = self.network.spec.name, []
        if address:
            owners = self._owners(self._index_of(address))
            may = self._may_have(-1, self._index_of(address))
            had = np.isin(table.number, owners) if owners else np.full(len(table.number), may)
            text = f"do not have the block of address {address} on network {name}"
            rooms.append((text, np.where(had, BRIDGE_PORTS, 0)))
        if self.exhausted:
            text = f"have no address left on network {name}, all of whose blocks are in use"
            of_number = self._rooms_by_number().get
            room = [of_number(number, 0) for number in table.number.tolist()]
            rooms.append((text, self._left(table, np.array(room, np.int64))))
        if self._crowded:
            text = f"run {BRIDGE_PORTS} tasks of network {name}, the most that a host carries"
            rooms.append((text, self._left(table, np.full(len(table.number), BRIDGE_PORTS))))
        return rooms

    def _index_of(self, address: str) -> int:
        return self._range.index_of(int(IPv4Address(address)))

    def _owners(self, index: int) -> list[int]:
        """The numbers of the nodes that have the block, after this decision."""
        blocks = [b for b in self.network.blocks if b.node_number not in self._idle]
        owned = [b for b in (*blocks, *self._granted) if self._range.index(b.cidr) == index]
        return [block.node_number for block in owned]

    def _may_have(self, number: int, index: int) -> bool:
        """Whether the node has the block, or can get it."""
        if owners := self._owners(index):
            return number in owners
        return 0 <= index < self._range.count and index not in self._closed

    def _rooms_by_number(self) -> dict[int, int]:
        changed = {number: self._room(number) for number in (*self._idle, *self._granted_room)}
        return {**self._held.room, **changed} if changed else self._held.room

    def _left(self, table: NodeTable, room: IntColumn) -> IntColumn:
        """The rest of each row's room; 0 for a row without a node or without room."""
        row_of, left = table.rows.get, np.zeros(len(room), np.int64)
        rows = np.fromiter(table.rows.values(), np.int64)
        left[rows] = room[rows]
        for held in (self._load, self._added):
            at = np.array([row_of(node_id, -1) for node_id in held], np.int64)
            counts = np.fromiter(held.values(), np.int64)
            left[at[at >= 0]] -= counts[at >= 0]
        left[room == 0] = 0
        return left

    def result(self, now: Instant) -> Network | None:
        """The network as it will be; None if nothing changed."""
        if not (self._idle or self._granted) or Counter(self._returned) == Counter(self._granted):
            return None
        kept = [block for block in self.network.blocks if block.node_number not in self._idle]
        return replace(self.network, blocks=(*kept, *self._granted), updated_at=now)

    def _free_index(self, number: int) -> int:
        """The index of the block just taken back from the node, else the lowest free one."""
        taken = self._used | self._closed_bits
        bit = self._range.bit(self._given_back.pop(number, -1))
        if not bit or bit & taken:
            bit = ~taken & (taken + 1)
        return bit.bit_length() - 1

    def _grant(self, block: Block) -> None:
        number, (first, prefix) = block.node_number, read_block(block.cidr)
        room = (1 << (32 - prefix)) - NOT_FOR_TASKS
        self._granted.append(block)
        self._used |= self._range.bit(self._range.index_of(first))
        self._granted_room[number] = self._granted_room.get(number, 0) + room
