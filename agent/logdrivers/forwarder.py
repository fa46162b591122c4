"""Sends the lines of containers to the journal or to syslog, from their log files. SHELL.

conmon writes the files whoever runs: so the death of the agent loses no line, and a server that
does not answer stops no container. What a log's limits remove before it was sent is lost. Files
beside the log of a container, in the directory of logs:

    <id>.driver   where its lines are sent; removed with the last of them
    <id>.sent     the position behind what was sent
    <id>.removed  the container was removed: its log goes with the last line, or after LINGER_S
    <id>.draft    a `.driver` that is being written

Invariants: one task per `.driver` file, found again by a restarted agent. No other file lasts
longer than its `.driver`: what a killed agent left goes when the next one starts.
"""

import asyncio
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from pathlib import Path

import msgspec

from agent.logdrivers.messages import rendering
from agent.logdrivers.names import Names
from agent.logdrivers.plan import Forwarding
from agent.logdrivers.sinks import Addresses, Sink, Turns, address_of, shown
from agent.logdrivers.source import Source
from agent.runtime import logrotate
from pyswarm_core.aio.logs import EventLog
from pyswarm_core.errors import reason_of

_log = EventLog("agent.logs")

LINGER_S = 60.0
"""How long a removed container's lines are still sent."""
_POLL_S = 0.5
_SCAN_S = 10.0
_BATCH = 512
"""Messages that one call sends: a few milliseconds of a thread, if the server reads them."""
_BATCH_S = 1.0
"""After which a call sends no further message."""
_RETRY_S = 30.0
"""Of a log that cannot be opened."""
_THREADS = 64
"""Made as needed. A call holds one for about 2 * TIMEOUT_S = 10 s at most: that of the connection
and that of a message; it goes on to the next message within _BATCH_S only. An address that does not
answer fails within TIMEOUT_S and is then left alone for 30 s: 400 such addresses leave others a
thread. Servers that read slowly hold one again and again; calls get one in the order of their
arrival.
"""
_DRAFT = ".draft"


class _Outcome(Enum):
    """What a call sent."""

    MORE = "there may be more now"
    IDLE = "there is nothing more yet"
    DONE = "the container has ended, and everything was sent"


_Sent = tuple[_Outcome, float]
"""An outcome, and the seconds of a processor that it took."""


