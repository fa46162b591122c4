"""What the blocks of a network come to, kept from decision to decision. PURE (mutable: `held_of`
alone changes it).

A network is immutable, and the next one differs from it in a few blocks: only these are read.
"""

from controller.brain.allocator.subnets import NOT_FOR_TASKS, Range, range_of, read_block
from pyswarm_core.indexes.tasks import changed_blocks
from pyswarm_core.objects import Block, Network
from pyswarm_core.state import State


class Held:
    """The blocks that nodes have of a network."""

    def __init__(self, span: Range) -> None:
        self.span = span
        self.used = 0
        """Bit i is set if a node has the block of index i."""
        self.times: dict[int, int] = {}
        """How many hold each index: one, unless what was loaded is wrong."""
        self.room: dict[int, int] = {}
        """Addresses for tasks by the number of the node that has them."""
        self._blocks: tuple[Block, ...] = ()

    def follow(self, blocks: tuple[Block, ...]) -> None:
        """The blocks are these now. Raises ValueError, and stays as it is, if one is unreadable."""
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
    """What the blocks of the network come to. Costs what changed since it was last asked for."""
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
