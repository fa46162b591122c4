"""Sums over the blocks of a network, kept from decision to decision. PURE (mutable: only `held_of`
changes it).

A network is immutable, and its next version differs in a few blocks: only these are read.
"""

from controller.brain.allocator.subnets import NOT_FOR_TASKS, Range, range_of, read_block
from pyswarm_core.indexes.tasks import changed_blocks
from pyswarm_core.objects import Block, Network
from pyswarm_core.state import State


class Held:
    """A network's blocks that nodes have."""

    def __init__(self, span: Range) -> None:
        self.span = span
        self.used = 0
        """Bit i is set if a node has the block of index i."""
        self.times: dict[int, int] = {}
        """How many nodes hold each index: one, unless there is a duplicate allocation."""
        self.room: dict[int, int] = {}
        """Addresses for tasks, by their node's number."""
        self._blocks: tuple[Block, ...] = ()

    def follow(self, blocks: tuple[Block, ...]) -> None:
        """Update to these blocks. Raises ValueError and changes nothing if one is unreadable."""
        if blocks is self._blocks:
            return
        changed = changed_blocks(self._blocks, blocks)
        gone, came = ([(*self._read(block), block.node_number) for block in of] for of in changed)
        for index, room, number in gone:
            _add(self.times, index, -1)
            _add(self.room, number, -room)
            if index not in self.times:
                self.used &= ~self.span.bit(index)
        for index, room, number in came:
            _add(self.times, index, 1)
            _add(self.room, number, room)
            self.used |= self.span.bit(index)
        self._blocks = blocks

    def _read(self, block: Block) -> tuple[int, int]:
        """Its index and its addresses for tasks."""
        first, prefix = read_block(block.cidr)
        return self.span.index_of(first), (1 << (32 - prefix)) - NOT_FOR_TASKS


def held_of(network: Network, state: State) -> Held:
    """The sums over the network's blocks. Costs what changed since the last call."""
    derived, span = state.idle_blocks.derived, range_of(network)
    held = derived.get(network.id)
    if not isinstance(held, Held) or held.span != span:
        held = derived[network.id] = Held(span)
    held.follow(network.blocks)
    return held


def _add(counts: dict[int, int], key: int, count: int) -> None:
    left = counts.get(key, 0) + count
    if left:
        counts[key] = left
    else:
        counts.pop(key, None)
