"""Passes events to the task machine and carries out its effects. SHELL: decides nothing on tasks.

The worker alone changes records. Every event goes through `handle`: step, save, report, then the
effects, each in an asyncio task whose outcome is the next event. An unexpected error of an effect
ends its task, not the agent.
"""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import partial

from agent.assignment import AssignedTask, Assignment
from agent.fitness import Fitness, after_check, after_failure, after_start, is_host_error
from agent.health.base import Probe
from agent.health.checks import Checks
from agent.health.verdict import CheckKind
from agent.images.base import ImageError
from agent.layers import Layers
from agent.listening import POLL_FIRST_S, POLL_MAX_S
from agent.network.base import NetworkFailed
from agent.outbox import Outbox
from agent.overlays.adjusting import Adjusting, addresses_of
from agent.overlays.overlays import Overlays
from agent.preparation import Preparation
from agent.records import Records
from agent.runtime.base import HostFailed, NotRunning, Runtime, RuntimeFailed
from agent.tasks import events, machine
from agent.tasks.events import Effect, TaskEvent
from agent.tasks.ocispec_process import stop_signal_number
from agent.tasks.reconcile import adopt, exited
from agent.tasks.record import Record, TaskObserver
from agent.timers import Timers
from pyswarm_core.aio.logs import EventLog
from pyswarm_core.clock import NEVER, Backoff, Clock
from pyswarm_core.errors import PyswarmError, reason_of
from pyswarm_core.ids import NodeId, TaskId
from pyswarm_core.objects import TaskStatus
from pyswarm_core.plaintext import as_utf8
from pyswarm_core.specs import PortConfig
from pyswarm_core.states import lives
from pyswarm_core.views import CheckResult

_log = EventLog("agent.worker")

CLEANING_AT_ONCE = 8
ASSIGNED_AT_ONCE = 32
"""New tasks per turn of the event loop: each costs a write to the disk."""
WITHDRAW_MAX_S = 1.0
"""The stop signal waits at most this long until host ports are not forwarded to the task."""
CLEAN_RETRY_S = (0.2, 1.0, 5.0, 30.0)
EXITS_RETRY_S = 1.0
EXPECTED = (ImageError, NetworkFailed, RuntimeFailed, PyswarmError, OSError)
"""Errors of a task that are no bugs of the agent. Any other error is logged with its trace; it ends
the task too, not the agent."""


