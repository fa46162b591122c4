"""The audit log of the fleet, as the leader has it in memory and stores it. SHELL.

The records of the store are loaded with the term, so a new leader goes on with the log of the last
one. A record of a change is stored in the same transaction as the changed object; that of a refused
request is written behind. The oldest records of a class are deleted when it exceeds its bounds.

Readers hold a position, not a queue, as followers of events do.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import NamedTuple, Protocol

from msgspec.structs import replace

from controller.identity import audit
from controller.identity.caller import Caller
from controller.leader.audit.refusals import Refusals
from controller.leader.requests import Request
from controller.metrics import Metrics
from pyswarm_core.aio.logs import EventLog
from pyswarm_core.clock import Clock, Instant
from pyswarm_core.decision import Writes
from pyswarm_core.identity.audit import (
    AuditClass,
    AuditRecord,
    FieldChange,
    decode_record,
    encode_record,
)
from pyswarm_core.identity.limits import (
    AUDIT_BYTES,
    AUDIT_BYTES_OTHER,
    AUDIT_DELETED,
    AUDIT_PER_SLICE,
    AUDIT_RECORDS,
    AUDIT_RECORDS_OTHER,
    REFUSALS_WAITING,
)
from pyswarm_core.state import State

_log = EventLog("controller.audit")

_KEY_BYTES = 64
"""The approximate size of a key with a long prefix."""


class Entry(NamedTuple):
    """A record in the store; without a value it is to be deleted."""

    class_: AuditClass
    sequence: int
    value: bytes | None


class AuditLog:
    """The records of the fleet by their sequence, within the bounds of each class."""

    def __init__(self, stored: Iterable[Entry] = ()) -> None:
        self._values: dict[int, bytes] = {}
        self._of_class: dict[AuditClass, deque[int]] = {one: deque() for one in AuditClass}
        self._bytes = dict.fromkeys(AuditClass, 0)
        for entry in sorted(stored, key=lambda one: one.sequence):
            self._keep(entry)
        self._last = self.published = next(reversed(self._values), 0)
        """`published`: the sequence of the last record that readers get."""
        self._grown = asyncio.Event()

    def __len__(self) -> int:
        return len(self._values)

    def append(self, class_: AuditClass, record: AuditRecord) -> list[Entry]:
        """Add a record: what is to be stored and deleted. Readers get it once it is published."""
        self._last += 1
        value = encode_record(replace(record, sequence=self._last))
        entry = Entry(class_, self._last, value)
        self._keep(entry)
        return [entry, *self._trimmed(class_)]

    def publish(self) -> None:
        """The store has all records: wake the readers."""
        if self.published != self._last:
            self.published = self._last
            self._grown.set()
            self._grown = asyncio.Event()

    def size(self, class_: AuditClass) -> tuple[int, int]:
        """How many records the class has, and their bytes."""
        return len(self._of_class[class_]), self._bytes[class_]

    def kept(self, after: int = 0) -> Iterator[list[AuditRecord]]:
        """The records after that sequence, in slices of at most AUDIT_PER_SLICE."""
        sequences = [n for n in self._values if after < n <= self.published]
        for first in range(0, len(sequences), AUDIT_PER_SLICE):
            yield self._decoded(sequences[first : first + AUDIT_PER_SLICE])

    async def follow(self, after: int) -> AsyncIterator[list[AuditRecord]]:
        """Yield the records after that sequence as they are published, AUDIT_PER_SLICE at most."""
        while True:
            if after >= self.published:
                await self._grown.wait()
                continue
            # The oldest may be deleted while the reader is slow.
            until = min(after + AUDIT_PER_SLICE, self.published)
            found = self._decoded(range(after + 1, until + 1))
            after = until
            yield found
            await asyncio.sleep(0)

    def _keep(self, entry: Entry) -> None:
        assert entry.value is not None
        self._values[entry.sequence] = entry.value
        self._of_class[entry.class_].append(entry.sequence)
        self._bytes[entry.class_] += _KEY_BYTES + len(entry.value)

    def _trimmed(self, class_: AuditClass) -> Iterator[Entry]:
        """Remove the oldest records of a class that is too large."""
        sequences = self._of_class[class_]
        is_change = class_ is AuditClass.CHANGE
        most = AUDIT_RECORDS if is_change else AUDIT_RECORDS_OTHER
        most_bytes = AUDIT_BYTES if is_change else AUDIT_BYTES_OTHER
        for _ in range(AUDIT_DELETED):
            if len(sequences) <= most and self._bytes[class_] <= most_bytes:
                return
            oldest = sequences.popleft()
            self._bytes[class_] -= _KEY_BYTES + len(self._values.pop(oldest))
            yield Entry(class_, oldest, None)

    def _decoded(self, sequences: Iterable[int]) -> list[AuditRecord]:
        found = []
        for sequence in sequences:
            if (value := self._values.get(sequence)) is None:
                continue
            try:
                found.append(decode_record(value))
            except Exception as error:  # stored by something else: the others are still of use
                _log.warning("audit.unreadable", every_s=60, sequence=sequence, error=error)
        return found


class Draft(NamedTuple):
    """The record of a change that is not applied yet."""

    name: str
    """The stored object that it is stored with, as by Keys.name_of."""
    class_: AuditClass
    record: AuditRecord
    beside: tuple[str, ...] = ()
    """Objects that the change writes along."""


class StoreWith(Protocol):
    """Stores entries with the object of that name, and with those `beside`; empty: with none."""

    def __call__(self, name: str, entries: list[Entry], beside: Iterable[str] = ()) -> None: ...


class Auditor:
    """Makes the records of one term."""

    def __init__(
        self, stored: Iterable[Entry], store_behind: StoreWith, clock: Clock, metrics: Metrics
    ) -> None:
        self.log = AuditLog(stored)
        self._store_behind = store_behind
        self._refusals = Refusals()
        self._waiting = 0
        """Refused requests whose records are not stored."""
        self._clock = clock
        self._metrics = metrics

    def draft(self, state: State, writes: Writes, request: Request) -> Draft | None:
        """The record of a change of this state; None if it changes nothing, or if a controller and
        no caller requested it.
        """
        caller, verb = request.caller, request.verb
        if audit.is_controller(caller) or (target := audit.target_of(state, writes)) is None:
            return None
        record = audit.bare_record_of(target, caller, self._clock.now(), verb)
        try:
            record = audit.record_of(state, writes, target, record)
        except Exception as error:  # a record without differences is better than none
            _log.error("audit.incomplete", trace=True, object=target.name, error=error)
        return Draft(target.name, audit.class_of(caller), record, audit.names_beside(writes))

    def append(self, draft: Draft | None, store: StoreWith) -> None:
        """The change is applied: store its record, if there is one, with it."""
        if draft is not None:
            self._metrics.audit_records_total.labels(draft.class_.value).inc()
            store(draft.name, self.log.append(draft.class_, draft.record), draft.beside)

    def note(
        self,
        caller: Caller,
        verb: str,
        ref: str,
        about: Iterable[FieldChange] = (),
        *,
        at: Instant | None = None,
    ) -> None:
        """The caller acted on hosts, by default now, and no stored object changed. The record is
        written behind. `about` is what was requested.
        """
        class_ = audit.class_of(caller)
        record = audit.action_of(caller, at or self._clock.now(), verb, ref, about)
        self._metrics.audit_records_total.labels(class_.value).inc()
        self._store_behind("", self.log.append(class_, record))

    def refuse(
        self, caller: Caller, verb: str | Callable[[], str], error: Exception, ref: str = ""
    ) -> None:
        """A request of an authenticated caller failed or was denied; `ref` is the object that it
        named. The record is written behind. A function finds the verb of what is recorded.
        """
        who = f"{caller.kind}/{caller.id or caller.name}"
        now = self._clock.now()
        skipped = self._refusals.admit(who, now, room=self._waiting < REFUSALS_WAITING)
        if skipped is None:
            self._metrics.audit_skipped_total.inc()
            return
        self._waiting += 1
        called = verb if isinstance(verb, str) else verb()
        record = audit.refusal_of(caller, now, called, ref, str(error))
        self._metrics.audit_records_total.labels(AuditClass.REFUSED.value).inc()
        self._store_behind(
            "", self.log.append(AuditClass.REFUSED, replace(record, skipped=skipped))
        )

    def flushed(self) -> None:
        """The store has what was to be written behind."""
        self._waiting = 0
        self.log.publish()
        self.log.publish()
