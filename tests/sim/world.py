"""One run: a fleet, its users, its unrest, and the peace afterwards.

First everything may go wrong and only safety is asked for. Then faults stop, and within HEAL_S the
fleet must be what its users asked for; then it must be quiet.
"""

import gc
import logging
import random
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping
from functools import cached_property, partial

from agent.network.overlay.fake import Fabric
from agent.tasks.record import Record
from controller.leader import assignments
from controller.leader.tools import Decide
from controller.store.base import CompareFailed, Outcome, Txn
from pyswarm_core import limits
from pyswarm_core.clock import SECOND
from pyswarm_core.ids import NodeId, TaskId
from pyswarm_core.indexes.tasks import is_desired
from pyswarm_core.kinds import NODE
from pyswarm_core.objects import NodeResources, Service
from pyswarm_core.states import Availability, Capability, NodeState
from pyswarm_core.volumes.limits import EVACUATION_RETRY
from tests.sim.askers import Askers
from tests.sim.audited import bounded
from tests.sim.brain import Brain
from tests.sim.checked import StoppedFor
from tests.sim.clock import Scheduler, Spinning
from tests.sim.connections import NobodyIsSentToTheStopping, stale
from tests.sim.controllers import KEYS, ControllerWorld, Machine, SimController, deciding_by
from tests.sim.copying import Copier
from tests.sim.dependencies import started_too_early
from tests.sim.drained import DrainedFirst
from tests.sim.drills import Drills
from tests.sim.faults import Faults
from tests.sim.hostile import Liar
from tests.sim.hosts import Host, HostWorld, generic_of
from tests.sim.marks import Marks
from tests.sim.net import Net
from tests.sim.options import Options, options_of
from tests.sim.paused import PauseDrill
from tests.sim.process import Process
from tests.sim.rand import Seed, SeededIds
from tests.sim.restart_drill import RestartDrill
from tests.sim.restarts import Windows
from tests.sim.result import Result
from tests.sim.rollout_drill import RolloutDrill
from tests.sim.rules import Fail, Rule, Violation
from tests.sim.safety import laws
from tests.sim.settled import Settled, unreachable
from tests.sim.stops import Stops
from tests.sim.store import Etcd
from tests.sim.story import Story
from tests.sim.updates import Updates
from tests.sim.view import Change, View
from tests.sim.workload import Users

HEAL_S = 400
LOOK_EVERY_S = 5
QUIET_S = 8
GIB = 1 << 30


class Stopped(Exception):
    """Something is wrong: there is no point in going on."""


