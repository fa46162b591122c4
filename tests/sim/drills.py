"""Drills in calm weather, where times have bounds: a host dies, a leader dies, a day passes.

The numbers here are what is promised to users (README.md, docs/architecture.md), not the product's
own limits: a limit that is wrong by a factor must not move its own yardstick.
"""

from collections.abc import Callable, Iterator

from pyswarm_core.clock import HOUR, MILLISECOND, MINUTE, SECOND
from pyswarm_core.identity.certificates import EncryptionKey
from pyswarm_core.ids import NodeId, TaskId
from pyswarm_core.limits import LEADER_TTL
from pyswarm_core.objects import Service, Task
from pyswarm_core.states import NodeState, TaskState, ends_by_itself
from tests.sim.clock import Scheduler
from tests.sim.containers import is_container
from tests.sim.controllers import Machine
from tests.sim.hosts import Host
from tests.sim.marks import Marks
from tests.sim.options import Options
from tests.sim.placement import occupies
from tests.sim.rollout_states import is_new
from tests.sim.rules import Fail, Rule
from tests.sim.settled import Settled
from tests.sim.specs import given_up
from tests.sim.view import View
from tests.sim.volumes import waits_for_data

STEP = 50 * MILLISECOND
TAKEOVER = 3 * SECOND
"""From a leader's death until another leads."""
VERDICT = 2 * SECOND
"""From a host's death until the store has it as down: a heartbeat and a half of a second each, and
the word's way.
"""
VERDICT_UNPROBED = 4 * SECOND
"""The same where echoes are filtered: three heartbeats."""
REPLACED = 1 * SECOND
"""From a verdict until every task of the host has a successor with a node, or one that says why it
has none.
"""
AGAIN = 60 * SECOND
"""Until all is well again after a drill: the slowest image takes nine seconds to pull, an update
five per task.
"""
GRACE = 12 * SECOND
"""After a takeover, until every host has opened a session or was declared down."""
AWAKE = 5 * SECOND
"""After a skip, until whoever lost a lease by it leads again and has looked at what fell due."""
HALF_DAY = 12 * HOUR
KEYS_KEPT = 3
ROUND_TRIPS = 60
"""What a bound leaves to messages: so many of the run's mean latency."""


