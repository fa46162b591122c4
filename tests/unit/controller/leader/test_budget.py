"""How much is written because of reports, and how large etcd's log gets."""

from hypothesis import given
from hypothesis import strategies as st

from controller.leader.persistence.budget import Budget
from controller.store.etcd_log import ENTRIES, LOG_BYTES, EntryLog
from pyswarm_core.clock import MINUTE, SECOND, Instant
from pyswarm_core.limits import (
    STATUS_BYTES_BURST,
    STATUS_BYTES_PER_SECOND,
    STATUS_DELAY_MAX,
    TXN_BYTES_MAX,
)
from tests.fixtures.build import NOW


def test_a_storm_writes_no_more_than_its_budget() -> None:
    budget, now, written = Budget(NOW), NOW, 0
    while now < NOW + MINUTE:
        if now >= budget.ready_at():
            budget.spend(300_000, now)
            written += 300_000
        now = Instant(now + SECOND // 100)
    most = STATUS_BYTES_BURST + 60 * STATUS_BYTES_PER_SECOND + 300_000
    assert most - 700_000 <= written <= most


def test_whatever_was_written_nobody_waits_long() -> None:
    budget = Budget(NOW)
    budget.spend(1 << 40, NOW)
    assert budget.ready_at() == NOW + STATUS_DELAY_MAX
    assert budget.left(budget.ready_at()) == 0


def test_a_calm_earns_no_more_than_a_burst() -> None:
    budget = Budget(NOW)
    assert budget.ready_at() == NOW
    assert budget.left(Instant(NOW + 1000 * MINUTE)) == STATUS_BYTES_BURST


@given(st.lists(st.integers(100, TXN_BYTES_MAX), min_size=1, max_size=40))
def test_prop_no_run_of_entries_weighs_more_than_twice_the_bound(sizes: list[int]) -> None:
    log = EntryLog()
    entries: list[int] = []
    while len(entries) < 3 * ENTRIES:
        for size in sizes:
            entries += [size, *[0] * log.wrote(size)]
    heaviest = weight = sum(entries[:ENTRIES])
    for gone, come in zip(entries, entries[ENTRIES:], strict=False):
        weight += come - gone
        heaviest = max(heaviest, weight)
    assert heaviest <= 2 * LOG_BYTES + TXN_BYTES_MAX


def test_what_a_calm_fleet_writes_needs_no_empty_entries() -> None:
    log = EntryLog()
    assert not any(log.wrote(20_000) for _ in range(3 * ENTRIES))
    assert not any(log.wrote(TXN_BYTES_MAX) for _ in range(100))
