"""The leader's loop: apply requests, decide, commit, publish. SHELL; only it changes State.

Everything that changes the state is a synchronous slice on one event loop: agents' reports are
applied as they arrive, and one task runs turns. A turn applies users' changes and a decision,
commits, and only then answers users and notifies agents; `wait_saved` returns when the store has
all that was decided. Reports are written behind. An exception ends the loop and with it the term.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import msgspec

from controller.brain.allocator.encryption import rekeyed
from controller.brain.liveness.silence import TICK_PERIOD, heartbeat_period
from controller.brain.nodes import Greeted, managers, promoted
from controller.brain.orchestrator.quarantine import Failure, Quarantine, Stage
from controller.identity.audit import name_of
from controller.identity.caller import Caller
from controller.leader.agenda import Agenda
from controller.leader.assignments import Source, Templates
from controller.leader.audit.log import Auditor, Draft
from controller.leader.bindsources import BindSourceReports
from controller.leader.endpoints.barrier import Finished
from controller.leader.endpoints.tracker import EndpointTracker
from controller.leader.events import made
from controller.leader.events.history import EventHistory
from controller.leader.garbage import YoungObjects
from controller.leader.leadership import Mutation
from controller.leader.moves.progress import MoveProgress
from controller.leader.node_watch import NodeWatch
from controller.leader.overlays import OverlayMessages
from controller.leader.persistence.budget import FLUSH_CHUNKS, Budget
from controller.leader.persistence.loading import Loaded
from controller.leader.persistence.turn import Turn
from controller.leader.persistence.unsaved import Unsaved
from controller.leader.requests import Requests, store_full
from controller.leader.sessions import NodeSession, Sessions
from controller.leader.slicing import run_sliced
from controller.leader.tools import Tools
from controller.leader.tunnels import Tunnels
from controller.leader.watches import Watches
from controller.store.base import StoreFull
from pyswarm_core.aio import logs
from pyswarm_core.clock import Instant, after, seconds
from pyswarm_core.decision import Writes
from pyswarm_core.errors import Unavailable
from pyswarm_core.ids import NodeId, ServiceId
from pyswarm_core.images.disk import ImageDisk
from pyswarm_core.kinds import KINDS, Subscriber
from pyswarm_core.limits import DECISIONS_PER_TURN, SLICE_OBJECTS, STATUS_FLUSH_PERIOD
from pyswarm_core.objects import Node, NodeFault, Service, TaskStatus
from pyswarm_core.states import NodeState
from pyswarm_core.views import Event
from pyswarm_core.volumes.volume import Volume, VolumeId

T = TypeVar("T")

_log = logs.EventLog("controller.leader.loop")


class Loop:
    """One term's leader; `controller.leader.leadership.Leader` is its interface for the API."""

    def __init__(self, loaded: Loaded, tools: Tools) -> None:
        self.state = loaded.state
        self.quarantine = Quarantine()
        """The objects for which a stage failed, and which it leaves out."""
        self.sessions = Sessions(tools.controllers, tools.registries)
        self.tunnels = Tunnels(tools.ids, self.sessions.ask)
        self.watches = Watches(self.state, tools.clock)
        self.moves: dict[VolumeId, MoveProgress] = {}
        """How far the copies of volumes are that this leader makes."""
        self._tools = tools
        self._agenda = Agenda()
        self._young = YoungObjects()
        self._behind = loaded.unsaved
        self.events = EventHistory(loaded.events, self._behind.add_page)
        self.audit = Auditor(loaded.records, self._behind.add_records, tools.clock, tools.metrics)
        self._requests = Requests()
        self._work = asyncio.Event()
        self.sources = BindSourceReports(self.state, self.sessions, self._agenda, self._work)
        self._saved = asyncio.Event()
        self._ended = False
        self._flush_at = now = tools.clock.now()
        self._budget = Budget(now)
        self._hurries = True
        """Whether the last turn left more to decide than what agents reported."""
        self._tracker = EndpointTracker(self.state, tools.saver.revision, now)
        endpoints = self._tracker.endpoints
        overlays = OverlayMessages(self.state, endpoints)
        self.source = Source(self.state, endpoints, overlays, Templates(), self._tracker.barrier)
        """What agents' messages are made from."""
        self.node_watch = NodeWatch(
            self.state,
            self.heartbeat_period,
            tools.clock,
            echoes=tools.echoes,
            ask_agents=partial(self.sessions.probe, self.state),
            changed=self._node_moved,
        )
        self.silence = self.node_watch.liveness
        self._report(self.quarantine.tried(Stage.LOAD, (), self.state.unreadable))
        self._agenda.add_cluster()
        self._agenda.add_services(self.state.services)
        self._agenda.add_nodes(self.state.nodes)

    # For the API servers

    @property
    def revision(self) -> int:
        """The revision of the last commit."""
        return self._tools.saver.revision

    async def submit(self, mutation: Mutation[T], caller: Caller, verb: str = "") -> T:
        """See `Leader.submit`."""
        if self._ended:
            raise Unavailable("this controller no longer leads")
        if full := self._tools.saver.full:
            raise store_full(full)
        answer = self._requests.add(mutation, caller, verb)
        self._work.set()
        return await self._requests.answered(answer)

    def refuse(self, error: StoreFull) -> None:
        """The store takes no writes: fail all waiting requests at once."""
        self._requests.fail(store_full(error))

    async def wait_saved(self) -> None:
        """Return when the store has everything that was decided; read the state before an await."""
        while not self._saved.is_set():
            await self._saved.wait()
        if self._ended:
            raise Unavailable("this controller no longer leads")

    # For the dispatcher and metrics

    @property
    def heartbeat_period(self) -> int:
        """In nanoseconds, as agents receive it."""
        return heartbeat_period(self.state.cluster.spec.heartbeat_period, len(self.state.nodes))

    @property
    def queue_depths(self) -> dict[str, int]:
        """The lengths of queues, by name."""
        return {
            "requests": len(self._requests),
            "dirty_services": len(self._agenda.services),
            "dirty_nodes": len(self._agenda.nodes),
            "unsaved": len(self._behind),
        }

    @property
    def tasks_withheld(self) -> int:
        """How many tasks are withheld by the barrier."""
        return len(self._tracker.barrier)

    @property
    def acknowledged(self) -> Mapping[NodeId, int]:
        """The newest revision that each node has acknowledged in its session."""
        return self._tracker.barrier.acknowledged

    def heard(self, node_id: NodeId) -> None:
        """A message of the node arrived; if it was not ready, it is ready again."""
        if (node := self.state.nodes.get(node_id)) is not None:
            self.node_watch.heard(node)

    def hello(self, node_id: NodeId, greeted: Greeted) -> None:
        """The node has opened a session: it is ready, and reports this of itself."""
        self.heard(node_id)
        old = self.state.nodes[node_id]
        status = msgspec.structs.replace(old.status, addr=greeted.addr, addrs6=greeted.addrs6)
        node = msgspec.structs.replace(old, description=greeted.description, status=status)
        node = promoted(node, self.controllers, greeted.peer)
        if node == old:
            return
        self._observe_node(node)
        self.sessions.overlays_changed(self.source.overlays.moved(old, node))

    def faults(self, node_id: NodeId, faults: tuple[NodeFault, ...], disk: ImageDisk) -> None:
        """The node's faults and the disk of its images, as every heartbeat reports them."""
        if node := self.state.nodes.get(node_id):
            status = msgspec.structs.replace(node.status, faults=faults, image_disk=disk)
            if status != node.status:
                self._observe_node(msgspec.structs.replace(node, status=status))

    def observe_volumes(self, volumes: Sequence[Volume]) -> None:
        """Store volumes with what their nodes measured; no decision depends on that."""
        if volumes:
            writes = Writes(objects=tuple(volumes))
            self._behind.add(writes, self.state.apply(writes))

    def intake(self, node_id: NodeId, statuses: Iterable[TaskStatus]) -> None:
        """Apply the statuses that the node's agent reports; what changed is written behind."""
        self._tracker.reporting(statuses := tuple(statuses))
        now = self._tools.clock.now()
        changed = self.state.observe(node_id, statuses, now)
        if not changed:
            return
        self._tools.metrics.statuses_total.inc(len(changed))
        self._young.made(len(changed))
        self._behind.add_tasks(changed)
        services = dict.fromkeys(task.service_id for task in changed)
        self._agenda.add_services(services)
        self.sessions.tasks_observed(self.state, changed)
        self._tracker.observed(changed, now)
        self.events.record(made.reported_events(self.state, changed, now), now, self.revision)
        self.watches.touch(services)
        self._work.set()

    def opened(self, node_id: NodeId) -> NodeSession:
        """A new session of the node; it replaces an older one."""
        self._tracker.barrier.opened(node_id)
        return self.sessions.open(node_id)

    def acknowledge(self, session: NodeSession, revision: int, digest: int | None = None) -> bool:
        """The agent has applied everything up to this revision, if that was sent. Return whether
        its endpoints differ from those that were sent; then everything is sent again.
        """
        if revision > session.sent_revision:
            return False
        differs = digest is not None and session.verify(revision, digest)
        self._tools.metrics.endpoints_healed_total.inc(differs)
        if revision > session.acknowledged:
            session.acknowledged = revision
            self._release(self._tracker.barrier.heard(session.node_id, revision))
        return differs

    @property
    def controllers(self) -> tuple[str, ...]:
        """See `Leader.controllers`."""
        return self.sessions.controllers

    def controllers_changed(self, controllers: tuple[str, ...]) -> None:
        """These controllers run, the leader first: notify agents; their nodes are managers."""
        self.sessions.controllers = controllers
        self.sessions.settings_changed(self.state.cluster, self.heartbeat_period)
        for node in managers(self.state, controllers, self.sessions.peer_of):
            self._observe_node(node)

    # Turns

    async def run(self) -> None:
        """Run turns until cancelled, deposed or an error."""
        try:
            await run_sliced(self._tracker.begin(), self._tools.saver.yield_loop)
            while True:
                await self._wait()
                await self._turn()
                await self._tools.saver.yield_loop()
        finally:
            self._end()

    async def _wait(self) -> None:
        now = self._tools.clock.now()
        due = min(
            self._agenda.next_wake(),
            self.silence.next_deadline(),
            self._tracker.next_deadline(),
            after(now, TICK_PERIOD),
            self._flushes_at() if self._behind else after(now, TICK_PERIOD),
            self._budget.ready_at() if self._agenda else after(now, TICK_PERIOD),
        )
        if self._is_urgent() or self._requests or due <= now:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds(due - now)):
                await self._work.wait()

    def _flushes_at(self) -> Instant:
        return max(self._flush_at, self._budget.ready_at())

    def _is_urgent(self) -> bool:
        """Whether something is to be decided for another reason than reports of agents."""
        return self._agenda.is_urgent or (self._hurries and bool(self._agenda))

    async def _turn(self) -> None:
        self._work.clear()
        now = self._tools.clock.now()
        for node in self.node_watch.judge(now):
            self._tools.metrics.nodes_lost_total.inc()
            self._release(self._tracker.barrier.lost(node.id))
            self.sessions.close_node(node.id)  # it returns with a hello, which is validated
        turn = Turn()
        await self._serve_requests(turn, now)
        self._agenda.fall_due(now)
        self._agenda.explain(self.state, now)
        hurries = bool(turn.unsaved) or self._is_urgent()
        if self._agenda and (hurries or now >= self._budget.ready_at()):
            self._hurries = await self._decide(turn, now) and hurries
        if turn.unsaved:
            await self._save(turn.unsaved, is_report=not hurries)
        await self._publish(turn, now)
        self._saved.set()
        await self._send_endpoints()
        if self._behind and now >= self._flushes_at():
            await self._flush(now)

    async def _serve_requests(self, turn: Turn, now: Instant) -> None:
        for _ in range(len(self._requests)):
            await self._tools.saver.yield_loop()  # each may be as large as the limits of requests
            request = self._requests.take()
            if request.answer.done():
                continue
            try:
                decided = request.decided(self.state, now, self._tools.ids)
                writes, result = await run_sliced(decided, self._tools.saver.yield_loop)
            except Exception as error:  # the caller handles it: nothing has changed
                request.answer.set_exception(error)
                continue
            draft = self.audit.draft(self.state, writes, request)
            if await self._save_before(turn, writes, draft):
                self._requests.put_back(request)
                continue
            for part in writes.parts(SLICE_OBJECTS):
                turn.events += made.events_of(self.state, part, name_of(request.caller))
                self._agenda.add_writes(part, self.state)
                self._apply(turn, part)
                if part is not writes:
                    await self._tools.saver.yield_loop()
            self.audit.append(draft, turn.unsaved.add_records)
            turn.answers.append((request.answer, result))

    async def _decide(self, turn: Turn, now: Instant) -> bool:
        """Decide about what is dirty, slice by slice; return whether some of it is left."""
        for _ in range(DECISIONS_PER_TURN):
            dirty = self._agenda.take(self.state)
            dirty.quarantined = self.quarantine.undecided()
            decide = partial(self._tools.decide, self.state, dirty, now, self._tools.ids)
            with self._tools.metrics.decide_seconds.time():
                decision = decide()
            if await self._save_before(turn, decision.writes):
                decision = decide()
            self._agenda.follow_up(dirty, decision)
            turn.events += made.in_stacks(self.state, decision.events)
            self._tools.metrics.count(decision.events)
            self._report(self.quarantine.decided(dirty, decision))
            self._apply(turn, decision.writes)
            await self._tools.saver.yield_loop()
            if not decision.again:
                return False
        return True

    def _report(self, failures: Iterable[Failure]) -> None:
        """Record in events, metrics and the log what was quarantined."""
        for failure in failures:
            stage, name, reason = failure
            self._tools.metrics.quarantines_total.labels(stage.value).inc()
            _log.error("object.quarantined", stage=stage.value, object=name, reason=reason)
            self._record(made.quarantine_event(self.state, failure))

    def _apply(self, turn: Turn, writes: Writes) -> None:
        if not writes:
            return
        self._saved.clear()
        self.quarantine.forget(writes)
        self._tracker.deciding(writes)
        turn.applying(self.state, writes)
        turn.tasks += [self.state.tasks[task_id] for task_id in writes.removed_tasks]
        turn.networks += rekeyed(self.state, writes)
        turn.unsaved.add(writes, self.state.apply(writes))
        turn.tasks += writes.tasks
        self._young.made(len(writes.tasks))
        if writes.cluster is not None:
            self.node_watch.follow(self.heartbeat_period)
        for kind in KINDS.values():
            put, removed = writes.of(kind), writes.removed_of(kind)
            if put or removed:
                for subscriber in kind.subscribers:
                    _SUBSCRIBERS[subscriber](self, turn, put, removed)

    async def _save_before(self, turn: Turn, writes: Writes, draft: Draft | None = None) -> bool:
        """Save the turn so far if the writes have to wait for that: then they are made anew."""
        if waits := turn.holds_up(self.state, writes, draft):
            await self._save(turn.unsaved, is_report=False)
            turn.saved()
        return waits

    async def _save(self, unsaved: Unsaved, *, is_report: bool) -> None:
        self._behind.drop(unsaved)
        with self._tools.metrics.commit_seconds.time():
            written = await self._store(unsaved)
        if is_report:
            self._budget.spend(written, self._tools.clock.now())

    async def _flush(self, now: Instant) -> None:
        taken = self._behind.take(self._budget.chunks(FLUSH_CHUNKS, now))
        written = await self._store(taken)
        self.audit.flushed()
        self._budget.flushed(written, len(taken), self._tools.clock.now())
        if not self._behind:
            self._flush_at = after(now, STATUS_FLUSH_PERIOD)

    async def _store(self, unsaved: Unsaved) -> int:
        """Save what can be stored, quarantine what cannot; return how many bytes that took."""
        before = self._tools.saver.bytes_written
        failed = await self._tools.saver.save(self.state, unsaved)
        self._report(self.quarantine.tried(Stage.SAVE, unsaved.names(), failed))
        return self._tools.saver.bytes_written - before

    async def _publish(self, turn: Turn, now: Instant) -> None:
        telling = self._tracker.published(self.revision, self._tools.clock.now())
        if await run_sliced(telling, self._tools.saver.yield_loop):
            self.sessions.overlays_changed(self.source.overlays.mesh_changed())
        self.sessions.tasks_changed(t for t in turn.tasks if not self.source.is_withheld(t.id))
        self.sessions.services_changed(self.state, turn.services, turn.layers, turn.volumes)
        self.sessions.overlays_changed(self.source.overlays.changed(n.id for n in turn.networks))
        self.sessions.settings_changed(self.state.cluster, self.heartbeat_period)
        self.sources.send()
        self.events.record(turn.events, now, self.revision)
        self.audit.flushed()
        self._tools.callers_changed(turn.clusters, ())
        turn.answer()
        self.watches.touch((*turn.services, *(task.service_id for task in turn.tasks)))

    async def _send_endpoints(self) -> None:
        """Notify the sessions whose endpoints changed, if that is due, and end the waits that are
        over.
        """
        tracker, now = self._tracker, self._tools.clock.now()
        self._report(self.quarantine.sync(Stage.ENDPOINTS, self.source.failed))
        if now >= tracker.due:
            flushed = await run_sliced(tracker.flush(now), self._tools.saver.yield_loop)
            nodes = tracker.endpoints.nodes_of(flushed.networks)
            self.sessions.endpoints_changed(nodes, tracker.endpoints.sequence)
            self._release(flushed.finished)
        self._release(tracker.barrier.expire(now))

    def _release(self, finished: Iterable[Finished]) -> None:
        """End these waits: agents receive the stops of their tasks."""
        metrics, tasks, now = self._tools.metrics, self.state.tasks, self._tools.clock.now()
        for wait in finished:
            metrics.endpoint_lag_seconds.observe(max(0.0, seconds(now - wait.since)))
            if wait.tasks:
                metrics.barriers_total.labels(wait.outcome.value).inc()
                self.sessions.tasks_changed(tasks[i] for i in wait.tasks if i in tasks)

    def _node_moved(self, node: Node, event: Event) -> None:
        self._observe_node(node)
        self._record(event)

    def _observe_node(self, node: Node) -> None:
        writes = Writes(objects=(node,))
        self._behind.add(writes, self.state.apply(writes))
        self._agenda.add_nodes((node.id,))
        self._agenda.add_services(self.quarantine.undecided())
        self.watches.touch_node(node.id)
        self._work.set()

    def _services_changed(
        self, turn: Turn, put: Sequence[Service], removed: Sequence[ServiceId]
    ) -> None:
        turn.services += [service.id for service in put]
        turn.services += removed

    def _nodes_changed(self, turn: Turn, put: Sequence[Node], removed: Sequence[NodeId]) -> None:
        now = self._tools.clock.now()
        self._agenda.add_services(self.quarantine.undecided())
        self.watches.touch_all()
        for node_id in removed:
            self.silence.forget(node_id)
            self.tunnels.close_node(node_id)
        down = (node.id for node in put if node.status.state is NodeState.DOWN)
        for node_id in (*removed, *down):
            self.sessions.close_node(node_id)
            self._release(self._tracker.barrier.lost(node_id))
        joined = [node.id for node in put if node.status.state is NodeState.UNKNOWN]
        self.silence.await_hello(joined, now)
        if (joined or removed) and self._tracker.endpoints.mesh:
            self.sessions.overlays_changed(self.source.overlays.mesh_changed())
        self.node_watch.follow(self.heartbeat_period)

    def _record(self, event: Event) -> None:
        self.events.record((event,), self._tools.clock.now(), self.revision)

    def _end(self) -> None:
        self._ended = True
        gone = "this controller no longer leads: the change may still happen"
        self._requests.fail(Unavailable(gone))
        self._saved.set()
        self.watches.close()
        self.node_watch.close()
        self.tunnels.close()
        self.sessions.close_all()


_SUBSCRIBERS: Mapping[Subscriber, Callable[[Loop, Turn, list[Any], list[Any]], None]] = {
    Subscriber.WATCHES: Loop._services_changed,
    Subscriber.OVERLAYS: lambda loop, turn, put, _: turn.networks.extend(put),
    Subscriber.NODES: Loop._nodes_changed,
    Subscriber.CALLERS: lambda loop, _, put, removed: loop._tools.callers_changed(put, removed),
}
"""Called with the objects of a kind that were put, and the ids of those removed."""
