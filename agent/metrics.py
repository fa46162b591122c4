"""The agent's metrics. SHELL: the agent's only importer of prometheus_client. Those of containers
are in `agent/stats/families.py`, and only sampled here.

pyswarm_agent_tasks{state}                    tasks on this node
pyswarm_agent_task_phase_seconds{phase}       prepare (accepted to ready), start (ready to running)
pyswarm_agent_checks_total{kind,result}       health and readiness checks of tasks
pyswarm_agent_check_seconds{kind}             duration of those checks
pyswarm_agent_names_queries_total{outcome}    DNS queries of tasks
pyswarm_agent_names_forward_seconds           response time of other name servers
pyswarm_agent_streams                         byte streams that are open to tasks of this node
pyswarm_agent_session_connected               1 if the session with the leader is established
pyswarm_agent_network_revision                revision of which the kernel is configured
pyswarm_agent_network_sync_seconds            duration of configuring the kernel's network
pyswarm_agent_network_drifts_healed_total     differences of the kernel that were corrected
pyswarm_agent_spoofed_packets_total           packets of tasks dropped for their source address
pyswarm_agent_plaintext_packets_total         packets of encrypted networks dropped in the clear
pyswarm_agent_control_plane_refusals_total    packets of tasks to the control plane refused
pyswarm_agent_metadata_refusals_total         packets of tasks to metadata addresses refused
pyswarm_agent_path_mtu_bytes{peer}            largest packet that reaches another host unfragmented
pyswarm_agent_fast_path_on                    1 unless the fast path is off, or the kernel lacks it
pyswarm_agent_fast_path_networks              networks with the fast path on this host
pyswarm_agent_fast_path_interfaces            tasks' interfaces with rules of the fast path
pyswarm_agent_conntrack_entries               connections tracked by the host
pyswarm_agent_conntrack_limit                 connections that the host can track
pyswarm_agent_images_removed_total{reason}    images and loose layers that were removed
pyswarm_agent_images_removed_bytes_total{reason}  their bytes
pyswarm_agent_image_disk_used_ratio           share of the images' disk that is in use
pyswarm_agent_image_disk_full                 1 while it takes no further images
pyswarm_agent_volume_bytes{volume}            bytes of the largest volumes
pyswarm_agent_volume_inodes{volume}           their inodes
"""

from collections import Counter as Tally
from collections.abc import Iterable
from heapq import nlargest
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from agent.health.base import Outcome
from agent.images.gc.collector import Collector as ImageCollector
from agent.network.dataplane import Dataplane
from agent.network.filter.control import CLOSED, METADATA
from agent.network.filter.host import PLAINTEXT
from agent.network.filter.senders import SPOOFED
from agent.overlays.overlays import Overlays
from agent.runtime.base import Details
from agent.session.conversation import Session
from agent.stats.exposition import exposition
from agent.stats.families import Reading
from agent.stats.restarts import Restarts
from agent.stats.sampler import Sampler
from agent.streams.serving import Streams
from agent.tasks.record import Record
from agent.volumes.measuring import Measuring
from agent.worker import Worker
from pyswarm_core.clock import SECOND, seconds
from pyswarm_core.states import TaskState
from pyswarm_core.volumes.limits import VOLUME_SERIES_MAX