class Forwarder:
    """Forwards the logs of a directory. `ended` says whether a container writes no more."""

    def __init__(self, logs: Path, hostname: str, ended: Callable[[str], bool]) -> None:
        self._logs = logs
        self._hostname = hostname
        self._ended = ended
        self._news = asyncio.Event()
        self._running: set[str] = set()
        self._pool = ThreadPoolExecutor(_THREADS, "forward")
        self._addresses = Addresses(self._pool)
        self._names = Names()
        _sweep(logs)

    def close(self) -> None:
        """End the threads; a restarted agent goes on from the positions on disk."""
        self._pool.shutdown(wait=True)

    def begin(self, container_id: str, forwarding: Forwarding) -> None:
        """Forward the log of a container, which exists and has not been started."""
        draft = self._logs / f"{container_id}{_DRAFT}"
        draft.write_bytes(msgspec.json.encode(forwarding))
        draft.replace(self._logs / f"{container_id}{logrotate.DRIVER}")
        self._news.set()

    async def run(self) -> None:
        """Forward every log that has a driver, for ever."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._news.clear()
                for container_id in await asyncio.to_thread(self._found):
                    if container_id not in self._running:
                        self._running.add(container_id)
                        group.create_task(self._forward(container_id))
                try:
                    async with asyncio.timeout(_SCAN_S):
                        await self._news.wait()
                except TimeoutError:
                    continue

    def _found(self) -> list[str]:
        return sorted(path.stem for path in self._logs.glob(f"*{logrotate.DRIVER}"))

    async def _forward(self, container_id: str) -> None:
        loop = asyncio.get_running_loop()
        one = None
        try:
            one = await loop.run_in_executor(self._pool, self._opened, container_id)
            if one is None:
                return
            with self._addresses.turns(one.where) as turns:
                await self._send_all(one, turns)
            await loop.run_in_executor(self._pool, _finish, one.log)
        except Exception as error:  # the fault of one container must not end the agent
            is_ours = not isinstance(error, OSError | msgspec.DecodeError)
            _log.error("logs.forward_failed", trace=is_ours, id=container_id, error=error)
            await asyncio.sleep(_RETRY_S)
        finally:
            if one is not None:
                # In a thread: one that still sends, of a cancelled task, has the lock.
                self._pool.submit(one.close)
            self._running.discard(container_id)

    def _opened(self, container_id: str) -> "_Forwarded | None":
        """None: everything was sent since the directory was read."""
        log = self._logs / container_id
        driver = log.with_name(f"{log.name}{logrotate.DRIVER}")
        try:
            forwarding = msgspec.json.decode(driver.read_bytes(), type=Forwarding)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError:  # a power loss damaged it
            _finish(log)
            raise
        return _Forwarded(log, forwarding, self._hostname, self._names)

    async def _send_all(self, one: "_Forwarded", turns: Turns) -> None:
        """Return once everything was sent, or the log of a removed container was given up."""
        while not one.is_given_up():
            messages = one.messages
            try:
                sent = await turns.call(one.send, self._ended(one.log.name))
            except OSError as error:
                one.failed(error)
                continue
            if sent is None:  # the address failed meanwhile
                continue
            if one.messages > messages:
                turns.worked()
            outcome, took_s = sent
            if outcome is _Outcome.DONE:
                return
            # A container that prints without a pause takes at most half of a processor.
            await asyncio.sleep(_POLL_S if outcome is _Outcome.IDLE else took_s)


class _Forwarded:
    """The log of one container. Its methods block, except for `failed`."""

    def __init__(self, log: Path, forwarding: Forwarding, hostname: str, names: Names) -> None:
        self.log = log
        self.where = address_of(forwarding.settings)
        self._sink = Sink(self.where, names)
        self._render = rendering(forwarding, hostname, os.getpid())
        self._source = Source(log, log.with_name(f"{log.name}{logrotate.SENT}"))
        self.messages = 0
        """Sent so far."""
        self._skipped = 0
        self._has_dropped = False
        self._is_failing = False
        self._is_closed = False
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the files and the connection, as soon as nothing is being sent."""
        with self._lock:
            self._is_closed = True
            self._source.close()
            self._sink.close()

    def send(self, ended: bool) -> _Sent:
        """Send the next messages; `ended`: the container has ended. Raises OSError."""
        began = time.thread_time()
        with self._lock:
            outcome = _Outcome.DONE if self._is_closed else self._send(ended)
        return outcome, time.thread_time() - began

    def _send(self, ended: bool) -> _Outcome:
        self._sink.check()
        end_s = time.monotonic() + _BATCH_S
        for _ in range(_BATCH):
            message = self._source.end() if ended else self._source.next()
            if message is None:
                return _Outcome.DONE if ended else _Outcome.IDLE
            data = self._render(message)
            if self._sink.send(data):
                self._worked()
            else:
                self._dropped(len(data))
            self._source.sent()
            if time.monotonic() > end_s:
                break
        return _Outcome.MORE

    def _dropped(self, size: int) -> None:
        """Log the first of the messages that no datagram can hold."""
        if not self._has_dropped:
            self._has_dropped = True
            _log.warning("logs.dropped", id=self.log.name, to=shown(self.where), bytes=size)

    def _worked(self) -> None:
        self.messages += 1
        if self._is_failing:
            self._is_failing = False
            _log.info("logs.forwarded_again", id=self.log.name, to=shown(self.where))
        if self._source.skipped > self._skipped:
            self._skipped = self._source.skipped
            _log.warning("logs.skipped", id=self.log.name, to=shown(self.where))

    def failed(self, error: OSError) -> None:
        """Log the first of several failures in a row."""
        if not self._is_failing:
            self._is_failing = True
            _log.warning(
                "logs.unsent", id=self.log.name, to=shown(self.where), error=reason_of(error)
            )

    def is_given_up(self) -> bool:
        """Whether the container was removed so long ago that the rest is not sent."""
        try:
            removed = self.log.with_name(f"{self.log.name}{logrotate.REMOVED}").stat().st_mtime
        except FileNotFoundError:
            return False
        return time.time() - removed > LINGER_S


def _sweep(logs: Path) -> None:
    """Remove what an agent left that was killed in `begin`, in `_finish` or in `remove`."""
    for draft in logs.glob(f"*{_DRAFT}"):
        draft.unlink(missing_ok=True)
    for suffix in (logrotate.SENT, logrotate.REMOVED):
        for path in logs.glob(f"*{suffix}"):
            if not path.with_suffix(logrotate.DRIVER).exists():
                _finish(path.with_suffix(""))


def _finish(log: Path) -> None:
    """Forget the driver; of a removed container the log as well."""
    for suffix in (logrotate.DRIVER, logrotate.SENT):
        log.with_name(f"{log.name}{suffix}").unlink(missing_ok=True)
    if log.with_name(f"{log.name}{logrotate.REMOVED}").exists():
        logrotate.remove(log)
