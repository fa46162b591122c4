"""Every stopped task has exited by its deadline, in whatever order its events come.

`Host` is a model of one agent with one task whose process dies of SIGKILL alone. Effects are
carried out, and their answers delivered, in the order that hypothesis draws; only a timer that is
due and SIGKILL are prompt. True time is kept apart from the host's clock, which may be set.
"""

from collections.abc import Callable

import hypothesis
import hypothesis.strategies as st
from msgspec.structs import replace

from agent.health.verdict import CheckKind
from agent.runtime.base import ContainerExit, ContainerState, FoundContainer
from agent.tasks import events
from agent.tasks.events import Effect, TaskEvent
from agent.tasks.machine import step
from agent.tasks.reconcile import adopt
from agent.tasks.steps import KILL_AGAIN
from pyswarm_core.clock import HOUR, NEVER, SECOND, Instant
from pyswarm_core.ids import NetworkId, TaskId
from pyswarm_core.limits import DRAIN_MAX
from pyswarm_core.objects import TaskAddress
from pyswarm_core.specs import HealthConfig, PortConfig
from pyswarm_core.states import TaskState
from tests.unit.agent.tasks.test_machine import CHECKED, GRACE, NOW, PREPARED, record

T1 = TaskId("t1")
KILLED = ContainerExit(id="t1", code=137, signal=9)
OVERLAY = TaskAddress(network_id=NetworkId("net"), address="10.0.0.2")
LISTENS = (PortConfig(target_port=80, published_port=8080),)
Act = Callable[["Host"], None]
CONFIG = HealthConfig(test=("CMD", "check"), interval=SECOND, retries=1)
GOOD = [event for event in CHECKED if not event.result.exit_code]
UNHEALTHY = next(e for e in CHECKED if e.kind is CheckKind.HEALTH and e.result.exit_code)
LATE = [
    *CHECKED,
    events.StopRequested(),
    events.Accepted(),
    events.Progress("p"),
    events.Serving(),
    events.Started(),
    events.TimerFired(),
    PREPARED,
    *map(events.Desired, (TaskState.READY, TaskState.RUNNING)),
]


class Host:
    """An agent, its task and the task's container."""

    def __init__(self, *, checked: bool = False) -> None:
        spec = record().spec
        check = CONFIG if checked else HealthConfig()
        container = replace(spec.container_spec, healthcheck=check, readiness=check)
        self.record = record(ports=LISTENS, spec=replace(spec, container_spec=container))
        self.container: ContainerState | None = None
        self.clock = self.true = NOW
        self.due = NEVER
        self.failing_kills = 0
        self.work: list[Effect] = []
        self.answers: list[TaskEvent] = []
        self.stopped_at = NEVER
        self.left_at = NEVER
        """When its agent began to stop it, by itself or not."""
        self.excuse = 0
        """How much later than the grace period the end may come, for what went wrong so far."""
        self.is_far = False
        """The clock was set back, and no step has brought the deadline near since."""

    def handle(self, event: TaskEvent) -> None:
        """One step, as the worker takes it."""
        if self.record.unassigned and self.record.clean:
            return
        desired = self.record.desired_state <= TaskState.RUNNING
        self.record, effects = (out := step(self.record, event, self.clock)).record, out.effects
        if desired and self.record.desired_state > TaskState.RUNNING:
            self.stopped_at = self.true
        if self.record.stops and self.left_at == NEVER:
            self.left_at = self.true
        self.due = self.record.wake_at
        self.is_far = False
        for effect in effects:
            if effect is Effect.KILL:
                self.carry_out(effect)
            else:
                self.work.append(effect)

    def carry_out(self, effect: Effect) -> None:
        match effect:
            case Effect.PREPARE:
                self.container = ContainerState.CREATED
                self.answers.append(replace(PREPARED, addresses=(OVERLAY,)))
            case Effect.ABORT_PREPARE:
                self.work = [effect for effect in self.work if effect is not Effect.PREPARE]
                self.answers.append(events.PrepareAborted())
            case Effect.START if self.container is ContainerState.CREATED:
                self.container = ContainerState.RUNNING
                self.answers.append(events.Started())
            case Effect.START:
                self.answers.append(events.StartFailed("there is nothing to start"))
            case Effect.AWAIT_LISTENING:
                self.answers.append(events.Serving())
            case Effect.KILL if self.failing_kills:
                self.failing_kills -= 1
                self.excuse += KILL_AGAIN
            case Effect.KILL:
                self.die()
            case Effect.CLEAN:
                self.container = None
                self.answers.append(events.Cleaned())
            case _:
                pass  # STOP is ignored, and FORGET leaves nothing

    def die(self) -> None:
        if self.container in (ContainerState.CREATED, ContainerState.RUNNING):
            self.container = ContainerState.STOPPED
            self.answers.append(events.Exited(137, signal=9))

    def advance(self, duration: int) -> None:
        """Time passes; the timer fires when it is due."""
        end = Instant(self.clock + duration)
        while self.due <= end:
            self.pass_until(max(self.due, self.clock))
            self.due = NEVER
            self.handle(events.TimerFired())
        self.pass_until(end)

    def pass_until(self, instant: Instant) -> None:
        self.excuse += instant - self.clock if self.is_far else 0
        self.true = Instant(self.true + instant - self.clock)
        self.clock = instant
        if self.container is ContainerState.RUNNING and self.stopped_at != NEVER:
            assert self.true <= self.stopped_at + GRACE + self.excuse, "it runs on"
        if self.container is ContainerState.RUNNING and self.left_at != NEVER:
            latest = self.left_at + DRAIN_MAX + GRACE + self.excuse
            assert self.true <= latest, "it runs on though it is unhealthy"

    def restart(self, set_clock: int) -> None:
        """The agent dies and returns: what it was about to do is lost. The clock may be set."""
        self.clock = Instant(self.clock + set_clock)
        self.is_far = set_clock < 0
        self.excuse += DRAIN_MAX + GRACE if self.is_far else 0
        self.work.clear()
        self.answers.clear()
        self.due = self.record.wake_at
        adoption = adopt({T1: self.record}, self.found(), ())
        for _, event in adoption.events:
            if isinstance(event, events.Accepted):
                self.container = None
            self.handle(event)
        self.work += [Effect.START for _ in adoption.unstarted]
        self.work += [Effect.CLEAN for _ in adoption.unclean]

    def found(self) -> list[FoundContainer]:
        if self.container is None:
            return []
        ended = KILLED if self.container is ContainerState.STOPPED else None
        return [FoundContainer(id="t1", state=self.container, pid=7, exit=ended)]

    def settle(self) -> None:
        """Everything is carried out and delivered, and all time passes."""
        for _ in range(50):
            while self.work or self.answers:
                for effect in self.work[:]:
                    self.work.remove(effect)
                    self.carry_out(effect)
                for answer in self.answers[:]:
                    self.answers.remove(answer)
                    self.handle(answer)
            self.advance(SECOND)