SCRAPE_AGE_MAX = SECOND
"""Nanoseconds; scrapes at the same time share a sample."""
_NETFILTER = Path("/proc/sys/net/netfilter")
_DROPPED = {
    SPOOFED: (
        "pyswarm_agent_spoofed_packets",
        "Packets of tasks that were dropped because their source address is not the task's",
    ),
    PLAINTEXT: (
        "pyswarm_agent_plaintext_packets",
        "Packets of encrypted networks that were dropped because they were not encrypted",
    ),
    CLOSED: (
        "pyswarm_agent_control_plane_refusals",
        "Packets of tasks to closed ports of the control plane that were refused",
    ),
    METADATA: (
        "pyswarm_agent_metadata_refusals",
        "Packets of tasks to metadata addresses that were refused",
    ),
}
"""By the counter of dropped packets, its metric and help text."""
_CONNTRACK = {
    "count": "Connections that the host's namespace tracks",
    "max": "Connections that the host's namespace can track; packets of further ones are dropped",
}
_FORWARD_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
_CHECK_BUCKETS = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1,
    2.5,
    5,
    10,
    30,
)
_SYNC_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
_PHASE_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class TaskMetrics:
    """A `TaskObserver` that measures the phases of tasks' starts, and their checks."""

    def __init__(self, registry: CollectorRegistry, restarts: Restarts) -> None:
        self._restarts = restarts
        self._seconds = Histogram(
            "pyswarm_agent_task_phase_seconds",
            "Duration of the phases of a task's start",
            ["phase"],
            buckets=_PHASE_BUCKETS,
            registry=registry,
        )
        self._checks = Counter(
            "pyswarm_agent_checks_total",
            "Health and readiness checks of tasks, by kind and result",
            ["kind", "result"],
            registry=registry,
        )
        self._check_seconds = Histogram(
            "pyswarm_agent_check_seconds",
            "Duration of health and readiness checks",
            ["kind"],
            buckets=_CHECK_BUCKETS,
            registry=registry,
        )

        self._results: dict[tuple[str, str], Counter] = {}
        self._durations: dict[str, Histogram] = {}

    def moved(self, before: Record, after: Record) -> None:
        """See `TaskObserver`."""
        self._restarts.moved(before, after)
        if after.ready_at != before.ready_at:
            self._seconds.labels("prepare").observe(seconds(after.ready_at - after.accepted_at))
        if after.started_at != before.started_at:
            self._seconds.labels("start").observe(seconds(after.started_at - after.ready_at))

    def checked(self, kind: str, outcome: Outcome, duration_s: float) -> None:
        """See `CheckObserver`."""
        # `labels` takes longer than what it returns: its children are kept.
        result = "success" if outcome.exit_code == 0 else "failure"
        key = (kind, "none" if outcome.exit_code < 0 else result)
        if (count := self._results.get(key)) is None:
            count = self._results[key] = self._checks.labels(*key)
        count.inc()
        if (durations := self._durations.get(kind)) is None:
            durations = self._durations[kind] = self._check_seconds.labels(kind)
        durations.observe(duration_s)


class NameQueries:
    """Counts the queries to tasks' resolvers."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._queries = Counter(
            "pyswarm_agent_names_queries_total",
            "DNS queries of tasks, by outcome",
            ["outcome"],
            registry=registry,
        )
        self._seconds = Histogram(
            "pyswarm_agent_names_forward_seconds",
            "Response time of other name servers",
            buckets=_FORWARD_BUCKETS,
            registry=registry,
        )

    def asked(self, outcome: str) -> None:
        """See `Tally`."""
        self._queries.labels(outcome).inc()

    def forwarded(self, seconds: float) -> None:
        """See `Tally`."""
        self._seconds.observe(seconds)


class NetworkSyncs:
    """A `NetworkObserver` that counts and measures."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._seconds = Histogram(
            "pyswarm_agent_network_sync_seconds",
            "Duration of configuring the kernel's network",
            buckets=_SYNC_BUCKETS,
            registry=registry,
        )
        self._healed = Counter(
            "pyswarm_agent_network_drifts_healed_total",
            "Differences of the kernel's network from the desired state that were corrected",
            registry=registry,
        )

    def synced(self, duration_s: float) -> None:
        """See `NetworkObserver`."""
        self._seconds.observe(duration_s)

    def healed(self, drifts: int) -> None:
        """See `NetworkObserver`."""
        self._healed.inc(drifts)


class ContainerMetrics:
    """Samples the containers at each scrape. `node` is the name of this node."""

    def __init__(self, sampler: Sampler, restarts: Restarts, node: str) -> None:
        self._sampler = sampler
        self._restarts = restarts
        self._node = node

    def text(self, *, openmetrics: bool) -> list[bytes]:
        """Their metrics, in parts. Called in the thread of the scrape."""
        readings = [
            Reading(
                record,
                sample.stats,
                sample.details or Details(),
                sample.traffic,
                self._restarts.of(record),
            )
            for record, sample in self._sampler.sample(SCRAPE_AGE_MAX, details=True)
        ]
        return exposition(readings, self._node, openmetrics=openmetrics)


