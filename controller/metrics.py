"""A controller's metrics for Prometheus. SHELL: counters are kept, gauges are read when scraped.

A scrape runs in the metrics server's thread, so it reads single values and copies of lists only.
"""

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from controller.brain.allocator.usage import usage
from pyswarm_core.decision import EventKind
from pyswarm_core.state import State
from pyswarm_core.states import NodeState, TaskState, UpdateState
from pyswarm_core.views import Event

_LATENCIES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)


class SessionState(Protocol):
    """What the metrics read of an agent's session."""

    @property
    def behind(self) -> int:
        """How many revisions that were sent the agent has yet to acknowledge."""
        ...


class StreamState(Protocol):
    """What the metrics read of the streams to agents."""

    @property
    def operations(self) -> dict[str, int]:
        """How many are open, by what was requested."""
        ...


class LeaderState(Protocol):
    """What the metrics read of the leader's loop."""

    @property
    def state(self) -> State: ...

    @property
    def queue_depths(self) -> dict[str, int]:
        """The lengths of queues, by name."""
        ...

    @property
    def quarantine(self) -> Sized:
        """The objects in quarantine."""
        ...

    @property
    def sessions(self) -> Iterable["SessionState"]:
        """The connected agents."""
        ...

    @property
    def tunnels(self) -> StreamState:
        """The streams to agents."""
        ...

    @property
    def tasks_withheld(self) -> int:
        """How many tasks are withheld by the barrier."""
        ...


class Metrics:
    """A controller's metrics in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.decide_seconds = self._histogram("decide_seconds", "Time of one decision")
        self.commit_seconds = self._histogram("commit_seconds", "Time of one commit to the store")
        self.registry_serving = self._gauge(
            "registry_serving", "1 while the fleet's registry on this host serves nodes"
        )
        self.load_seconds = self._gauge("load_seconds", "Time of the last load of the state")
        self.longest_pass_seconds = self._gauge(
            "longest_pass_seconds",
            "Longest CPU time of one pass of the event loop since the start",
        )
        self.is_leader = self._gauge("is_leader", "1 while this controller leads")
        self.statuses_total = self._counter("statuses_total", "Task statuses received from agents")
        self.store_errors_total = Counter(
            "pyswarm_controller_store_errors_total",
            "Failed requests to the store",
            ["error"],
            registry=self.registry,
        )
        self._add_audit()
        self.quarantines_total = Counter(
            "pyswarm_controller_quarantines_total",
            "Objects put into quarantine because a stage failed for them",
            ["stage"],
            registry=self.registry,
        )
        self.crash_loops_total = self._counter(
            "crash_loops_total", "Slots whose tasks began to fail again and again"
        )
        self.nodes_lost_total = self._counter("nodes_lost_total", "Nodes declared down")
        self.endpoint_lag_seconds = self._histogram(
            "endpoint_lag_seconds",
            "Time from the commit that changed endpoints until the last node acknowledged it",
        )
        self.endpoints_healed_total = self._counter(
            "endpoints_healed_total", "Full sets sent because an agent had other endpoints"
        )
        self.duplicate_allocations = self._gauge(
            "duplicate_allocations", "Allocations with two holders when this term began"
        )
        self.barriers_total = Counter(
            "pyswarm_controller_barriers_total",
            "Groups of task stops that waited for acknowledgements",
            ["outcome"],
            registry=self.registry,
        )

    def _add_audit(self) -> None:
        self.audit_records_total = Counter(
            "pyswarm_controller_audit_records_total",
            "Audit records made",
            ["class"],
            registry=self.registry,
        )
        self.audit_skipped_total = self._counter(
            "audit_skipped_total", "Refused requests without an audit record of their own"
        )
        self.audit_file_errors_total = self._counter(
            "audit_file_errors_total", "Failed writes to the file of the audit log"
        )

    def count(self, events: Iterable[Event]) -> None:
        """Count the events of a decision."""
        looping = (event.count for event in events if event.kind == EventKind.CRASH_LOOP)
        self.crash_loops_total.inc(sum(looping))

    def watch(self, leading: Callable[[], LeaderState | None]) -> None:
        """Export the loop's gauges while this controller leads."""
        self.registry.register(_Leading(leading))

    def _histogram(self, name: str, text: str) -> Histogram:
        return Histogram(
            f"pyswarm_controller_{name}", text, buckets=_LATENCIES, registry=self.registry
        )

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"pyswarm_controller_{name}", text, registry=self.registry)

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(f"pyswarm_controller_{name}", text, registry=self.registry)