def _choose(host: Host, number: int) -> None:
    """Carry out one of the effects, or deliver one of the answers, that are outstanding."""
    outstanding = len(host.work) + len(host.answers)
    if not outstanding:
        return
    index = number % outstanding
    if index < len(host.work):
        host.carry_out(host.work.pop(index))
    else:
        host.handle(host.answers.pop(index - len(host.work)))


def _late(host: Host, event: TaskEvent) -> None:
    """An event that comes once more. The two that would be lies while preparing do not."""
    lie = isinstance(event, events.Accepted | events.Prepared)
    if not (lie and host.record.state is TaskState.PREPARING):
        host.handle(event)


_acts = st.one_of(
    st.integers(0, 9).map(lambda n: lambda host: _choose(host, n)),
    st.integers(0, 9).map(lambda n: lambda host: _choose(host, n)),
    st.integers(0, 2 * GRACE).map(lambda d: lambda host: host.advance(d)),
    st.sampled_from(LATE).map(lambda event: lambda host: _late(host, event)),
    st.sampled_from([events.Desired(TaskState.SHUTDOWN), events.Unassigned()]).map(
        lambda event: lambda host: host.handle(event)
    ),
    st.sampled_from([UNHEALTHY, events.StopRequested()]).map(
        lambda event: lambda host: host.handle(event)
    ),
    st.sampled_from([0, HOUR, -HOUR]).map(lambda delta: lambda host: host.restart(delta)),
    st.integers(1, 3).map(lambda n: lambda host: setattr(host, "failing_kills", n)),
)


@hypothesis.settings(max_examples=300)
@hypothesis.given(st.booleans(), st.integers(0, 3), st.lists(_acts, max_size=30))
def test_prop_every_stopped_task_has_exited_by_its_deadline(
    checked: bool, begun: int, acts: list[Act]
) -> None:
    host = Host(checked=checked)
    host.handle(events.Accepted())
    for _ in range(2 * begun):  # most orders never get as far as a running process that serves
        _choose(host, 0)
    for event in GOOD if begun > 2 else ():
        host.handle(event)
        _choose(host, 0)
        _choose(host, 0)
    for act in acts:
        act(host)
    host.handle(events.Desired(TaskState.SHUTDOWN))
    host.settle()
    assert host.container in (None, ContainerState.STOPPED)
    assert host.record.clean


def test_a_stop_that_is_followed_by_serving_keeps_its_deadline() -> None:
    stopping = step(record(TaskState.RUNNING), events.Desired(TaskState.SHUTDOWN), NOW).record
    for event in (events.Serving(), events.Progress("p"), events.Started(), PREPARED):
        assert step(stopping, event, NOW).record.wake_at == NOW + GRACE


def test_a_task_stopped_while_starting_is_killed_though_its_start_never_answers() -> None:
    stopped = step(record(TaskState.STARTING), events.Desired(TaskState.SHUTDOWN), NOW)
    assert (stopped.effects, stopped.record.wake_at) == ((), NOW + GRACE)
    assert step(stopped.record, events.TimerFired(), Instant(NOW + GRACE)).effects == (Effect.KILL,)


def test_a_deadline_from_before_the_clock_was_set_back_is_brought_near() -> None:
    far = record(TaskState.RUNNING, desired_state=TaskState.SHUTDOWN, kill_at=NOW + HOUR)
    assert step(far, events.Started(), NOW).record.wake_at == NOW + GRACE


def test_an_ended_task_has_no_deadline() -> None:
    assert replace(record(TaskState.SHUTDOWN), kill_at=NOW).wake_at == NEVER


def test_a_container_that_is_removed_is_killed_at_once() -> None:
    running = replace(record(TaskState.RUNNING), layer="db")
    removed = step(running, events.Desired(TaskState.REMOVE), NOW).record
    assert removed.wake_at == NOW
    assert step(removed, events.TimerFired(), NOW).effects == (Effect.KILL,)
    stopping = step(running, events.Desired(TaskState.SHUTDOWN), NOW).record
    assert stopping.wake_at > NOW
    assert step(stopping, events.Desired(TaskState.REMOVE), NOW).record.wake_at == NOW
    plain = step(record(TaskState.RUNNING), events.Desired(TaskState.REMOVE), NOW).record
    assert plain.wake_at > NOW
