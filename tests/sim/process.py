"""An operating system process under virtual time: where the daemons' own coroutines run.

It is what the standard library calls an event loop, without selector, thread or sleep: callbacks go
to the scheduler's heap. So the real shells (loop, saver, elector, worker, sessions) run unchanged,
and a process can be killed at any await (nothing of it runs any more, not even `finally`), stalled,
and given a clock of its own.
"""

import asyncio
import math
from asyncio import events
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, TypeVar

from pyswarm_core.clock import SECOND, Instant
from tests.sim.clock import EPOCH, Scheduler

T = TypeVar("T")
_SWEEP = 512


class NumberedTask(asyncio.Task[Any]):
    """A task whose hash is its number: sets of tasks iterate alike in every run."""

    number = 0

    def __hash__(self) -> int:
        return self.number


class Process(asyncio.AbstractEventLoop):
    """One process. Falsely friendly methods of event loops (sockets, threads) do not exist here."""

    def __init__(self, name: str, scheduler: Scheduler, on_crash: Callable[[str], None]) -> None:
        self.name = name
        self.scheduler = scheduler
        self.skew = 0
        """Nanoseconds by which its wall clock is ahead."""
        self.dead = False
        self._on_crash = on_crash
        self._stalled_until = 0
        self._backlog: list[asyncio.Handle] = []
        self._tasks: list[NumberedTask] = []
        self._count = 0

    # Life

    def start(self, main: Coroutine[Any, Any, None]) -> None:
        """Begin; a process whose main coroutine raises has crashed, which is a bug."""
        task = self.create_task(main)
        task.add_done_callback(self._ended)

    def kill(self) -> None:
        """SIGKILL. Its coroutines are kept unfinished, so that none of their ends runs."""
        self.dead = True
        self._backlog.clear()
        self.scheduler.kept.append(self)

    def stall(self, duration: int) -> None:
        """Nothing of it runs for this long (a collector, a swapping host, SIGSTOP)."""
        until = self.scheduler.now + duration
        if self.dead or until <= self._stalled_until:
            return
        self._stalled_until = until
        self.scheduler.at(until, self._resume)

    @property
    def stalled(self) -> bool:
        """Whether it runs nothing just now."""
        return self.scheduler.now < self._stalled_until

    def now(self) -> Instant:
        """Its wall clock: it is a Clock."""
        return Instant(self.scheduler.now + self.skew)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._crash(error)

    def _crash(self, error: BaseException) -> None:
        self._on_crash(f"{self.name} crashed: {_leaf(error)!r}")

    def _resume(self) -> None:
        if self.stalled:
            return
        backlog, self._backlog = self._backlog, []
        for handle in backlog:
            self._push(self.scheduler.now, handle)

    # What asyncio asks of a loop

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._push(self.scheduler.now, handle)
        return handle

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._push(EPOCH + math.ceil(when * SECOND), handle)
        return handle

    def call_later(  # type: ignore[override]
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def time(self) -> float:
        """Seconds since the run began."""
        return self.scheduler.elapsed / SECOND

    def create_future(self) -> "asyncio.Future[Any]":
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]
        self,
        coro: Coroutine[Any, Any, T],
        *,
        name: object = None,
        context: Context | None = None,
    ) -> "asyncio.Task[T]":
        self._count += 1
        if len(self._tasks) > _SWEEP:
            self._tasks = [task for task in self._tasks if not task.done()]
        NumberedTask.number = self._count  # registering hashes it before it can be told its own
        task = NumberedTask(coro, loop=self, name=f"{self.name}.{self._count}", context=context)
        task.number = self._count
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        self._tasks.append(task)
        return task

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, BaseException) and not self.dead:
            self._on_crash(f"{self.name}: {context.get('message')}: {_leaf(error)!r}")

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """A cancelled handle runs nothing when its time comes."""

    def _push(self, at: int, handle: asyncio.Handle) -> None:
        self.scheduler.at(at, lambda: self._run(handle))

    def _run(self, handle: asyncio.Handle) -> None:
        if self.dead or handle.cancelled():
            return
        if self.stalled:
            self._backlog.append(handle)
            return
        events._set_running_loop(self)
        try:
            handle._run()
        finally:
            events._set_running_loop(None)


def spawn(name: str, scheduler: Scheduler, on_crash: Callable[[str], None]) -> Process:
    """A new process. `on_crash` receives the text of an uncaught exception."""
    return Process(name, scheduler, on_crash)  # type: ignore[abstract]  # no sockets, no threads


def _leaf(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