class Worker:
    """The tasks of this node. Nothing happens unless `run` is running."""

    def __init__(
        self,
        *,
        clock: Clock,
        records: Records,
        runtime: Runtime,
        overlays: Overlays,
        preparation: Preparation,
        outbox: Outbox,
        observer: TaskObserver,
        listening: Callable[[Record], Awaitable[bool]],
        accepted: Callable[[Record], Awaitable[None]],
        probe: Probe,
    ) -> None:
        """`listening`: whether a running task listens on the TCP ports that it publishes."""
        self._clock = clock
        self._store = records
        self._runtime = runtime
        self._overlays = overlays
        self._preparation = preparation
        self._adjusting = Adjusting(runtime, overlays, preparation, self.handle)
        self._outbox = outbox
        self._observer = observer
        self._listening = listening
        self._accepted = accepted
        self._records: dict[TaskId, Record] = records.load()
        self._preparing: dict[TaskId, asyncio.Task[None]] = {}
        self._repairing: dict[TaskId, asyncio.Task[None]] = {}
        self._ended: dict[TaskId, asyncio.Event] = {}
        self._layers = Layers(runtime, self._records, self.ended, self._spawn)
        self._timers: Timers[TaskId] = Timers(clock)
        self._checks = Checks(clock, probe, self._checked, observer)
        self._fitness = Fitness()
        self._cleaning = asyncio.Semaphore(CLEANING_AT_ONCE)
        self._group: asyncio.TaskGroup | None = None
        self._adopted = asyncio.Event()

    @property
    def unable(self) -> str:
        """Why this host cannot start containers now; empty if it can."""
        return self._fitness.unable

    def room_checked(self, shortage: str) -> None:
        """Record the outcome of a check of free space; an empty `shortage` means enough."""
        self._set_fitness(after_check(self._fitness, shortage, self._clock.now()))

    def _count_host_failure(self, error: Exception) -> None:
        """Count the failure if its cause is the host, not the task.

        No other type of error counts, whatever its text: it may contain a user's words, and an
        image that is too large for the disk does not affect other images.
        """
        own = isinstance(error, (OSError, NetworkFailed)) and is_host_error(error)
        if own or isinstance(error, HostFailed):
            self._set_fitness(after_failure(self._fitness, _error_text(error), self._clock.now()))

    def _set_fitness(self, fitness: Fitness) -> None:
        before, self._fitness = self._fitness.unable, fitness
        if before != fitness.unable:
            _log.warning("host.fitness", unable=fitness.unable or "no more")

    @property
    def records(self) -> Mapping[TaskId, Record]:
        """The records of all tasks of this node; read only."""
        return self._records

    def images_in_use(self) -> set[str]:
        """Ids of the images of tasks that are not clean, and of containers that may start again."""
        used = (r for r in self._records.values() if not r.clean or r.layer)
        return {i for r in used for i in (r.image_id, *r.mounted_images) if i}

    def report(self) -> list[TaskStatus]:
        """The status of every task: each session begins with it."""
        return [record.status() for record in self._records.values()]

    def ended(self, task_id: TaskId) -> asyncio.Event:
        """An event that is set once nothing of the task is left but its log; for log followers."""
        record = self._records.get(task_id)
        event = self._ended.get(task_id) or asyncio.Event()
        if record is None or record.clean:
            event.set()
        else:
            self._ended[task_id] = event
        return event

    async def adopted(self) -> None:
        """Return once adoption is complete: nothing may be assigned or reported before."""
        await self._adopted.wait()

    async def run(self) -> None:
        """Adopt existing tasks, then run until cancelled. Cancellation leaves containers as they
        are.
        """
        async with asyncio.TaskGroup() as group:
            self._group = group
            await self._adopt()
            self._adopted.set()
            group.create_task(self._watch_exits())
            group.create_task(self._checks.run())
            group.create_task(
                self._timers.run(lambda task_id: self.handle(task_id, events.TimerFired()))
            )

    async def assign(self, assignment: Assignment, node_id: NodeId) -> None:
        """Apply an assignment, in batches, so that heartbeats are sent in between."""
        await self._layers.assigned(assignment)
        for number, task in enumerate(assignment.tasks, 1):
            if number % ASSIGNED_AT_ONCE == 0:
                await asyncio.sleep(0)
            self._assign(task, node_id)
        gone = list(assignment.removed)
        if assignment.full:
            named = {task.task_id for task in assignment.tasks}
            gone = [task_id for task_id in self._records if task_id not in named]
        for number, task_id in enumerate(gone, 1):
            if number % ASSIGNED_AT_ONCE == 0:
                await asyncio.sleep(0)
            self.handle(task_id, events.Unassigned())

    def _assign(self, task: AssignedTask, node_id: NodeId) -> None:
        task_id, template = task.task_id, task.template
        if task_id not in self._records:
            self._accept(task.record(node_id, self._clock.now()))
            return
        self.handle(task_id, events.Desired(task.desired_state, template.service_name))
        if self._records[task_id].lacks_login:
            self.handle(task_id, events.LoginReceived(template.login))
        if change := template.in_place_change:
            self.handle(task_id, events.InPlaceRequested(change))

    def handle(self, task_id: TaskId, event: TaskEvent) -> None:
        """Take the step that `event` causes. Events of unknown tasks are ignored."""
        record = self._records.get(task_id)
        if record is None:
            return
        outcome = machine.step(record, event, self._clock.now())
        error = self._update(record, outcome.record, saved=not isinstance(event, events.Progress))
        if error and (ended := machine.save_failed(outcome, error)) is not outcome:
            self._update(outcome.record, ended.record, saved=True)
            outcome = ended
        self._schedule(outcome.record)
        for effect in outcome.effects:
            self._carry_out(effect, outcome.record)

    def _schedule(self, record: Record) -> None:
        """Set when the next step of the task is due, and its next checks."""
        self._timers.set(record.task_id, record.wake_at)
        for kind in CheckKind if record.has_checks else ():
            self._checks.set(record.task_id, kind, record.due(kind))

    def _checked(self, task_id: TaskId, kind: CheckKind, result: CheckResult, counts: bool) -> None:
        self.handle(task_id, events.Checked(kind, result, counts))

    def _accept(self, record: Record) -> None:
        """Accept a new task; its record is on disk before any effect. A task that ends with its
        first step is reported and gets no record.
        """
        outcome = machine.accept(record)
        if not outcome.record.ended and (error := self._save(outcome.record, self._store.save)):
            outcome = machine.save_failed(outcome, error)
        self._outbox.put(outcome.record.status())
        if outcome.record.ended:
            return
        self._records[record.task_id] = outcome.record
        for effect in outcome.effects:
            self._carry_out(effect, outcome.record)

    def _update(self, before: Record, after: Record, *, saved: bool) -> str:
        """Store and report the new record, save it to disk; return the error of saving, or ""."""
        if after == before:
            return ""
        self._records[after.task_id] = after
        if after.clean and (followed := self._ended.pop(after.task_id, None)):
            followed.set()
        results_alone = after.differs_in_results_alone(before)
        if not results_alone and (after.state, after.detail) != (before.state, before.detail):
            self._outbox.put(after.status())
            self._observer.moved(before, after)
        if not saved:
            return ""
        return self._save(after, self._store.save_results if results_alone else self._store.save)

    def _save(self, record: Record, save: Callable[[Record], None]) -> str:
        """Save the record to disk; return the error, or ""."""
        try:
            save(record)
        except OSError as error:
            self._count_host_failure(error)
            _log.error("record.save_failed", task=record.task_id, error=error)
            return f"cannot save the task's record: {reason_of(error)}"
        return ""

    def _carry_out(self, effect: Effect, record: Record) -> None:
        match effect:
            case Effect.PREPARE:
                work = self._preparing[record.task_id] = self._spawn(self._prepare(record))
                work.add_done_callback(partial(self._cancelled_before_start, record.task_id))
            case Effect.ABORT_PREPARE:
                self._abort(record.task_id)
            case Effect.PUBLISH:
                self._spawn(self._publish(record.task_id, record.detail.ports))
            case Effect.STOP | Effect.KILL:
                self._spawn(self._signal(record, kill=effect is Effect.KILL))
            case Effect.FORGET:
                self._forget(record)
            case Effect.CHANGE_IN_PLACE:
                former = self._repairing.get(record.task_id)
                self._repair(record.task_id, self._change_in_place(record.task_id, former))
            case _:
                self._spawn(_WORK[effect](self, record.task_id))

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        assert self._group is not None, "the worker is not running"
        return self._group.create_task(work)

    async def _adopt(self) -> None:
        for record in self._records.values():
            self._timers.set(record.task_id, record.wake_at)  # checks begin with Started
            if not record.clean:
                self._overlays.adopt(record.task_id, addresses_of(record), record.detail.ports)
        found = await self._runtime.found()
        networks = await self._overlays.found() | self._overlays.named
        adoption = adopt(self._records, found, networks)
        _log.info("agent.adopted", records=len(self._records), containers=len(found))
        for record in self._records.values():  # before what the events begin
            if not record.ended and record.held:
                self._repair(record.task_id, self._reattach(record.task_id))
        for task_id, event in adoption.events:
            if isinstance(event, events.Accepted):
                self._spawn(self._prepare_again(task_id))
            else:
                self.handle(task_id, event)
        for task_id in adoption.unstarted:
            self._spawn(self._start(task_id))
        for task_id in adoption.unclean:
            self._spawn(self._clean(task_id))
        for name in sorted({*adoption.stray_containers, *adoption.stray_networks}):
            _log.warning("agent.stray_removed", id=name)
            self._spawn(self._clean(TaskId(name)))

    async def _publish(self, task_id: TaskId, ports: tuple[PortConfig, ...]) -> None:
        try:
            await self._overlays.publish(task_id, ports)
        except Exception as error:
            _log.error("task.publish_failed", task=task_id, error=_error_text(error))

    async def _prepare_again(self, task_id: TaskId) -> None:
        """Prepare from the beginning a task that was half prepared when the agent died."""
        await self._remove_until_gone(task_id)
        self._layers.released(task_id)
        self.handle(task_id, events.Accepted())

    async def _reattach(self, task_id: TaskId) -> None:
        try:
            if (record := self._records.get(task_id)) and not record.ended:
                await self._adjusting.reattach(record)
        except Exception as error:
            _log.error("task.reattach_failed", task=task_id, error=_error_text(error))

    def _repair(self, task_id: TaskId, work: Coroutine[None, None, None]) -> None:
        """Work on the task's interfaces, which ends before they are removed."""
        begun = self._repairing[task_id] = self._spawn(work)
        begun.add_done_callback(partial(self._repaired, task_id))

    def _repaired(self, task_id: TaskId, work: asyncio.Task[None]) -> None:
        if self._repairing.get(task_id) is work:
            del self._repairing[task_id]

    async def _watch_exits(self) -> None:
        while True:
            try:
                async for ended in self._runtime.exits():
                    self.handle(TaskId(ended.id), exited(ended))
            except OSError as error:
                _log.error("exits.read_failed", error=error, retry_s=EXITS_RETRY_S)
            await asyncio.sleep(EXITS_RETRY_S)

    def _abort(self, task_id: TaskId) -> None:
        work = self._preparing.get(task_id)
        if work is None:
            self.handle(task_id, events.PrepareAborted())
        else:
            work.cancel()

    def _cancelled_before_start(self, task_id: TaskId, work: asyncio.Task[None]) -> None:
        """Handle an asyncio task that was cancelled before its first step: it runs no `finally`."""
        if self._preparing.get(task_id) is not work:
            return
        del self._preparing[task_id]
        if not lives(self._records[task_id].desired_state):
            self.handle(task_id, events.PrepareAborted())

    async def _prepare(self, record: Record) -> None:
        task_id = record.task_id
        event: TaskEvent
        try:
            await self._layers.acquire(record, partial(self._progress, task_id))
            event = await self._preparation.prepare(record, partial(self._progress, task_id))
        except asyncio.CancelledError:
            if lives(self._records[task_id].desired_state):
                raise
            event = events.PrepareAborted()
        except Exception as error:
            self._count_host_failure(error)
            event = events.PrepareFailed(_error_text(error))
        else:
            self._set_fitness(after_start(self._fitness))
        finally:
            self._preparing.pop(task_id, None)
        self.handle(task_id, event)

    def _progress(self, task_id: TaskId, text: str) -> None:
        self.handle(task_id, events.Progress(text))

    async def _start(self, task_id: TaskId) -> None:
        try:
            await self._runtime.start(task_id)
        except Exception as error:
            self._count_host_failure(error)
            self.handle(task_id, events.StartFailed(_error_text(error)))
        else:
            self.handle(task_id, events.Started())

    async def _await_listening(self, task_id: TaskId) -> None:
        pause = POLL_FIRST_S
        while (record := self._records.get(task_id)) and record.may_begin_serving:
            try:
                if await self._listening(record):
                    self.handle(task_id, events.Serving())
                    return
            except Exception as error:
                if pause == POLL_FIRST_S:  # log once, not every second
                    text = _error_text(error)
                    _log.warning("task.listening_check_failed", task=task_id, error=text)
            await asyncio.sleep(pause)
            pause = min(POLL_MAX_S, 1.5 * pause)

    async def _withdraw(self, task_id: TaskId) -> None:
        """Withdraw the task's host ports; a kernel that refuses delays the stop by a second."""
        try:
            async with asyncio.timeout(WITHDRAW_MAX_S):
                await self._publish(task_id, ())
        except TimeoutError:
            _log.warning("task.withdraw_timeout", task=task_id)
        self.handle(task_id, events.Withdrawn())

    async def _signal(self, record: Record, *, kill: bool) -> None:
        """Send SIGKILL to every process of the task's cgroup, or the stop signal to one."""
        number = signal.SIGKILL if kill else stop_signal_number(record.stop_signal)
        try:
            if not kill:
                await self._accepted(record)
            await self._runtime.kill(record.task_id, number, everyone=kill)
            if record.detail.paused and not kill:
                await self._runtime.resume(record.task_id)
                self.handle(record.task_id, events.PauseChanged(paused=False))
        except Exception as error:
            text = _error_text(error)
            _log.warning("task.signal_failed", task=record.task_id, signal=number, error=text)

    async def _change_in_place(self, task_id: TaskId, before: asyncio.Task[None] | None) -> None:
        """`before`: other work on the task's interfaces, which ends first."""
        if before is not None:
            await before
        if not (record := self._records.get(task_id)) or (change := record.in_place_change) is None:
            return
        error, joined, limited = "", None, False
        try:
            await self._adjusting.adjust(record, change)
            limited = True
            joined = await self._adjusting.join(record, change)
        except NotRunning:
            return  # Exited follows, and a restarted agent repeats the change
        except Exception as failure:
            error = _error_text(failure)
            _log.warning("task.in_place_refused", task=task_id, error=error)
        self.handle(task_id, events.ChangedInPlace(change, error, bool(error) and limited, joined))
        await self._adjusting.changed(self._records.get(task_id))

    async def _clean(self, task_id: TaskId) -> None:
        await self._remove_until_gone(task_id)
        self.handle(task_id, events.Cleaned())

    async def _remove_until_gone(self, task_id: TaskId) -> None:
        backoff = Backoff(*CLEAN_RETRY_S)
        while True:
            try:
                async with self._cleaning:
                    await self._remove(task_id)
            except Exception as error:
                pause_s = backoff.next_s()
                _log.warning(
                    "task.clean_failed", task=task_id, error=_error_text(error), retry_s=pause_s
                )
                await asyncio.sleep(pause_s)
            else:
                return

    async def _remove(self, task_id: TaskId) -> None:
        # A repair may still wait for the kernel; it would create the namespace after its removal.
        if work := self._repairing.get(task_id):
            work.cancel()
            await asyncio.wait([work])
        await self._preparation.undo(task_id, keep_logs=task_id in self._records)

    def _forget(self, record: Record) -> None:
        del self._records[record.task_id]
        self._layers.released(record.task_id)
        self._timers.set(record.task_id, NEVER)
        try:
            self._store.forget(record.task_id)
        except OSError as error:
            # A restarted agent removes it: no assignment names the task.
            _log.warning("record.remove_failed", task=record.task_id, error=error)
        self._spawn(self._forget_log(record.task_id))

    async def _forget_log(self, task_id: TaskId) -> None:
        try:
            await self._runtime.remove(task_id, keep_logs=False)
        except Exception as error:
            _log.warning("task.log_remove_failed", task=task_id, error=_error_text(error))


_WORK: Mapping[Effect, Callable[[Worker, TaskId], Coroutine[None, None, None]]] = {
    Effect.START: Worker._start,
    Effect.AWAIT_LISTENING: Worker._await_listening,
    Effect.WITHDRAW: Worker._withdraw,
    Effect.CLEAN: Worker._clean,
}
"""The effects that need a task's id alone."""


def _error_text(error: Exception) -> str:
    """The error's text for users, fit to be stored; an unexpected error is also logged."""
    if not isinstance(error, EXPECTED):
        _log.error("task.internal_error", trace=True, error=error)
        text = f"internal error of the agent: {type(error).__name__}: {error}"
    else:
        text = reason_of(error) if isinstance(error, OSError) else str(error).strip()
    return as_utf8(text) or type(error).__name__
