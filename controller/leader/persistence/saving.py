"""Saves what the store does not have yet. SHELL over the store.

Saving is level-triggered: `Unsaved` holds names, and a request is made from the current state of
them (gone means delete), so that changes coalesce and nothing older overwrites newer data. Every
transaction compares the leader key's revision, the fence. After an ambiguous outcome the fence is
moved first: a transaction that is still in flight then fails.

The audit records of a change are in the transaction of the object that it changed.

A transaction is split before it exceeds its limits. An object that cannot be encoded, or that is
too large for the store, keeps its last stored version, and is named in what `save` returns.
"""

import asyncio
from collections.abc import Awaitable, Callable, Container, Iterable, Iterator
from functools import partial
from itertools import chain, starmap
from typing import Any, TypeVar

from controller.identity.envelope import Envelope
from controller.leader.audit.log import Entry
from controller.leader.election import Term
from controller.leader.persistence.packing import Group, Operation, packs, weight
from controller.leader.persistence.unsaved import Unsaved
from controller.store.base import (
    Committed,
    Compare,
    CompareFailed,
    Delete,
    LeaseExpired,
    LeaseId,
    Put,
    Store,
    StoreAmbiguous,
    StoreError,
    StoreFull,
    StoreMisuse,
    StoreTooLarge,
    Txn,
)
from pyswarm_core.chunks import encode_chunk
from pyswarm_core.clock import Backoff
from pyswarm_core.errors import with_place
from pyswarm_core.ids import NodeId, ServiceId
from pyswarm_core.keys import Keys
from pyswarm_core.kinds import (
    KINDS,
    NODE,
    SERVICE,
    STACK,
    VOLUME,
    Kind,
    in_order,
    split_name,
)
from pyswarm_core.limits import CHUNK_SLOTS, TXN_IN_FLIGHT, TXN_PUTS, VALUE_BYTES_MAX
from pyswarm_core.objects import Object
from pyswarm_core.state import State
from pyswarm_core.volumes.volume import VolumeId

RETRY_S = 0.1
RETRY_MAX_S = 1.0

YieldLoop = Callable[[], Awaitable[None]]
N = TypeVar("N")


async def pause() -> None:
    """Let other coroutines run."""
    await asyncio.sleep(0)


class Deposed(Exception):
    """The leader key is no longer this controller's: stop and drop the state."""


