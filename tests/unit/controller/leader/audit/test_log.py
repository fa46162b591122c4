"""The audit log in memory: bounds by class, order, readers, and a new term."""

import asyncio
from itertools import chain
from unittest.mock import patch

from controller.identity.caller import Caller, CallerKind, Role
from controller.leader.audit import log as log_module
from controller.leader.audit.log import AuditLog, Auditor, Entry
from controller.leader.persistence.unsaved import Unsaved
from controller.metrics import Metrics
from pyswarm_core.clock import Instant
from pyswarm_core.errors import PermissionDenied
from pyswarm_core.identity.audit import AuditClass, AuditRecord
from pyswarm_core.identity.limits import (
    AUDIT_BYTES,
    AUDIT_BYTES_OTHER,
    AUDIT_DELETED,
    AUDIT_PER_SLICE,
    AUDIT_RECORD_BYTES,
    AUDIT_RECORDS,
    AUDIT_RECORDS_OTHER,
    REFUSALS_PER_MINUTE,
    REFUSALS_WAITING,
)
from tests.fixtures.desk import StoppedClock

CHANGE, REFUSED = AuditClass.CHANGE, AuditClass.REFUSED


def made(verb: str = "service update", result: str = "ok") -> AuditRecord:
    return AuditRecord(
        sequence=0, at=Instant(1), caller_kind="user", caller="alice", verb=verb, result=result
    )


def sequences(log: AuditLog, after: int = 0) -> list[int]:
    return [record.sequence for record in chain.from_iterable(log.kept(after))]


def test_readers_get_records_once_they_are_published() -> None:
    log = AuditLog()
    log.append(CHANGE, made())
    assert sequences(log) == []
    log.publish()
    log.append(CHANGE, made())
    assert sequences(log) == [1]
    log.publish()
    assert (sequences(log), sequences(log, 1)) == ([1, 2], [2])


def test_the_oldest_of_a_class_are_deleted_beyond_its_number() -> None:
    log = AuditLog()
    stored: dict[tuple[AuditClass, int], bytes] = {}
    with patch.object(log_module, "AUDIT_RECORDS", 3):
        for n in range(8):
            for entry in log.append(CHANGE if n else REFUSED, made()):
                if entry.value is None:
                    del stored[entry.class_, entry.sequence]
                else:
                    stored[entry.class_, entry.sequence] = entry.value
    log.publish()
    assert sequences(log) == [1, 6, 7, 8]
    assert sorted(sequence for _, sequence in stored) == [1, 6, 7, 8]
    assert AUDIT_RECORDS == 10_000


def test_a_flood_of_one_class_leaves_the_records_of_the_others() -> None:
    log = AuditLog()
    with patch.object(log_module, "AUDIT_RECORDS_OTHER", 5):
        log.append(CHANGE, made("the change"))
        for _ in range(100):
            log.append(REFUSED, made("denied", "denied"))
    log.publish()
    verbs = [record.verb for record in chain.from_iterable(log.kept())]
    assert verbs == ["the change", *["denied"] * 5]
    assert AUDIT_RECORDS_OTHER == 2_500


def test_bytes_are_bounded_however_records_vary_in_size() -> None:
    log = AuditLog()
    small, large = made(), made("x" * (AUDIT_RECORD_BYTES - 200))
    for name, class_ in (("AUDIT_BYTES", CHANGE), ("AUDIT_BYTES_OTHER", REFUSED)):
        with patch.object(log_module, name, 100_000):
            for _ in range(900):
                log.append(class_, small)
            for _ in range(100):
                deleted = [one for one in log.append(class_, large) if one.value is None]
                assert len(deleted) <= AUDIT_DELETED == 64
                assert log.size(class_)[1] <= 100_000
    assert (AUDIT_BYTES, AUDIT_BYTES_OTHER) == (8 << 20, 2 << 20)
    assert AUDIT_RECORD_BYTES < 4096


def test_a_new_term_goes_on_with_what_is_stored() -> None:
    first = AuditLog()
    stored = [*first.append(CHANGE, made("a")), *first.append(REFUSED, made("b"))]
    second = AuditLog(reversed(stored))
    assert sequences(second) == [1, 2]
    (entry,) = second.append(CHANGE, made("c"))
    assert entry.sequence == 3


def test_a_record_that_cannot_be_read_is_passed_over() -> None:
    log = AuditLog([Entry(CHANGE, 1, b"\xff\xff"), *AuditLog().append(CHANGE, made())][:1])
    log.append(CHANGE, made())
    log.publish()
    assert sequences(log) == [2]


async def test_a_follower_gets_new_records_in_order_and_few_at_once() -> None:
    log = AuditLog()
    got: list[int] = []
    sizes: list[int] = []

    async def follow() -> None:
        async for records in log.follow(0):
            sizes.append(len(records))
            got.extend(record.sequence for record in records)

    task = asyncio.create_task(follow())
    await asyncio.sleep(0)
    for _ in range(3 * AUDIT_PER_SLICE):
        log.append(CHANGE, made())
    log.publish()
    async with asyncio.timeout(60):
        while len(got) < 3 * AUDIT_PER_SLICE:  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0)
    task.cancel()
    assert got == list(range(1, 3 * AUDIT_PER_SLICE + 1))
    assert max(sizes) <= AUDIT_PER_SLICE == 32


MALLORY = Caller(CallerKind.USER, "m", "mallory", Role.VIEWER)
BOB = Caller(CallerKind.USER, "b", "bob", Role.VIEWER)
DENIED = PermissionDenied("denied: viewers may not update services")


def auditor(unsaved: Unsaved) -> Auditor:
    return Auditor((), unsaved.add_records, StoppedClock(), Metrics())


def test_a_flood_of_refused_requests_has_few_records_and_leaves_those_of_others() -> None:
    unsaved = Unsaved()
    audit = auditor(unsaved)
    for _ in range(10_000):
        audit.refuse(MALLORY, "service update", DENIED, "web")
    audit.refuse(BOB, "service update", DENIED, "web")
    assert len(unsaved) == REFUSALS_PER_MINUTE + 1 == 21
    audit.log.publish()
    records = list(chain.from_iterable(audit.log.kept()))
    assert [record.caller for record in records] == ["mallory"] * 20 + ["bob"]
    assert {record.result for record in records} == {str(DENIED)}
    assert records[-1].object == "service/web"


def test_refused_requests_that_wait_for_the_store_are_bounded() -> None:
    unsaved = Unsaved()
    audit = auditor(unsaved)
    for n in range(2 * REFUSALS_WAITING):
        audit.refuse(Caller(CallerKind.USER, f"u{n}", f"u{n}"), "node rm", DENIED)
    assert len(unsaved) == REFUSALS_WAITING == 200
    unsaved.take(1)
    audit.flushed()
    audit.refuse(BOB, "node rm", DENIED)
    assert len(unsaved) == 1
