"""The cost of tasks that wait for a node, with and without other changes. SHELL.

The brain alone, without store and agents, on many nodes. Each figure is the processor time of all
decisions after one change.
"""

import statistics
import time
from collections.abc import Iterator

from msgspec.structs import replace

from bench.control_rig import fleet, service_spec
from bench.report import Figure
from controller.brain.decide import decide
from controller.leader.agenda import Agenda
from pyswarm_core.aio.system import RandomIds, SystemClock
from pyswarm_core.clock import SECOND, Instant
from pyswarm_core.decision import Writes
from pyswarm_core.ids import NetworkId, ServiceId
from pyswarm_core.objects import Block, Network, Service, TaskDetail, TaskStatus
from pyswarm_core.specs import NetworkSpec, Placement, ReplicatedMode, ServiceSpec
from pyswarm_core.state import State
from pyswarm_core.states import TaskState

SAMPLES = 7
NETWORKS = 1_000
SERVICES = 1_000
REPLICAS = 100_000
ROUNDS = 50
"""Limit of decisions after one change."""


def measure(quick: bool) -> Iterator[Figure]:
    """On 10,000 nodes."""
    nodes = 1_000 if quick else 10_000
    yield from _one_change(nodes)
    yield from _one_node(nodes)
    yield from _idle(nodes)


def _one_change(nodes: int) -> Iterator[Figure]:
    """A task fails while other services fit on no node."""
    brain = _Brain(nodes)
    brain.create(service_spec(0, 1_000))
    for index in range(1, SERVICES + 1):
        brain.create(_constrained(index) if index % 2 else _huge(index))
    brain.settle()
    failed = [brain.fail_one() for _ in range(SAMPLES)]
    name = f"{SERVICES:,} unplaceable services: one unrelated task fails"
    yield Figure(name, statistics.median(failed), "ms")


def _one_node(nodes: int) -> Iterator[Figure]:
    """A node changes while networks have blocks of many nodes."""
    brain = _Brain(nodes)
    numbers = [node.number for node in brain.state.nodes.values()]
    for index in range(NETWORKS):
        brain.occupy(index, numbers[index : index + 16])
    brain.settle()
    took = [brain.touch_node() for _ in range(SAMPLES)]
    yield Figure(f"{NETWORKS:,} networks: one node changes", statistics.median(took), "ms")


def _idle(nodes: int) -> Iterator[Figure]:
    """Nothing changes while replicas fit on no node."""
    brain = _Brain(nodes)
    brain.create(_huge(0, REPLICAS))
    took, rounds = brain.settle()
    name = f"{REPLICAS:,} unplaceable replicas"
    yield Figure(f"{name}: until nothing is left to decide", took, "ms")
    yield Figure(f"{name}: decisions until then, at most {ROUNDS}", rounds, "decisions", ROUNDS - 1)
    took, rounds = brain.wait(60)
    yield Figure(f"{name}: a quiet minute", took, "ms", note=f"{rounds} decisions")


def _huge(index: int, replicas: int = 1) -> ServiceSpec:
    """Reserves more memory than any node has."""
    spec = service_spec(index, replicas)
    template = spec.task_template
    reservations = replace(template.resources.reservations, memory_bytes=1 << 48)
    resources = replace(template.resources, reservations=reservations)
    mode = ReplicatedMode(replicas=replicas)
    return replace(spec, task_template=replace(template, resources=resources), mode=mode)


def _constrained(index: int) -> ServiceSpec:
    """A constraint that no node matches."""
    spec = service_spec(index, 1)
    placement = Placement(constraints=(f"node.labels.rack=={index}",))
    return replace(spec, task_template=replace(spec.task_template, placement=placement))


class _Brain:
    """A state, and the decisions about it."""

    def __init__(self, nodes: int) -> None:
        self.state: State = fleet(nodes)
        self._ids = RandomIds()
        self._agenda = Agenda()
        self._now = SystemClock().now()
        self._agenda.add_nodes(self.state.nodes)

    def create(self, spec: ServiceSpec) -> None:
        """Add a service, without validation."""
        service = Service(id=ServiceId(self._ids.draw(1)[0]), spec=spec, spec_version=1)
        self._apply(Writes(objects=(service,)))

    def occupy(self, index: int, numbers: list[int]) -> None:
        """Add a network on which each of these nodes has a task."""
        network = Network(
            id=NetworkId(self._ids.draw(1)[0]),
            spec=NetworkSpec(name=f"network{index}"),
            subnet=f"10.{index >> 8}.{index & 255}.0/24",
            vni=4096 + index,
            blocks=tuple(
                Block(cidr=f"10.{index >> 8}.{index & 255}.{at * 8}/29", node_number=number)
                for at, number in enumerate(numbers)
            ),
        )
        nodes = [self.state.node_of_number[number] for number in numbers]
        self.state.network_load[network.id] = dict.fromkeys(nodes, 1)
        self.state.apply(Writes(objects=(network,)))

    def fail_one(self) -> float:
        """Fail a task of the first service; return the ms of the decisions."""
        service_id = next(iter(self.state.services))
        tasks = [task for task in self.state.tasks_of_service(service_id) if task.state < 8]
        status = TaskStatus(tasks[0].id, TaskState.FAILED, TaskDetail(exit_code=1))
        self.state.observe(tasks[0].node_id, (status,), self._now)
        self._agenda.add_services((service_id,))
        return self.settle()[0]

    def touch_node(self) -> float:
        """Change an irrelevant field of a node; return the ms of the decisions."""
        node = next(iter(self.state.nodes.values()))
        self._apply(Writes(objects=(replace(node, updated_at=self._now),)))
        return self.settle()[0]

    def wait(self, seconds: int) -> tuple[float, int]:
        """Advance the time by seconds; return ms and number of the decisions."""
        took, rounds = 0.0, 0
        for _ in range(seconds):
            self._now = Instant(self._now + SECOND)
            self._agenda.fall_due(self._now)
            self._agenda.explain(self.state, self._now)
            one, more = self.settle()
            took, rounds = took + one, rounds + more
        return took, rounds

    def settle(self) -> tuple[float, int]:
        """Decide until nothing is left; return ms and number of the decisions."""
        took_s, rounds = 0.0, 0
        while self._agenda and rounds < ROUNDS:
            began = time.process_time()
            dirty = self._agenda.take(self.state)
            decision = decide(self.state, dirty, self._now, self._ids)
            self._agenda.follow_up(dirty, decision)
            took_s += time.process_time() - began
            self.state.apply(decision.writes)
            rounds += 1
        return 1000 * took_s, rounds

    def _apply(self, writes: Writes) -> None:
        self._agenda.add_writes(writes, self.state)
        self.state.apply(writes)