class World:
    """Everything of one run."""

    def __init__(self, number: int, *, options: Options | None = None, trace: bool = False) -> None:
        self.seed = Seed(number)
        self.options = options or options_of(self.seed.stream("options"))
        self.scheduler = Scheduler()
        self.marks = Marks()
        self.story = Story(self.scheduler, trace=trace)
        self.violations: list[Violation] = []
        self.net = Net(self.scheduler, self.seed.stream("net"), self.options)
        self.etcd = Etcd(self.scheduler, self.marks)
        self.etcd.observer = self
        self.fabric = Fabric()
        self.view = View(self.etcd.kv)
        self.started: dict[TaskId, str] = {}
        self._down: dict[NodeId, None] = {}
        names = tuple(f"c{n}" for n in range(1, self.options.controllers + 1))
        base = ControllerWorld(
            self.scheduler, self.net, self.etcd, self.seed, self.options, names, self._crashed,
            self._copy,
        )  # fmt: skip
        self.machines = [Machine(name, base) for name in names]
        self.hosts = self._make_hosts(names)
        self.users = Users(self.seed.stream("users"), self.options, self.net, self.view)
        self.users.machines = self.machines
        self.users.marks = self.marks
        self.users.on_promise = self._promised
        if self.options.hostile:
            self._make_liar(self.hosts[-1])
        self.faults = Faults(
            self.scheduler, self.seed, self.options, self.marks, self.etcd, self.net
        )
        self.faults.machines, self.faults.hosts = self.machines, self.hosts
        self.faults.tell = self.users.tell = self.story.tell
        self.stops = Stops(self.marks, self.users.asked.stops)
        self.users.askers = Askers(self.net, self.hosts, self.stops, self.marks, self.story.tell)
        self._windows = Windows(self.stops)
        self._updates = Updates(self.marks, self.users.remember, self.stops)
        self._stopped_for = StoppedFor(self.hosts, self.marks, self.stops)
        self._drained = DrainedFirst(self.scheduler, self.hosts, self.marks)
        self._barrier = NobodyIsSentToTheStopping(
            self.scheduler, self.machines, self.hosts, self.marks, self.stops
        )
        is_small = self.options.small_transactions
        self._puts = 2 if is_small else limits.TXN_PUTS
        # With it, what agents are told comes in many parts.
        most = 1_000 if is_small else limits.ASSIGNMENT_BYTES
        assignments.ASSIGNMENT_BYTES = most  # type: ignore[attr-defined]
        by_name = {host.name: host for host in self.hosts}
        self.laws = laws(self.users.asked, by_name, self._puts, self.marks)
        self.laws += [self._barrier, self.stops]

    # Called from everywhere

    def fail(self, rule: Rule, text: str) -> None:
        """A rule is broken."""
        self.violations.append(Violation(rule, text))
        self.story.tell("LAW", f"{rule.name}: {text}")
        self.scheduler.stop()

    @cached_property
    def _copier(self) -> Copier:
        return Copier(self.net, self.hosts, self.seed.stream("copier"), self.marks)

    async def _copy(self, name: str, controller: SimController) -> None:
        await self._copier.run(name, controller)

    def _crashed(self, text: str) -> None:
        self.fail(Rule.CRASH, text)

    def arriving(self, client: Process, txn: Txn) -> None:
        """See `Observer`."""
        leading = [machine for machine in self.machines if machine.loop is not None]
        if len(leading) > 1:
            self.marks.hit("two controllers believed they led")

    def applied(self, client: Process, txn: Txn, outcome: Outcome) -> None:
        """See `Observer`."""
        if isinstance(outcome, CompareFailed):
            self._refused(client)
            return
        change = self.view.take(client, txn, outcome)
        for law in self.laws:
            for problem in law.broken_by(change, self.view):
                self.fail(law.rule, f"revision {change.revision} by {client.name}: {problem}")
        self._tell_change(change)
        if any(machine.loop.tasks_withheld for machine in self.machines if machine.loop):
            self.marks.hit("stop waited until nobody sends connections to it")
        if any(put.key == KEYS.leader for put in txn.puts):
            self._new_term(client)
        machine = next((m for m in self.machines if m.process is client), None)
        self.faults.committed(machine, txn, outcome)

    # Phases

    def run(self) -> Result:
        """All of it."""
        handler = _Listener(self.fail)
        watched = logging.getLogger("controller")
        watched.addHandler(handler)
        propagate, watched.propagate = watched.propagate, False
        agent_log = logging.getLogger("agent")
        level = agent_log.level
        agent_log.setLevel(logging.CRITICAL)
        brains = {machine.name: self._brain(machine) for machine in self.machines}
        try:
            with bounded(self._puts), deciding_by(brains):
                self._phases()
        except Stopped:
            pass
        except Spinning as error:
            self.fail(Rule.ENDLESS, str(error))
        finally:
            watched.removeHandler(handler)
            watched.propagate = propagate
            agent_log.setLevel(level)
        return self._result()

    def end(self) -> None:
        """Every process dies; what their coroutines do when collected is nobody's business."""
        processes = [m.process for m in self.machines] + [h.process for h in self.hosts]
        for process in processes:
            if process is not None:
                process.kill()

    def _phases(self) -> None:
        for machine in self.machines:
            machine.boot()
        for host in self.hosts:
            host.boot()
        users = self.seed.stream("users/when")

        def act() -> None:
            if self.scheduler.elapsed < self.options.seconds * SECOND:
                self.users.act()
                self.scheduler.after(users.exponential(self.options.request_every_s * 1000), act)

        self._pass(2 * SECOND)
        if self.options.request_every_s:
            act()
        self._skew_clocks()
        self.faults.begin()
        self._pass(self.options.seconds * SECOND)
        self.story.tell("----", "faults stop")
        self.faults.heal()
        for host in self.hosts:
            if host.liar is not None:
                host.liar.honest = True
                host.kill_agent()  # its next hello puts right what it said of itself
                host.boot()
        self._tidy()
        self._heal()

    def _heal(self) -> None:
        settled = Settled(self.view, self.machines, self.hosts, self.users.asked, self.stops)
        missing: list[str] = []
        for _ in range(HEAL_S // LOOK_EVERY_S):
            self._pass(LOOK_EVERY_S * SECOND)
            self._tidy()
            missing = settled.unsettled()
            if not missing:
                break
        if missing:
            for text in missing:
                self.fail(Rule.SETTLED, f"{HEAL_S} s after the last fault: {text}")
            raise Stopped
        self.story.tell("----", "settled")
        for text in unreachable(self.view, self.hosts, self.fabric):
            self.fail(Rule.REACHABLE, f"after healing: {text}")
        if not settled.restless():
            self._be_quiet(settled)
        else:
            self._be_fresh()
        self._drill(settled)

    def _be_quiet(self, settled: Settled) -> None:
        moves = any(node.spec.move_volumes for node in self.view.nodes.values())
        self._pass(EVACUATION_RETRY + 2 * SECOND if moves else 2 * QUIET_S * SECOND)
        revision = self.etcd.kv.revision
        self._pass(QUIET_S * SECOND)
        if self.etcd.kv.revision != revision:
            now = self.etcd.kv.revision
            self.fail(Rule.QUIET, f"the store went from revision {revision} to {now}")
        ids = SeededIds(self.seed.stream("ids/quiet"))
        for text in (*settled.undecided(self.scheduler.now, ids), *settled.drifted()):
            self.fail(Rule.QUIET, f"all is quiet, but {text}")

    def _be_fresh(self) -> None:
        """Where containers come and go: no host sends for long to one that is gone."""
        before = stale(self.hosts)
        self._pass(limits.BARRIER_MAX + SECOND)
        for host, key, task_id in sorted(before & stale(self.hosts)):
            text = f"{host} has sent connections for {key} to {task_id} since it was gone"
            self.fail(Rule.STALE, text)

    def _drill(self, settled: Settled) -> None:
        options = self.options
        drills = Drills(
            self.scheduler, options, self.view, settled, self.marks, self.fail, self._pass
        )
        if options.host_drill:
            self.story.tell("----", "a host dies")
            drills.lose_host(self.hosts)
        if options.leader_drill:
            self.story.tell("----", "a leader dies")
            drills.lose_leader(self.machines)
        if options.rollout_drill:
            self.story.tell("----", "a service is updated")
            chance = self.seed.stream("rollout drill")
            rollout = RolloutDrill(
                settled, self.users, self._updates, chance, self.marks, self.fail
            )
            rollout.roll_out(lambda: self.scheduler.now, self._pass)
        if options.restart_drill:
            self.story.tell("----", "a container dies again and again")
            drill = RestartDrill(self.view, settled, self.hosts, self.marks, self.fail)
            drill.die_again_and_again(lambda: self.scheduler.now, self._pass, drills.skip)
        if options.pause_drill:
            self.story.tell("----", "a node is paused")
            chance = self.seed.stream("pause drill")
            pause = PauseDrill(self.view, self.users, chance, self.marks, self.fail)
            pause.pause_one(lambda: self.scheduler.now, self._pass)
        if options.days:
            self.story.tell("----", "days pass")
            drills.skip_days(self.hosts, self._edit_node)

    def _edit_node(self, node_id: NodeId) -> None:
        node = self.view.nodes[node_id]
        labels = {**node.spec.labels, "edited": str(node.version.index)}
        self.users.set_node(node, node.spec.availability, labels)

    def _tidy(self) -> None:
        """What operators do after a bad day: they remove the dead and use the living."""
        for host in self.hosts:
            node = self.view.nodes.get(host.node_id) if host.node_id else None
            if node is None:
                continue
            if host.lost and node.status.state is NodeState.DOWN and host.number % 2:
                self.users.remove_node(node)
                host.removed = True

    def _pass(self, duration: int) -> None:
        self.scheduler.run_until(self.scheduler.now + duration)
        if self.violations:
            raise Stopped

    def _skew_clocks(self) -> None:
        chance = self.seed.stream("skew")
        for machine in self.machines:
            machine.skew = int(chance.uniform(-1, 1) * self.options.clock_skew_s * SECOND)

    # Parts

    def _make_hosts(self, controllers: tuple[str, ...]) -> list[Host]:
        world = HostWorld(
            self.scheduler,
            self.net,
            self.fabric,
            self.seed,
            controllers,
            lambda: self.view.cluster.worker_token if self.view.cluster else "",
            self._crashed,
            self._on_start,
            self._on_stop,
            self._on_kill,
        )
        chance = self.seed.stream("hosts")
        kernels = self.seed.stream("kernels")
        lacking = 0.15 if self.options.encryption else 0.0
        hosts = [
            Host(
                number,
                world,
                NodeResources(
                    nano_cpus=chance.choice((1, 2, 4)) * 1_000_000_000,
                    memory_bytes=chance.choice((1, 2, 8)) * GIB,
                    generic_resources=generic_of(number),
                ),
                [capability for capability in Capability if kernels.hits(lacking)],
                self.options.max_tasks,
            )
            for number in range(1, self.options.hosts + 1)
        ]
        for host in hosts:
            host.filters_echoes = chance.hits(self.options.echoes_filtered)
        return hosts

    def _make_liar(self, host: Host) -> None:
        chance = self.seed.stream("liar")

        def own() -> Mapping[TaskId, Record]:
            return host.worker.records if host.up and host.worker else {}

        host.liar = Liar(chance, self.view, own, lambda: host.node_id)

    def _brain(self, machine: Machine) -> Decide:
        chance = self.seed.stream(f"brain/{machine.name}")
        tell = partial(self.story.tell, machine.name)
        cost = self.options.decision_cost
        updates, windows = self._updates, self._windows
        brain = Brain(chance, self.marks, tell, self.fail, updates, windows=windows, cost=cost)
        return brain.decide

    def _on_start(self, host: str, task_id: TaskId) -> None:
        if task_id in self.started:
            text = f"task {task_id} was started on {self.started[task_id]}, now on {host}"
            self.fail(Rule.STARTED_ONCE, text)
        for text in started_too_early(task_id, self.view):
            self.fail(Rule.DEPENDENCIES, text)
        self.started[task_id] = host
        self.story.tell(host, f"starts {task_id[:6]}")

    def _on_stop(self, task_id: TaskId) -> None:
        self.story.tell("host", f"stops {task_id[:6]}")
        for problem in self._barrier.stopping(task_id, self.view):
            self.fail(Rule.STOPS_WAIT, problem)
        for problem in self._drained.stopping(task_id, self.view):
            self.fail(Rule.DRAINED, problem)
        for problem in self._stopped_for.stopping(task_id, self.view):
            self.fail(Rule.STOPPED_FOR, problem)

    def _on_kill(self, task_id: TaskId) -> None:
        self.marks.hit("task was killed for ignoring its stop signal")

    def _promised(self, service: Service) -> None:
        stored = self.view.services.get(service.id)
        known = stored is not None and stored.version.index >= service.version.index
        if not known and service.id not in self.users.asked.removals:
            text = f"service {service.spec.name} was acknowledged and is not in the store"
            self.fail(Rule.SPECS, text)

    def _refused(self, client: Process) -> None:
        machine = next((m for m in self.machines if m.process is client), None)
        if machine is not None and machine.loop is not None:
            self.marks.hit("deposed leader's commit refused")
            self.story.tell(client.name, "commit refused")

    def _tell_change(self, change: Change) -> None:
        for _, node in change.of(NODE):
            if node is not None:
                self._tell_node(node.id, node.status.state, node.spec.availability)
        for old, task in change.tasks:
            if task is not None and (old is None or old.state is not task.state):
                self.story.tell(
                    "etcd", f"{task.id[:6]}.{task.slot} {task.state.word} {task.detail.error}"
                )

    def _new_term(self, client: Process) -> None:
        self.story.tell(client.name, "holds the leader key")
        for service in self.view.services.values():
            versions = {
                task.spec_version < service.template_version
                for tasks in self.view.slots_of(service.id).values()
                for task in tasks
                if is_desired(task)
            }
            if len(versions) == 2 and not service.removing:
                self.marks.hit("update interrupted by a leader change")

    def _tell_node(self, node_id: NodeId, state: NodeState, availability: Availability) -> None:
        host = next((h.name for h in self.hosts if h.node_id == node_id), node_id[:6])
        self.story.tell(host, f"is {state.value}, {availability.value}")
        if state is NodeState.DISCONNECTED:
            self.marks.hit("silent agent's host answered probes")
        if state is NodeState.DOWN:
            self.marks.hit("node declared down")
            self._down[node_id] = None
        elif state is NodeState.READY and node_id in self._down:
            self.marks.hit("node lost and returned")

    def _result(self) -> Result:
        return Result(
            seed=self.seed.number,
            violations=self.violations,
            digest=self.story.digest,
            story=self.story.lines(last=400) if self.violations else [],
            marks=dict(self.marks.counts),
            options=self.options,
            events=self.scheduler.events,
            seconds=self.scheduler.elapsed / SECOND,
        )


class _Listener(logging.Handler):
    """Hears of what the product itself calls an error: a controller logs none but for bugs."""

    def __init__(self, fail: Fail) -> None:
        super().__init__(logging.ERROR)
        self._fail = fail

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        trace = "".join(traceback.format_exception(error)) if error else ""
        self._fail(Rule.CRASH, f"{record.name}: {record.getMessage()} {error or ''}\n{trace}")


def simulate(
    number: int,
    *,
    options: Options | None = None,
    trace: bool = False,
    prepare: Callable[[World], None] = lambda world: None,
) -> Result:
    """Run one seed; `prepare` may do something to its world before it begins."""
    random.seed(number)  # an agent's session spreads its attempts by it
    # A run leaves cycles only, and its end collects them: what was there before is left alone.
    gc.freeze()
    thresholds = gc.get_threshold()
    gc.set_threshold(200_000, 20, 100)
    world = World(number, options=options, trace=trace)
    prepare(world)
    result = world.run()
    world.end()
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(action="ignore"):  # some never took a first step
            del world  # closes coroutines that were killed in mid-air
            gc.collect()
    finally:
        gc.set_threshold(*thresholds)
        logging.disable(logging.NOTSET)
        sys.unraisablehook = hook
    return result