class Encoder:
    """Makes store operations from the current state."""

    def __init__(self, state: State, keys: Keys, envelope: Envelope) -> None:
        self._state = state
        self._keys = keys
        self._envelope = envelope
        self.failed: dict[str, str] = {}
        """Objects that cannot be stored, and why; see Keys.name_of."""
        self._along: dict[str, list[str]] = {}

    def phases(self, unsaved: Unsaved) -> tuple[Iterator[Group], ...]:
        """All operations, in parts that are stored one after the other. Stacks come first, after
        the secrets, configs and volumes whose data or passwords they do not have: who finds a stack
        makes the rest of its change. Then services that are removed: what is stored after them may
        have their addresses and ports. The cluster comes before objects, to which its counters gave
        their numbers. Nodes are deleted last: until then the removal can be repeated.
        """
        self._along, stored = self._stored_with_deletes(unsaved), dict[str, None]()
        payloads, stacks, others = in_order()
        return (
            self._puts(unsaved, payloads, stored),
            self._volumes_of_stacks(unsaved, stored),
            self._puts(unsaved, stacks, stored),
            self._removing(unsaved),
            self._gone_services(unsaved),
            self._cluster(unsaved),
            self._puts(unsaved, others, stored),
            self._chunks(unsaved),
            self._deletes(unsaved),
            self._deletes_of(NODE, unsaved),
        )

    def _stored_with_deletes(self, unsaved: Unsaved) -> dict[str, list[str]]:
        """What changes wrote along with a removal, by what was removed, as far as it fits into one
        transaction.
        """
        along: dict[str, list[str]] = {}
        for name, other in unsaved.beside.items():
            kind, object_id = split_name(other)
            if kind in KINDS and object_id not in self._state.of(KINDS[kind]):
                along.setdefault(other, []).append(name)
        return {other: names for other, names in along.items() if len(names) < TXN_PUTS}

    def _removing(self, unsaved: Unsaved) -> Iterator[Group]:
        """Services that are being removed, and chunks of those that are gone."""
        for name in map(SERVICE.object_name, map(ServiceId, unsaved.objects[SERVICE.name])):
            main = unsaved.beside.get(name)
            if self._is_removing(name) and main not in self._along and not self._is_removing(main):
                names = [each for each, other in unsaved.beside.items() if other == name]
                yield [*chain(*(self._named(each, unsaved) for each in (*names, name)))]
        for key in unsaved.chunks:
            if key.service_id not in self._state.services:
                chunk = self._keys.chunk(key)
                yield [Delete(chunk), *self._records_with(chunk, unsaved)]

    def _gone_services(self, unsaved: Unsaved) -> Iterator[Group]:
        """Deletes of services; after their chunks, which would be orphaned otherwise."""
        return self._deletes_of(SERVICE, unsaved)

    def _cluster(self, unsaved: Unsaved) -> Iterator[Group]:
        """The cluster, if it changed, and what is kept aside."""
        yield list(starmap(Put, unsaved.aside.items()))
        if unsaved.cluster:
            yield self._put(self._keys.cluster, self._state.cluster, unsaved)

    def _volumes_of_stacks(self, unsaved: Unsaved, stored: dict[str, None]) -> Iterator[Group]:
        """Volumes that one change wrote along with a stack."""
        for object_id in unsaved.objects[VOLUME.name]:
            name = VOLUME.object_name(VolumeId(object_id))
            kind, _ = split_name(unsaved.beside.get(name, ""))
            if kind == STACK.name and object_id in self._state.of(VOLUME):
                stored[name] = None
                yield self._named(name, unsaved)

    def _puts(
        self, unsaved: Unsaved, kinds: Iterable[str], stored: dict[str, None]
    ) -> Iterator[Group]:
        """Objects that exist, with their audit records, but for services that are being removed and
        what is stored with these. What one change wrote along with an object is put with it.
        `stored`: those before.
        """
        kinds = dict.fromkeys(kinds)

        def is_put(name: str) -> bool:
            return split_name(name)[0] in kinds and self._is_put(name, unsaved, stored)

        beside = unsaved.beside
        heads = {
            name: head
            for name, head in beside.items()
            if head not in beside and is_put(name) and is_put(head)
        }
        along: dict[str, list[str]] = {}
        for name, head in heads.items():
            along.setdefault(head, []).append(name)
        for kind in kinds:
            for object_id in unsaved.objects[kind]:
                name = KINDS[kind].object_name(object_id)
                if name not in heads and self._is_put(name, unsaved, stored):
                    names = (*along.get(name, ()), name)
                    stored.update(dict.fromkeys(names))
                    yield [*chain(*(self._named(each, unsaved) for each in names))]

    def _is_put(self, name: str, unsaved: Unsaved, stored: Container[str]) -> bool:
        """Whether `_puts` stores the object: it exists, and is not stored with a removal."""
        kind, object_id = split_name(name)
        if object_id not in unsaved.objects[kind] or object_id not in self._state.of(KINDS[kind]):
            return False
        other = unsaved.beside.get(name)
        leaves = self._is_removing(name) or self._is_removing(other)
        return not leaves and other not in self._along and name not in stored

    def _chunks(self, unsaved: Unsaved) -> Iterator[Group]:
        """Chunks of services that exist; an empty one is deleted."""
        nodes = self._state.nodes

        def number_of(node_id: NodeId) -> int:
            node = nodes.get(node_id)
            return node.number if node else 0

        for key in unsaved.chunks:
            if key.service_id not in self._state.services:
                continue
            slots = self._state.tasks_of_service(key.service_id).slots
            first = key.block * CHUNK_SLOTS
            tasks = [
                task for slot in range(first, first + CHUNK_SLOTS) for task in slots.get(slot, ())
            ]
            name = self._keys.chunk(key)
            if tasks:
                made = self._try(name, partial(encode_chunk, tasks, number_of))
            else:
                made = [Delete(name)]
            yield [*made, *self._records_with(name, unsaved)]

    def _deletes(self, unsaved: Unsaved) -> Iterator[Group]:
        """Deletes of removed objects that are no services or nodes. Then audit records that belong
        to no object, and events.
        """
        for kind in reversed(KINDS.values()):
            if kind not in (SERVICE, NODE):
                yield from self._deletes_of(kind, unsaved)
        yield from ([self._of_entry(entry)] for entry in unsaved.records.get("", ()))
        for number, make in unsaved.pages.items():
            yield self._try(self._keys.event_page(number), make)

    def _deletes_of(self, kind: Kind[Any, Any], unsaved: Unsaved) -> Iterator[Group]:
        objects = self._state.of(kind)
        for object_id in unsaved.objects[kind.name]:
            name = kind.object_name(object_id)
            if object_id in objects or unsaved.beside.get(name) in self._along:
                continue
            names = (*self._along.get(name, ()), name)
            yield [*chain(*(self._named(each, unsaved) for each in names))]

    def _is_removing(self, name: str | None) -> bool:
        kind, object_id = split_name(name) if name else ("", "")
        service = self._state.services.get(ServiceId(object_id))
        return kind == SERVICE.name and service is not None and service.removing

    def _named(self, name: str, unsaved: Unsaved) -> Group:
        """The put of an object, or its delete if it does not exist, with its audit records."""
        kind_name, object_id = split_name(name)
        kind = KINDS[kind_name]
        item, key = self._state.of(kind).get(object_id), self._keys.object(kind, object_id)
        if item is None:
            return [Delete(key), *self._records_with(key, unsaved)]
        return self._put(key, item, unsaved)

    def _put(self, key: bytes, item: Object, unsaved: Unsaved) -> Group:
        made = self._try(key, partial(self._envelope.encode, item))
        return [*made, *self._records_with(key, unsaved)]

    def _try(self, key: bytes, make: Callable[[], bytes | None]) -> Group:
        """The put of the value that the function makes, or a delete if that is None; nothing if the
        value cannot be stored.
        """
        try:
            value = make()
        except Exception as error:
            self.failed[self._keys.name_of(key)] = with_place(error)
            return []
        if value is None:
            return [Delete(key)]
        if len(value) > VALUE_BYTES_MAX:
            why = f"it takes {len(value)} bytes in the store, at most {VALUE_BYTES_MAX} fit"
            self.failed[self._keys.name_of(key)] = why
            return []
        return [Put(key, value)]

    def _records_with(self, key: bytes, unsaved: Unsaved) -> Iterator[Operation]:
        if unsaved.records:
            yield from map(self._of_entry, unsaved.records.get(self._keys.name_of(key), ()))

    def _of_entry(self, entry: Entry) -> Operation:
        key = self._keys.audit(entry.class_, entry.sequence)
        return Delete(key) if entry.value is None else Put(key, entry.value)