class Drills:
    """What is tried when a fleet has settled."""

    def __init__(
        self,
        scheduler: Scheduler,
        options: Options,
        view: View,
        settled: Settled,
        marks: Marks,
        fail: Fail,
        run: Callable[[int], None],
    ) -> None:
        self._scheduler = scheduler
        self._view = view
        self._settled = settled
        self._marks = marks
        self._fail = fail
        self._run = run
        self._way = int(ROUND_TRIPS * options.latency_ms * MILLISECOND)

    # A host dies

    def lose_host(self, hosts: list[Host]) -> None:
        """One loses power: soon it is down and its tasks have successors; later it returns."""
        alive = [host for host in hosts if host.up and host.node_id in self._view.nodes]
        if len(alive) < 2 or len(alive) != self._sessions():
            return
        host = max(alive, key=lambda one: (len(one.running()), one.number))
        node_id = host.node_id
        assert node_id is not None
        self._marks.hit("drill: a host died")
        before = [task for task in self._view.tasks_of_node(node_id).values() if self._kept(task)]
        host.lose_power()
        bound = VERDICT_UNPROBED if host.filters_echoes else VERDICT
        if not self._until(lambda: self._is_down(node_id), bound):
            self._fail(Rule.VERDICT, f"{host.name} is dead and not down after {bound / SECOND} s")
        if not self._until(lambda: not any(self._unreplaced(before)), REPLACED):
            for text in self._unreplaced(before):
                self._fail(Rule.REPLACEMENT, f"{REPLACED / SECOND} s after the verdict {text}")
        host.boot()
        self._settle_again()

    def _is_down(self, node_id: NodeId) -> bool:
        return self._view.nodes[node_id].status.state is NodeState.DOWN

    def _kept(self, task: Task) -> bool:
        """Whether it is to run on, and its service stays where it is."""
        service = self._view.services.get(task.service_id)
        return (
            service is not None
            and not service.removing
            and not service.spec.mode.per_node
            and not service.spec.mode.is_container  # it waits for its node
            and not waits_for_data(service, self._view)
            and not self._settled.is_restless(service)
            and task.state is TaskState.RUNNING
            and task.desired_state is TaskState.RUNNING
            and not ends_unreplaced(service, task, self._view.slots_of(service.id)[task.slot])
        )

    def _unreplaced(self, before: list[Task]) -> Iterator[str]:
        for task in before:
            slots = self._view.slots_of(task.service_id)
            successor = next((t for t in slots.get(task.slot, ()) if _is_desired(t)), None)
            if successor is None or successor.id == task.id:
                yield f"slot {task.slot} of {task.service_id} has no other task"
            elif not successor.node_id and not successor.detail.message:
                yield f"task {successor.id} waits and does not say why"

    # A leader dies

    def lose_leader(self, machines: list[Machine]) -> None:
        """Another leads soon, no host is declared down; later it returns."""
        alive = [machine for machine in machines if machine.up]
        leader = next((machine for machine in alive if machine.loop is not None), None)
        if leader is None or len(alive) < 2:
            return
        self._marks.hit("drill: a leader died")
        takeover = TAKEOVER + leader.lease_ttl - LEADER_TTL
        leader.kill()
        down = {node.id for node in self._view.nodes.values() if self._is_down(node.id)}
        if not self._until(lambda: any(m.loop is not None for m in machines), takeover):
            self._fail(Rule.TAKEOVER, f"nobody leads {takeover / SECOND} s after a leader's death")
        leader.boot()
        self._run(GRACE)
        self._settle_again()
        for node in self._view.nodes.values():
            if self._is_down(node.id) and node.id not in down:
                self._fail(Rule.NO_VERDICT, f"{node.description.hostname} lives and is down")

    # Days pass

    def skip_days(self, hosts: list[Host], edit: Callable[[NodeId], None]) -> None:
        """A host is lost for good; two half days pass, in which its node is edited, and a little
        more: only then its tasks are orphans.
        """
        self._lose_for_good(hosts)
        lost = [node_id for host in hosts if host.lost and (node_id := host.node_id)]
        lost = [node_id for node_id in lost if node_id in self._view.nodes]
        tasks = [t for i in lost for t in self._view.tasks_of_node(i).values()]
        left = [t.id for t in tasks if occupies(t) and not self._stays(t)]
        keys = self._keys()
        if left:
            self._marks.hit("drill: a day passed over a lost host")
        if keys:
            self._marks.hit("drill: a day passed over keys")
        for _ in range(2 if left or keys else 0):
            self.skip(HALF_DAY - MINUTE)
            for task_id in self._in_state(left, orphaned=True):
                self._fail(Rule.ORPHANS, f"task {task_id} is orphaned before a day has passed")
            for node_id in lost:
                edit(node_id)
            self._run(SECOND)
        if left or keys:
            self.skip(10 * MINUTE)
        for task_id in self._in_state(left, orphaned=False):
            self._fail(Rule.ORPHANS, f"task {task_id} of a lost host is no orphan after a day")
        self._check_keys(keys)

    def _stays(self, task: Task) -> bool:
        """Whether it is that of a container, or its data is there: it waits for its node."""
        service = self._view.services.get(task.service_id)
        if service is None or not _is_desired(task):
            return False
        return is_container(service) or waits_for_data(service, self._view, task)

    def _lose_for_good(self, hosts: list[Host]) -> None:
        alive = [host for host in hosts if host.up and host.running()]
        if len(alive) > 1 and alive[0].node_id in self._view.nodes:
            alive[0].lose_for_good()
            self._run(AWAKE)
            self._settle_again()

    def _in_state(self, task_ids: list[TaskId], *, orphaned: bool) -> Iterator[TaskId]:
        """Those that are orphans; or those that are none, and not forgotten either."""
        tasks = (self._view.tasks.get(task_id) for task_id in task_ids)
        for task in tasks:
            if task is not None and (task.state is TaskState.ORPHANED) is orphaned:
                yield task.id

    def skip(self, duration: int) -> None:
        """Let this much time pass at once, then all become well."""
        self._scheduler.skip(duration)
        self._run(AWAKE)
        self._settle_again()

    def _keys(self) -> tuple[EncryptionKey, ...]:
        cluster = self._view.cluster
        return cluster.encryption_keys if cluster else ()

    def _check_keys(self, before: tuple[EncryptionKey, ...]) -> None:
        now = self._keys()
        if before and now[0].created_at < self._scheduler.now - HALF_DAY - MINUTE:
            self._fail(Rule.KEYS, "the newest key is older than twelve hours")
        if before and now[0].number > before[0].number + 2:
            self._fail(Rule.KEYS, f"a day took {now[0].number - before[0].number} keys")
        if len(now) > KEYS_KEPT:
            self._fail(Rule.KEYS, f"{len(now)} keys are kept")

    # Inside

    def _sessions(self) -> int:
        return max((len(m.loop.sessions) for m in self._settled.machines if m.loop), default=0)

    def _until(self, done: Callable[[], bool], bound: int) -> bool:
        """Let time pass until it is so, at most that long; whether it came to be."""
        deadline = self._scheduler.now + bound + self._way
        while not done():
            if self._scheduler.now >= deadline:
                return False
            self._run(STEP)
        return True

    def _settle_again(self) -> None:
        if not self._until(lambda: not self._settled.unsettled(), AGAIN):
            for text in self._settled.unsettled():
                self._fail(Rule.SETTLED, f"{AGAIN / SECOND:.0f} s after a drill: {text}")


def ends_unreplaced(service: Service, task: Task, slot: list[Task]) -> bool:
    """Whether it is an outdated task beside a new one that ended and is not restarted: if it ends,
    none follows it.
    """
    new = [other for other in slot if is_new(service, other)]
    ended = bool(new) and ends_by_itself(new[-1].state) and given_up(service, new[-1])
    return ended and not is_new(service, task)


def _is_desired(task: Task) -> bool:
    return task.desired_state <= TaskState.RUNNING and task.state <= TaskState.RUNNING
