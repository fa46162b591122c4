"""The addresses that this host's tasks hold on its networks. PURE (mutable)."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain
from types import MappingProxyType
from typing import NamedTuple

from agent.network.ipam import Exhausted, Pool
from pyswarm_core.ids import NetworkId, TaskId
from pyswarm_core.objects import TaskAddress

NONE_CHOSEN: Mapping[NetworkId, str] = MappingProxyType({})


class NoAddressFree(NamedTuple):
    """A network without a free address, and the state of its blocks."""

    network_id: NetworkId
    why: Exhausted


class AddressTaken(NamedTuple):
    """A network on which a task cannot have the address that it must have."""

    network_id: NetworkId
    why: str


class Addresses:
    """One pool per network, and the addresses that each task holds."""

    def __init__(self) -> None:
        self._pools: dict[NetworkId, Pool] = {}
        self._held: dict[TaskId, tuple[TaskAddress, ...]] = {}

    def of(self, task_id: TaskId) -> tuple[TaskAddress, ...]:
        """The task's addresses; empty if it has none."""
        return self._held.get(task_id, ())

    def grant(self, network_id: NetworkId, blocks: tuple[str, ...]) -> None:
        """Assign addresses of the network from exactly these blocks from now on."""
        known = network_id in self._pools
        pool = self._pools.setdefault(network_id, Pool())
        pool.extend(blocks)
        if not known:
            # After a power loss the file of networks may be missing while tasks' addresses are
            # known.
            for address in chain.from_iterable(self._held.values()):
                if address.network_id == network_id:
                    pool.take(address.address)

    def adopt(self, task_id: TaskId, addresses: tuple[TaskAddress, ...]) -> None:
        """Record the addresses of a task that an earlier agent started."""
        for address in addresses:
            if pool := self._pools.get(address.network_id):
                pool.take(address.address)
        self._held[task_id] = addresses

    def allocate(
        self,
        task_id: TaskId,
        networks: Sequence[NetworkId],
        chosen: Mapping[NetworkId, str] = NONE_CHOSEN,
        kept: Collection[tuple[NetworkId, str]] = (),
    ) -> tuple[TaskAddress, ...] | NoAddressFree | AddressTaken:
        """One address on each of these networks: the one that the task holds, unless another one is
        `chosen`. What it holds besides stays its own until `keep`. If a network has none left, or
        the chosen one is not free, return that network; the task then holds what it held. The
        `kept` ones only a task that chose them gets.
        """
        held = self._held.get(task_id, ())
        found, given = [], list[TaskAddress]()
        for network_id in networks:
            address = chosen.get(network_id)
            has = [a for a in held if a.network_id == network_id and address in (None, a.address)]
            if not has:
                new = self._allocate(network_id, address, kept)
                if not isinstance(new, TaskAddress):
                    self._release(given)
                    return new
                given.append(new)
                has = [new]
            found.append(has[0])
        self._held[task_id] = (*found, *[a for a in held if a not in found])
        return tuple(found)

    def _allocate(
        self, network_id: NetworkId, chosen: str | None, kept: Collection[tuple[NetworkId, str]]
    ) -> TaskAddress | NoAddressFree | AddressTaken:
        pool = self._pools.get(network_id, Pool())
        if chosen is not None:
            if not pool.take(chosen):
                return AddressTaken(network_id, self._holder(network_id, chosen, pool))
            return TaskAddress(network_id=network_id, address=chosen)
        found = _allocated(pool, [address for of, address in kept if of == network_id])
        if isinstance(found, Exhausted):
            return NoAddressFree(network_id, found)
        return TaskAddress(network_id=network_id, address=found)

    def keep(self, task_id: TaskId, addresses: Sequence[TaskAddress]) -> bool:
        """Release the task's other addresses. Returns whether there were any."""
        others = [a for a in self._held.get(task_id, ()) if a not in addresses]
        if others:
            self._release(others)
            self._held[task_id] = tuple(addresses)
        return bool(others)

    def is_held(self, task_id: TaskId, addresses: Mapping[NetworkId, str]) -> bool:
        """Whether another task holds one of these addresses."""
        return any(
            addresses.get(one.network_id) == one.address
            for holder, held in self._held.items() if holder != task_id
            for one in held
        )  # fmt: skip

    def release(self, task_id: TaskId) -> None:
        """Release the task's addresses. An unknown task is no error."""
        self._release(self._held.pop(task_id, ()))

    def used(self, network_id: NetworkId) -> bool:
        """Whether a task holds an address of the network."""
        pool = self._pools.get(network_id)
        return pool is not None and bool(pool.used)

    def drop(self, network_id: NetworkId) -> None:
        """Remove the network's pool."""
        self._pools.pop(network_id, None)

    def _holder(self, network_id: NetworkId, address: str, pool: Pool) -> str:
        wanted = TaskAddress(network_id=network_id, address=address)
        for task_id, held in self._held.items():
            if wanted in held:
                return f"address {address} is that of task {task_id}"
        blocks = ", ".join(pool.blocks) or "none"
        return f"address {address} is in none of this node's blocks ({blocks})"

    def _release(self, addresses: Iterable[TaskAddress]) -> None:
        for address in addresses:
            if pool := self._pools.get(address.network_id):
                pool.release(address.address)


def _allocated(pool: Pool, kept: Iterable[str]) -> str | Exhausted:
    """A free address of the pool that is not one of these."""
    held = [address for address in kept if pool.take(address)]
    found = pool.allocate()
    for address in held:
        pool.release(address)
    return found