class Saver:
    """Writes for one term. Retries until it is cancelled at the end of the term."""

    def __init__(
        self,
        store: Store,
        keys: Keys,
        term: Term,
        leader_value: bytes,
        *,
        envelope: Envelope,
        on_error: Callable[[StoreError], None],
        yield_loop: YieldLoop = pause,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._keys = keys
        self._term = term
        self._value = leader_value
        self._envelope = envelope
        self._fence = term.fence
        self._moving = asyncio.Lock()
        self._on_error = on_error
        self._sleep = sleep
        self.yield_loop = yield_loop
        """Awaited between slices of work, so that other coroutines run."""
        self.revision = term.fence
        """The revision of the newest commit."""
        self.full = ""
        """The store's error while it has no space for writes; empty otherwise."""
        self.bytes_written = 0
        """Keys and values so far."""

    async def save(self, state: State, unsaved: Unsaved) -> dict[str, str]:
        """Return when the store has it all, with the objects that cannot be stored and why.

        Raises Deposed.
        """
        encoder = Encoder(state, self._keys, self._envelope)
        phases = encoder.phases(unsaved)
        if len(unsaved) <= TXN_PUTS:
            for pack in packs(chain(*phases)):
                await self._commit(pack, encoder.failed)
            return encoder.failed
        for phase in phases:
            await self._save_all(phase, encoder.failed)
        return encoder.failed

    async def _save_all(self, groups: Iterator[Group], failed: dict[str, str]) -> None:
        packed = packs(groups)

        async def work() -> None:
            for pack in packed:
                await self._commit(pack, failed)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(TXN_IN_FLIGHT):
                    group.create_task(work())
        except ExceptionGroup as raised:
            raise raised.exceptions[0] from None

    async def _commit(self, pack: list[Group], failed: dict[str, str]) -> None:
        """Store a pack; if it is too large for the store, in halves."""
        try:
            await self._commit_whole(list(chain(*pack)))
        except StoreTooLarge as error:
            if len(pack) == 1:
                pack = [[one] for one in pack[0]]  # its audit records alone
            if len(pack) == 1:
                failed[self._keys.name_of(pack[0][0].key)] = str(error)
                return
            half = len(pack) // 2
            await self._commit(pack[:half], failed)
            await self._commit(pack[half:], failed)

    async def _commit_whole(self, pack: Group) -> None:
        puts = tuple(item for item in pack if isinstance(item, Put))
        deletes = tuple(item for item in pack if isinstance(item, Delete))
        backoff = Backoff.doubling(RETRY_S, RETRY_MAX_S)
        while True:
            fence = self._fence
            guard = Compare(self._keys.leader, fence)
            try:
                outcome = await self._store.commit(Txn((guard,), puts, deletes))
            except StoreMisuse:
                raise
            except StoreError as error:
                self._report_error(error)
                await self._sleep(backoff.next_s())
                if isinstance(error, StoreAmbiguous):
                    await self._move_fence(fence)
                continue
            self.full = ""
            if isinstance(outcome, Committed):
                self.revision = max(self.revision, outcome.revision)
                self.bytes_written += weight(pack)
                return
            await self._look_at_fence(fence)

    def _report_error(self, error: StoreError) -> None:
        self.full = str(error) if isinstance(error, StoreFull) else self.full
        self._on_error(error)

    async def _move_fence(self, seen: int) -> None:
        """Give the leader key a new revision, so that transactions with the old one fail."""
        async with self._moving:
            while self._fence == seen:
                guard = Compare(self._keys.leader, seen)
                put = Put(self._keys.leader, self._value, LeaseId(self._term.lease))
                try:
                    outcome = await self._store.commit(Txn((guard,), (put,)))
                except LeaseExpired as error:
                    raise Deposed(str(error)) from error
                except StoreMisuse:
                    raise
                except StoreError as error:
                    self._on_error(error)
                    await self._sleep(RETRY_S)
                    continue
                if isinstance(outcome, CompareFailed):
                    await self._adopt_fence()
                    return
                self._fence = outcome.revision

    async def _look_at_fence(self, seen: int) -> None:
        async with self._moving:
            if self._fence == seen:
                await self._adopt_fence()

    async def _adopt_fence(self) -> None:
        while True:
            try:
                found = await self._store.get(self._keys.leader)
            except StoreMisuse:
                raise
            except StoreError as error:
                self._on_error(error)
                await self._sleep(RETRY_S)
                continue
            if found is None or found.create_revision != self._term.created:
                raise Deposed("another controller leads")
            self._fence = found.mod_revision
            return