class _Leading(Collector):
    def __init__(self, leading: Callable[[], LeaderState | None]) -> None:
        self._leading = leading

    def collect(self) -> Iterator[GaugeMetricFamily]:
        loop = self._leading()
        if loop is None:
            return
        state = loop.state
        nodes = Tally(node.status.state for node in list(state.nodes.values()))
        yield _by("nodes", "Nodes by state", "state", ((s.value, nodes[s]) for s in NodeState))
        tasks = list(state.tasks_in_state)
        counts = ((s.word, tasks[s]) for s in TaskState)
        yield _by("tasks", "Tasks by state", "state", counts)
        yield _by("queue_depth", "Length of a queue", "queue", loop.queue_depths.items())
        streams = list(loop.tunnels.operations.items())
        yield _by("streams", "Open streams to agents", "operation", streams)
        yield _one("services", "Services", len(state.services))
        updates = Tally(
            service.update_status.state
            for service in list(state.services.values())
            if service.update_status is not None
        )
        yield _by(
            "updates",
            "Services by the state of their last update or rollback",
            "state",
            ((s.value, updates[s]) for s in UpdateState),
        )
        yield _one("services_unplaced", "Services with waiting tasks", len(state.unplaced))
        yield _one("quarantined", "Objects in quarantine", len(loop.quarantine))
        behind = [session.behind for session in loop.sessions]
        yield _one("sessions", "Agents connected", len(behind))
        yield _one(
            "sessions_behind", "Agents yet to acknowledge a revision", sum(map(bool, behind))
        )
        yield _by(
            "sessions_behind_revisions",
            "Agents that are at least this many revisions behind",
            "revisions",
            ((str(least), sum(by >= least for by in behind)) for least in (1, 10, 100, 1000)),
        )
        yield _one("tasks_withheld", "Tasks withheld by the barrier", loop.tasks_withheld)
        yield from _networks(state)


def _networks(state: State) -> Iterator[GaugeMetricFamily]:
    """How full each network is. Without free blocks and addresses, tasks wait."""
    blocks = GaugeMetricFamily(
        "pyswarm_controller_network_blocks",
        "Blocks of a network: held by nodes, holding virtual addresses, free",
        labels=["network", "use"],
    )
    addresses = GaugeMetricFamily(
        "pyswarm_controller_network_addresses",
        "Addresses of a network held by tasks and services",
        labels=["network", "use"],
    )
    for network in list(state.networks.values()):
        load = list(state.network_load.get(network.id, {}).values())
        try:
            found = usage(network, load, list(state.virtual_ips.get(network.id, {})))
        except ValueError:
            continue  # it is quarantined
        name = network.spec.name
        blocks.add_metric([name, "nodes"], found.blocks_of_nodes)
        blocks.add_metric([name, "services"], found.blocks_of_services)
        blocks.add_metric([name, "free"], found.blocks_free)
        addresses.add_metric([name, "tasks"], found.tasks)
        addresses.add_metric([name, "services"], found.services)
    yield blocks
    yield addresses


def _one(name: str, text: str, value: int) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"pyswarm_controller_{name}", text, value)


def _by(name: str, text: str, label: str, values: Iterable[tuple[str, int]]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"pyswarm_controller_{name}", text, labels=[label])
    for key, value in values:
        family.add_metric([key], value)
    return family
