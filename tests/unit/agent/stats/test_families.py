"""The metrics of containers: their labels, values and number."""

from collections import Counter
from collections.abc import Callable, Iterable

import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain

from agent.metrics import ContainerMetrics
from agent.runtime.base import Details, Stats
from agent.stats.base import Traffic
from agent.stats.fake import FakeMeter
from agent.stats.families import FAMILIES, PREFIX
from agent.stats.restarts import Restarts
from agent.stats.sampler import Sampler
from agent.tasks.record import Record
from pyswarm_core.clock import SECOND
from pyswarm_core.objects import HealthState, TaskDetail
from tests.fixtures.records import record

COMMON = {"service": "web", "task": "t1", "slot": "1", "node": "host1"}
STATS = Stats(
    memory_bytes=5, memory_limit_bytes=64, cpu_ns=7, pids=2, io_read_bytes=8, io_write_bytes=9
)
DETAILS = Details(
    user_ns=2 * SECOND,
    system_ns=SECOND // 2,
    periods=10,
    throttled_periods=3,
    throttled_ns=SECOND // 4,
    rss_bytes=11,
    cache_bytes=12,
    oom_kills=1,
    pids_limit=50,
    io_reads=13,
    io_writes=14,
    stalled_ns={("cpu", "some"): 3 * SECOND, ("io", "full"): SECOND},
)
TRAFFIC = Traffic(
    received_bytes=21, received_packets=22, received_drops=23, sent_bytes=24, sent_packets=25,
    sent_drops=26,
)  # fmt: skip
EXPECTED: dict[tuple[str, ...], float] = {
    ("cpu_seconds_total", "mode", "user"): 2,
    ("cpu_seconds_total", "mode", "system"): 0.5,
    ("cpu_periods_total",): 10,
    ("cpu_throttled_periods_total",): 3,
    ("cpu_throttled_seconds_total",): 0.25,
    ("memory_working_set_bytes",): 5,
    ("memory_rss_bytes",): 11,
    ("memory_cache_bytes",): 12,
    ("memory_limit_bytes",): 64,
    ("memory_oom_kills_total",): 1,
    ("pids",): 2,
    ("pids_limit",): 50,
    ("block_bytes_total", "operation", "read"): 8,
    ("block_bytes_total", "operation", "write"): 9,
    ("block_operations_total", "operation", "read"): 13,
    ("block_operations_total", "operation", "write"): 14,
    ("network_bytes_total", "direction", "receive"): 21,
    ("network_bytes_total", "direction", "transmit"): 24,
    ("network_packets_total", "direction", "receive"): 22,
    ("network_packets_total", "direction", "transmit"): 25,
    ("network_drops_total", "direction", "receive"): 23,
    ("network_drops_total", "direction", "transmit"): 26,
    ("stalled_seconds_total", "resource", "cpu", "processes", "some"): 3,
    ("stalled_seconds_total", "resource", "io", "processes", "full"): 1,
    ("restarts_total",): 0,
    ("start_time_seconds",): 5,
    ("healthy",): 1,
}


def scraped(
    *records: Record,
    stats: Stats = STATS,
    details: Details = DETAILS,
    traffic: Traffic | None = TRAFFIC,
) -> tuple[ContainerMetrics, FakeMeter]:
    meter = FakeMeter()
    for one in records:
        meter.used[one.task_id], meter.details[one.task_id] = stats, details
        if traffic is not None:
            meter.traffic[one.task_id] = traffic
    sampler = Sampler(meter, lambda: {one.task_id: one for one in records}, 1 << 30)
    return ContainerMetrics(sampler, Restarts(), "host1"), meter


def families(metrics: ContainerMetrics, *, is_open: bool = False) -> list[Metric]:
    """What Prometheus reads."""
    text = b"".join(metrics.text(openmetrics=is_open)).decode()
    parse: Callable[[str], Iterable[Metric]] = openmetrics if is_open else plain
    return list(parse(f"{text}# EOF\n" if is_open else text))


def values(
    metrics: ContainerMetrics, task: str = "t1", *, is_open: bool = False
) -> dict[tuple[str, ...], float]:
    """The metrics of a task by name and the labels of their own."""
    found = {}
    for metric in families(metrics, is_open=is_open):
        for one in metric.samples:
            if one.labels["task"] == task:
                own = {key: text for key, text in one.labels.items() if key not in COMMON}
                name = one.name.removeprefix(PREFIX)
                found[name, *(word for pair in own.items() for word in pair)] = one.value
    return found


HEALTHY = record("t1", detail=TaskDetail(health=HealthState.HEALTHY))


@pytest.mark.parametrize("is_open", [False, True], ids=["text", "openmetrics"])
def test_every_metric_has_its_value(is_open: bool) -> None:
    metrics, _ = scraped(HEALTHY)
    assert values(metrics, is_open=is_open) == EXPECTED
    found = {(one.name, one.documentation, one.type) for one in families(metrics, is_open=is_open)}
    assert found == {
        (f"{PREFIX}{one.name}", one.text, "counter" if one.is_counter else "gauge")
        for one in FAMILIES
    }
    names = {family.name for family in FAMILIES}
    assert {name.removesuffix("_total") for name, *_ in EXPECTED} == names


def test_every_sample_names_its_service_task_slot_and_node() -> None:
    for metric in families(scraped(HEALTHY)[0]):
        for one in metric.samples:
            assert one.labels.items() >= COMMON.items()


@pytest.mark.parametrize(
    ("health", "value"),
    [(HealthState.STARTING, 0), (HealthState.UNHEALTHY, 0), (HealthState.NONE, None)],
)
def test_without_a_health_check_there_is_no_health(health: HealthState, value: int | None) -> None:
    found = values(scraped(record("t1", detail=TaskDetail(health=health)))[0])
    assert found.get(("healthy",)) == value


def test_what_does_not_exist_has_no_sample() -> None:
    metrics, _ = scraped(record("t1"), stats=Stats(), details=Details(), traffic=None)
    names = {name for name, *_ in values(metrics)}
    absent = {"memory_limit_bytes", "pids_limit", "stalled_seconds_total", "healthy"}
    absent |= {f"network_{what}_total" for what in ("bytes", "packets", "drops")}
    assert {name for name, *_ in EXPECTED} - names == absent


def test_a_scrape_reads_each_container_once_and_a_second_one_shares_it() -> None:
    metrics, meter = scraped(record("t1"), record("t2", slot=2))
    assert meter.reads == []
    families(metrics)
    families(metrics, is_open=True)
    assert meter.reads == [("t1", "t2")]


def test_the_number_of_samples_per_container_is_bounded() -> None:
    names = [f"t{number}" for number in range(100)]
    stalled = {(r, k): 1 for r in ("cpu", "memory", "io") for k in ("some", "full")}
    details = Details(pids_limit=1, stalled_ns=stalled)
    metrics, _ = scraped(*(record(name) for name in names), details=details)
    counts = Counter(one.labels["task"] for metric in families(metrics) for one in metric.samples)
    assert counts == dict.fromkeys(names, 30)


def test_label_values_are_escaped() -> None:
    odd = record("t1", service='a"b\\c\nd')
    (labels,) = {one.labels["service"] for one in families(scraped(odd)[0])[0].samples}
    assert labels == 'a"b\\c\nd'