class ImageMetrics:
    """Counts the images that are removed, and reads how full their disk is."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._removed = Counter(
            "pyswarm_agent_images_removed_total",
            "Images, and layers without an image, that were removed, by reason",
            ["reason"],
            registry=registry,
        )
        self._bytes = Counter(
            "pyswarm_agent_images_removed_bytes_total",
            "Bytes of the images that were removed, by reason",
            ["reason"],
            registry=registry,
        )
        self._used = Gauge(
            "pyswarm_agent_image_disk_used_ratio",
            "Share of the bytes or inodes of the images' disk that is in use",
            registry=registry,
        )
        self._full = Gauge(
            "pyswarm_agent_image_disk_full",
            "1 while the node gets no task whose image it lacks, because its disk is full",
            registry=registry,
        )
        for reason in ("age", "pressure", "prune"):
            self._removed.labels(reason)

    def follow(self, collector: ImageCollector) -> None:
        """See `Observer`."""
        self._used.set_function(lambda: collector.used.percent / 100 if collector.used else 0.0)
        self._full.set_function(lambda: float(bool(collector.disk.reason)))

    def removed(self, reason: str, freed: int) -> None:
        """See `Observer`."""
        self._removed.labels(reason).inc()
        self._bytes.labels(reason).inc(max(0, freed))


class AgentCollector(Collector):
    """Reads worker, networks and session at each scrape."""

    def __init__(
        self,
        worker: Worker,
        overlays: Overlays,
        session: Session,
        dataplane: Dataplane,
        *,
        streams: Streams,
        measuring: Measuring,
    ) -> None:
        self._streams = streams
        self._measuring = measuring
        self._network = dataplane.parts
        self._worker = worker
        self._overlays = overlays
        self._session = session

    def collect(self) -> Iterable[Metric]:
        """See prometheus_client."""
        tasks = GaugeMetricFamily("pyswarm_agent_tasks", "Tasks on this node", labels=["state"])
        tally = Tally(record.state for record in self._worker.records.values())
        for state in TaskState:
            if tally[state]:
                tasks.add_metric([state.word], tally[state])
        yield tasks
        yield GaugeMetricFamily(
            "pyswarm_agent_streams",
            "Byte streams (exec, attach, cp, export, port-forward) that are open to tasks of this"
            " node",
            value=self._streams.open,
        )
        yield GaugeMetricFamily(
            "pyswarm_agent_session_connected",
            "1 if the session with the leader is established",
            value=int(self._session.connected),
        )
        yield GaugeMetricFamily(
            "pyswarm_agent_network_revision",
            "Revision of the newest assignment of which the kernel is configured",
            value=self._overlays.programmed,
        )
        for counter, (name, text) in _DROPPED.items():
            yield CounterMetricFamily(name, text, value=self._network.filter.dropped(counter))
        paths = GaugeMetricFamily(
            "pyswarm_agent_path_mtu_bytes",
            "Largest packet that reaches another host unfragmented",
            labels=["peer"],
        )
        for peer, size in self._network.path_mtu.measured.items():
            paths.add_metric([peer], size)
        yield paths
        yield from self._fast_path()
        yield from self._volumes()
        for name, text in _CONNTRACK.items():
            path = _NETFILTER / f"nf_conntrack_{name}"
            if path.exists():
                yield GaugeMetricFamily(
                    f"pyswarm_agent_conntrack_{'entries' if name == 'count' else 'limit'}",
                    text,
                    value=int(path.read_text()),
                )

    def _volumes(self) -> Iterable[Metric]:
        """Of the largest ones: names of volumes are chosen by users."""
        size = GaugeMetricFamily(
            "pyswarm_agent_volume_bytes", "Bytes that a volume uses here", labels=["volume"]
        )
        inodes = GaugeMetricFamily(
            "pyswarm_agent_volume_inodes", "Inodes that a volume uses here", labels=["volume"]
        )
        found = self._measuring.measured.values()
        largest = nlargest(VOLUME_SERIES_MAX, found, key=lambda one: one[1].bytes)
        for name, usage in largest:
            size.add_metric([name], usage.bytes)
            inodes.add_metric([name], usage.inodes)
        yield size
        yield inodes

    def _fast_path(self) -> Iterable[Metric]:
        use = self._network.fast_path.use
        yield GaugeMetricFamily(
            "pyswarm_agent_fast_path_on",
            "1 unless the fast path is off, or the kernel lacks it",
            value=int(use.on),
        )
        yield GaugeMetricFamily(
            "pyswarm_agent_fast_path_networks",
            "Networks with the fast path on this host",
            value=use.networks,
        )
        yield GaugeMetricFamily(
            "pyswarm_agent_fast_path_interfaces",
            "Interfaces of tasks with rules of the fast path",
            value=use.interfaces,
        )
