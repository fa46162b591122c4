"""The wires between parties: delay, loss, clogs, cuts in one direction or both, broken streams.

Parties are names (`c1`, `h2`, `etcd`, `user`). A request is a message that may be lost or late; a
stream is ordered and complete while it lasts, and each end learns of its end at its own time.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from pyswarm_core.aio.echo import Done
from pyswarm_core.clock import MILLISECOND, SECOND
from pyswarm_core.limits import ECHOES_PER_WINDOW
from tests.sim.clock import Scheduler
from tests.sim.options import Options
from tests.sim.process import Process
from tests.sim.rand import Chance

RETRANSMIT = 200 * MILLISECOND
KEEPALIVE = 12 * SECOND
"""A stream is given up by who could not get a word through for this long."""
CONNECT_TIMEOUT = 3 * SECOND
CALM_DELAY_MAX = 150 * MILLISECOND
"""Less than the window of a probe: in a calm network no heartbeat is so late that its agent counts
as silent.
"""
_FIN = object()


class SimEchoes:
    """`Echoes` of one process, by virtual packets."""

    def __init__(self, net: "Net", process: Process, done: Done) -> None:
        self._net = net
        self._process = process
        self._done = done
        self._open: dict[int, str] = {}
        self._number = 0

    def ask(self, key: str, address: str, window: int) -> bool:
        """See `Asker`."""
        self._number += 1
        number = self._number
        self._open[number] = key
        for turn in range(ECHOES_PER_WINDOW):
            delay = window * turn // ECHOES_PER_WINDOW
            self._net.scheduler.after(delay, lambda: self._send(number, address))
        self._net.scheduler.after(window, lambda: self._hear(number, answered=False))
        return True

    def hear(self) -> None:
        """See `Asker`: a process that runs reads at once."""

    def close(self) -> None:
        """See `Asker`."""
        self._open.clear()

    def _send(self, number: int, address: str) -> None:
        if number in self._open and not self._process.dead and not self._process.stalled:
            name = self._process.name
            self._net.echo(name, address, lambda: self._hear(number, answered=True))

    def _hear(self, number: int, *, answered: bool) -> None:
        """The socket has it; the process reads it when it runs."""
        if not self._process.dead:
            self._process.call_soon(self._tell, number, answered)

    def _tell(self, number: int, answered: bool) -> None:
        if (key := self._open.pop(number, None)) is not None:
            self._done(key, answered)


class Broken(OSError):
    """The stream is over, or never was."""


class Net:
    """All links. Directions are separate: what hears may be unable to speak."""

    def __init__(self, scheduler: Scheduler, chance: Chance, options: Options) -> None:
        self.scheduler = scheduler
        self._chance = chance
        self._options = options
        self._cut: dict[tuple[str, str], None] = {}
        self._clogged: dict[tuple[str, str], int] = {}
        self._machines: dict[str, tuple[str, Callable[[], bool]]] = {}
        self._listeners: dict[str, tuple[Process, Callable[[End], None]]] = {}
        self._streams: list[Stream] = []
        self.calm = False

    # Faults

    def cut(self, source: str, target: str) -> None:
        """No message passes in this direction any more."""
        self._cut[source, target] = None

    def heal(self, source: str, target: str) -> None:
        """Messages pass again."""
        self._cut.pop((source, target), None)

    def clog(self, source: str, target: str, duration: int) -> None:
        """What is sent in this direction arrives only afterwards."""
        self._clogged[source, target] = self.scheduler.now + duration

    def heal_all(self) -> None:
        """Every link is well."""
        self._cut.clear()
        self._clogged.clear()
        self.calm = True

    def passes(self, source: str, target: str) -> bool:
        """Whether messages pass in this direction."""
        return (source, target) not in self._cut

    # Messages

    def delay(self, source: str, target: str) -> int:
        """How long the next message takes."""
        delay = self._chance.exponential(self._options.latency_ms) + 50_000
        if self._chance.hits(self._options.slow_message) and not self.calm:
            delay += self._chance.duration(50, 2500)
        if self.calm:
            delay = min(delay, CALM_DELAY_MAX)
        clogged_until = self._clogged.get((source, target), 0)
        return max(delay, clogged_until - self.scheduler.now)

    def send(self, source: str, target: str, event: Callable[[], None]) -> bool:
        """Let `event` happen when the message arrives; False if it never will."""
        lost = self._chance.hits(self._options.loss) and not self.calm
        if lost or not self.passes(source, target):
            return False
        self.scheduler.after(self.delay(source, target), event)
        return True

    # Echoes

    def answers_at(self, address: str, name: str, alive: Callable[[], bool]) -> None:
        """Echoes to this address are answered by the party's kernel while `alive` says so, whatever
        its processes do.
        """
        self._machines[address] = (name, alive)

    def echo(self, source: str, address: str, answered: Callable[[], None]) -> None:
        """Send an echo; `answered` happens when the answer is back, if it ever is."""
        target, alive = self._machines[address]

        def arrived() -> None:
            if alive():
                self.send(target, source, answered)

        self.send(source, target, arrived)

    # Streams

    def listen(self, name: str, process: Process, accept: "Callable[[End], None]") -> None:
        """Streams to this party are handed to `accept`."""
        self._listeners[name] = (process, accept)

    async def connect(self, process: Process, source: str, target: str) -> "End":
        """A stream to that party. Raises Broken."""
        found = self._listeners.get(target)
        if not (self.passes(source, target) and self.passes(target, source)):
            await asyncio.sleep(CONNECT_TIMEOUT / SECOND)
            raise Broken(f"{target} does not answer")
        await asyncio.sleep(self.delay(source, target) / SECOND)
        if found is None or found[0].dead:
            raise Broken(f"{target} refuses the connection")
        server, accept = found
        stream = Stream(self, (source, process), (target, server))
        self._streams = [one for one in self._streams if not one.over]
        self._streams.append(stream)
        accept(stream.server)
        return stream.client

    def died(self, process: Process, *, silently: bool) -> None:
        """The process ended; its host tells the other ends, unless it lost power."""
        for stream in self._streams:
            for end in (stream.client, stream.server):
                if end.process is process and not end.closed:
                    if silently:
                        end.vanish()
                    else:
                        end.close()


class Stream:
    """Two ends."""

    def __init__(self, net: Net, client: tuple[str, Process], server: tuple[str, Process]) -> None:
        self.net = net
        self.client = End(self, *client)
        self.server = End(self, *server)

    @property
    def over(self) -> bool:
        """Whether both ends know that it is."""
        return self.client.closed and self.server.closed

    def other(self, end: "End") -> "End":
        """The far end."""
        return self.server if end is self.client else self.client


class End:
    """One party's end of a stream."""

    def __init__(self, stream: Stream, name: str, process: Process) -> None:
        self.stream = stream
        self.name = name
        self.process = process
        self.closed = False
        self.on_lost: Callable[[], None] | None = None
        self._inbox: deque[Any] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._outbox: deque[tuple[int, Any]] = deque()
        self._last_arrival = 0
        self._blocked_since = 0

    def send(self, message: object) -> None:
        """Put a message on its way. Raises Broken."""
        if self.closed:
            raise Broken("the stream has ended")
        self._put(message)

    async def receive(self) -> Any:
        """The next message; None when the stream has ended."""
        while not self._inbox:
            if self.closed:
                return None
            self._waiter = self.process.create_future()
            await self._waiter
        return self._inbox.popleft()

    def close(self) -> None:
        """End it from here; what was sent still arrives, then the far end learns of the end."""
        if not self.closed:
            self._put(_FIN)
            self._close()

    def vanish(self) -> None:
        """The host lost power: nobody is told, and what was on its way is lost."""
        self._outbox.clear()
        self._close()
        self._forget_far()

    def lose(self) -> None:
        """Notice that it has ended."""
        if self.closed:
            return
        self._inbox.clear()
        self._close()
        if self.on_lost is not None:
            self.on_lost()

    def _close(self) -> None:
        self.closed = True
        self._wake()

    def _forget_far(self) -> None:
        """The far end notices by its keepalive only."""
        self.stream.net.scheduler.after(2 * KEEPALIVE, self.stream.other(self).lose)

    def _put(self, message: object) -> None:
        net, far = self.stream.net, self.stream.other(self)
        at = max(net.scheduler.now + net.delay(self.name, far.name), self._last_arrival)
        self._last_arrival = at
        self._outbox.append((at, message))
        net.scheduler.at(at, self._deliver)

    def _deliver(self) -> None:
        net, far = self.stream.net, self.stream.other(self)
        if not self._outbox or self._outbox[0][0] > net.scheduler.now:
            return
        if not net.passes(self.name, far.name):
            self._wait_for_heal()
            return
        self._blocked_since = 0
        _, message = self._outbox.popleft()
        if message is _FIN:
            far._hear_end()
        elif not far.closed:
            far._inbox.append(message)
            far._wake()
        if self._outbox:
            net.scheduler.at(self._outbox[0][0], self._deliver)

    def _wait_for_heal(self) -> None:
        net = self.stream.net
        self._blocked_since = self._blocked_since or net.scheduler.now
        if net.scheduler.now - self._blocked_since > KEEPALIVE:
            self._outbox.clear()
            self.lose()
            self._forget_far()
        else:
            net.scheduler.after(RETRANSMIT, self._deliver)

    def _hear_end(self) -> None:
        if self.closed:
            return
        self._close()
        if self.on_lost is not None:
            self.on_lost()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done() and not self.process.dead:
            waiter.set_result(None)
