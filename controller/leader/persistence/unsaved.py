"""The names of what the store does not have yet. Mutable.

Names, not values: a request of the store is made from the current state of what is named.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from controller.leader.audit.log import Entry
from pyswarm_core.decision import Writes
from pyswarm_core.identity.limits import AUDITS_PER_OBJECT
from pyswarm_core.keys import ChunkKey, chunk_of
from pyswarm_core.kinds import KINDS, kind_of, split_name
from pyswarm_core.objects import Task

N = TypeVar("N")


class Unsaved:
    """Names of what is to be saved. Mutable; insertion order is kept."""

    def __init__(self) -> None:
        self.cluster = False
        self.objects: dict[str, dict[str, None]] = {kind: {} for kind in KINDS}
        """Ids by the names of their kinds."""
        self.chunks: dict[ChunkKey, None] = {}
        self.aside: dict[bytes, bytes] = {}
        """Bytes to keep under another key; only loading sets it."""
        self.pages: dict[int, Callable[[], bytes | None]] = {}
        """What makes a page of events, by its number; None deletes it."""
        self.records: dict[str, list[Entry]] = {}
        """Audit records by the names of the objects to store them with; see Keys.name_of."""
        self.beside: dict[str, str] = {}
        """Objects that one change wrote along with another, whose name this is: one transaction."""
        self._heads: dict[str, None] = {}
        """Those others."""

    def __len__(self) -> int:
        objects = sum(map(len, self.objects.values()))
        records = sum(map(len, self.records.values()))
        others = len(self.aside) + len(self.pages)
        return self.cluster + objects + len(self.chunks) + others + records

    def add(self, writes: Writes, chunks: Iterable[ChunkKey]) -> None:
        """Everything that the writes name, and the chunks that `State.apply` said they changed."""
        self.cluster = self.cluster or writes.cluster is not None
        for item in writes.objects:
            self.objects[kind_of(item).name][item.id] = None
        for kind, object_id in map(split_name, writes.removed):
            self.objects[kind][object_id] = None
        self.chunks.update(dict.fromkeys(sorted(chunks)))

    def add_records(self, name: str, entries: Iterable[Entry], beside: Iterable[str] = ()) -> None:
        """Store these with the object of that name, and the objects of the names `beside` too. What
        is to be deleted may be stored later.
        """
        names = dict.fromkeys(beside, name)
        self.beside.update(names)
        if names:
            self._heads[name] = None
        for entry in entries:
            key = "" if entry.value is None else name
            self.records.setdefault(key, []).append(entry)

    def add_page(self, number: int, make: Callable[[], bytes | None]) -> None:
        """Store this page of events as it is when the store gets it."""
        self.pages[number] = make

    def has_room(self, name: str, beside: Sequence[str] = ()) -> bool:
        """Whether another record fits into the transaction of the object of that name, and the
        objects `beside` too: none of them, nor that object, belongs to another transaction.
        """
        if len(self.records.get(name, ())) >= AUDITS_PER_OBJECT:
            return False
        return not beside or not (
            name in self.beside
            or any(self.beside.get(one, name) != name or one in self._heads for one in beside)
        )

    def names(self) -> Iterator[str]:
        """The names of everything to save, as Keys.name_of makes them."""
        if self.cluster:
            yield "cluster"
        for kind, ids in self.objects.items():
            yield from (f"{kind}/{object_id}" for object_id in ids)
        yield from (f"chunk/{key.service_id}/{key.block:08d}" for key in self.chunks)
        yield from (f"event/{number:012d}" for number in self.pages)

    def add_tasks(self, tasks: Iterable[Task]) -> None:
        """These tasks were observed to have changed."""
        self.chunks.update((chunk_of(task.service_id, task.slot), None) for task in tasks)

    def drop(self, saved: "Unsaved") -> None:
        """Remove what is being saved."""
        for kind, ids in saved.objects.items():
            _drop(self.objects[kind], ids)
        _drop(self.chunks, saved.chunks)

    def take(self, count: int) -> "Unsaved":
        """Remove and return up to `count` chunks, with all else."""
        taken = Unsaved()
        taken.cluster, self.cluster = self.cluster, False
        taken.objects, self.objects = self.objects, taken.objects
        taken.aside, self.aside = self.aside, {}
        taken.pages, self.pages = self.pages, {}
        taken.records, self.records = self.records, {}
        taken.beside, self.beside = self.beside, {}
        taken._heads, self._heads = self._heads, {}
        for key in list(self.chunks)[:count]:
            taken.chunks[key] = self.chunks.pop(key)
        return taken


def _drop(names: dict[N, None], gone: dict[N, None]) -> None:
    for name in gone:
        names.pop(name, None)
