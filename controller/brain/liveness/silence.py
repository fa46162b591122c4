"""Which agents are silent, and whether their hosts are alive. PURE: input is what was heard, which
hosts answered, and the time; output is probes to send, verdicts, and the next deadline.

An agent that misses one heartbeat is silent: the leader and other agents probe its host.

    silence:  period + margin      + window                             three periods
    heard ────────┴─ probes ──────────┴─ no answer: down (DOWN at once)     │
                        └─ an answer: disconnected, probed each period,     │
                           down after two windows without an answer, or     │
                           when the agent's grace is over                   │
              host never known to answer a probe: ──────────────────────────┴─ down

A broken stream means nothing. Time in which this controller did not run does not count: after a
pause every agent gets a full timeout again, and a window that is judged late is opened again. If
many nodes with tasks are silent at once, only some per minute are declared down; the others are
held back.
A message costs two writes to a dict, a tick costs what is due.
"""

import heapq
from collections import OrderedDict
from collections.abc import Callable, Iterable
from enum import Enum, auto
from itertools import islice

import msgspec

from controller.brain.liveness.calibration import Calibration
from pyswarm_core.clock import MINUTE, NEVER, SECOND, Instant, after
from pyswarm_core.ids import NodeId
from pyswarm_core.limits import (
    DOWN_PER_MINUTE_MIN,
    DOWN_PER_MINUTE_SHARE,
    HEARTBEAT_PERIOD_MAX,
    HEARTBEATS_MISSED,
    HEARTBEATS_PER_SECOND,
    HELLOS_PER_SECOND,
    LEADER_GRACE,
    PROBE_WINDOW_MIN,
    PROBED_AT_ONCE,
    PROBERS,
)

TICK_PERIOD = SECOND // 2
"""Call `tick` at least this often."""
DEAF_AFTER = TICK_PERIOD * 3 // 2
"""If a tick is this late, the controller was paused."""
AT_ONCE = 500
"""Silent nodes and deadlines that one tick handles; the next tick may follow at once, after other
work.
"""
_SHARE = 5
"""Margin and window are this share of the period: a dead host is down after 1.4 periods."""
LATE_WINDOWS = 5
"""Consecutive windows that may be judged late and opened again."""
WINDOWS_OF_A_LIVING_HOST = 2
"""Consecutive windows without an answer after which a host that had answered is dead."""
_SPARE = 2
"""Agents named for a probe beyond PROBERS: some may run on the host that is probed."""


def heartbeat_period(base: int, nodes: int) -> int:
    """Nanoseconds between two heartbeats of each of `nodes` nodes.

    `base`, extended in steps of a second so that the fleet sends no more than
    HEARTBEATS_PER_SECOND; in steps, so that not every join changes the period.
    """
    needed = nodes * SECOND // HEARTBEATS_PER_SECOND
    if needed <= base:
        return base
    return max(base, min(-(-needed // SECOND) * SECOND, HEARTBEAT_PERIOD_MAX))


def probe_window(period: int) -> int:
    """Nanoseconds that a host has to answer a probe."""
    return max(period // _SHARE, PROBE_WINDOW_MIN)


class Probe(msgspec.Struct, frozen=True):
    """A host to probe now: from the leader, and from the first PROBERS of `agents` that are
    connected and on other hosts.
    """

    node_id: NodeId
    agents: tuple[NodeId, ...]


class Findings(msgspec.Struct):
    """What a tick found; each node is listed once."""

    probes: list[Probe]
    down: list[NodeId]
    held: list[NodeId]
    """Nodes that would be down, but are not declared so because too many are silent at once."""


class _Phase(Enum):
    AWAITED = auto()
    """After a join or a change of leader: the node has time to open a session."""
    PROBED = auto()
    """Probes were sent; the deadline is the window's end."""
    UNPROVEN = auto()
    """Its host did not answer, but never has: only a longer silence counts."""
    DISCONNECTED = auto()
    """Its host answered; the deadline is the next probe or the end of the agent's grace."""
    HELD = auto()
    """Held back; the deadline is when the next node may be declared down."""


class _Silence(msgspec.Struct):
    since: Instant
    """When the agent was heard last, or when the wait for it began."""
    grace_from: Instant
    """When the agent's grace began: when it was heard last, or when the wait for it ended."""
    phase: _Phase
    deadline: Instant
    tried: bool = False
    """Whether the leader or an agent sent echoes in this window and would have reported an answer.
    """
    late: int = 0
    """Consecutive windows that were judged late."""
    unanswered: int = 0
    """Consecutive windows with probes and without an answer."""
    answered: bool = False
    """Whether the host has answered since its agent fell silent. If so, one window without an
    answer does not mean that it is dead: host or network may be busy.
    """


class Liveness:
    """When each agent was heard last, and the state of the silent ones. Nodes that are down are not
    tracked until they are heard again.
    """

    def __init__(
        self, period: int, grace: int, now: Instant, *, is_empty: Callable[[NodeId], bool]
    ) -> None:
        """`grace`: the agent grace. Both in nanoseconds. `is_empty`: whether a node has no task."""
        self.period = period
        self.grace = grace
        self.calibration = Calibration()
        self._is_empty = is_empty
        self._heard: OrderedDict[NodeId, Instant] = OrderedDict()
        self._silent: dict[NodeId, _Silence] = {}
        self._deadlines: list[tuple[Instant, NodeId]] = []
        """A heap of silent nodes; an entry that is not its node's deadline is out of date."""
        self._probed = 0
        self._fallen: OrderedDict[NodeId, Instant] = OrderedDict()
        """Declared down with tasks within the last minute, and not heard since."""
        self._turn = 0
        self._ticked = now
        self._lenient_until = now

    # What happens

    def await_hello(self, nodes: Iterable[NodeId], now: Instant) -> None:
        """Give nodes that have no session yet LEADER_GRACE to open one; a large fleet longer."""
        awaited = [node_id for node_id in nodes if node_id not in self._heard]
        deadline = after(now, LEADER_GRACE + len(awaited) // HELLOS_PER_SECOND * SECOND)
        for node_id in awaited:
            self._silent[node_id] = silence = _Silence(now, deadline, _Phase.AWAITED, deadline)
            self._await(node_id, silence)

    def heard(self, node_id: NodeId, now: Instant) -> None:
        """A message of the node arrived."""
        if self._heard.pop(node_id, None) is None:
            self._end_silence(node_id)
            self._fallen.pop(node_id, None)
            self.calibration.add(node_id, now)
        self._heard[node_id] = now

    def answered(self, node_id: NodeId, now: Instant) -> bool:
        """Its host answered a probe. Return whether the node becomes disconnected."""
        self.calibration.answered(node_id, now)
        silence = self._silent.get(node_id)
        if silence is None or silence.phase is _Phase.AWAITED:
            return False
        silence.answered, silence.unanswered = True, 0
        if silence.phase is _Phase.DISCONNECTED:
            return False
        self._enter(node_id, silence, _Phase.DISCONNECTED, self._next_probe(silence, now))
        return True

    def tried(self, node_id: NodeId) -> None:
        """Echoes were sent to its host. A window without an answer counts only if this was called
        in it.
        """
        if silence := self._silent.get(node_id):
            silence.tried = True

    def forget(self, node_id: NodeId) -> None:
        """The node was removed."""
        self._heard.pop(node_id, None)
        self._end_silence(node_id)
        self._fallen.pop(node_id, None)
        self.calibration.forget(node_id)

    def set_period(self, period: int, now: Instant) -> None:
        """Change the heartbeat period. A shorter one applies after agents had time to learn it."""
        if period < self.period:
            self._lenient_until = max(self._lenient_until, after(now, self._timeout))
        self.period = period

    # What follows from it

    def tick(self, now: Instant) -> Findings:
        """Probes to send and verdicts as of now. Call it next at `next_deadline`."""
        found = Findings([], [], [])
        late = now - self._ticked > DEAF_AFTER
        self._ticked = now
        if late:
            self._lenient_until = max(self._lenient_until, after(now, self._missed))
        if now >= self._lenient_until:
            self._take_silent(now, found)
            self._take_due(now, found)
            for node_id in self.calibration.due(now, self._heard):
                found.probes.append(Probe(node_id, self._others(node_id)))
        return found

    def next_deadline(self) -> Instant:
        """When the next tick may find something."""
        deadline = min(
            self._deadlines[0][0] if self._deadlines else NEVER, self.calibration.next_due()
        )
        if self._heard:
            deadline = min(deadline, after(next(iter(self._heard.values())), self._missed))
        return max(deadline, self._lenient_until)

    @property
    def nodes_held(self) -> int:
        """Nodes that are held back."""
        return sum(silence.phase is _Phase.HELD for silence in self._silent.values())

    @property
    def down_per_minute(self) -> int:
        """How many nodes with tasks may be declared down per minute. One without tasks makes no
        work for the others.
        """
        fleet = len(self._heard) + len(self._silent) + len(self._fallen)
        return max(DOWN_PER_MINUTE_MIN, fleet // DOWN_PER_MINUTE_SHARE)

    @property
    def nodes_filtered(self) -> int:
        """Nodes whose agents are heard and whose hosts do not answer echoes."""
        return self.calibration.filtered

    @property
    def _missed(self) -> int:
        return self.period + max(self.period // _SHARE, PROBE_WINDOW_MIN)

    @property
    def _timeout(self) -> int:
        return HEARTBEATS_MISSED * self.period

    def _take_silent(self, now: Instant, found: Findings) -> None:
        for node_id, heard in list(islice(self._heard.items(), AT_ONCE)):
            if heard > now - self._missed:
                return
            del self._heard[node_id]
            self._silent[node_id] = _Silence(heard, heard, _Phase.UNPROVEN, now)
            self._probe(node_id, now, found)

    def _take_due(self, now: Instant, found: Findings) -> None:
        for _ in range(AT_ONCE):
            if not self._deadlines or self._deadlines[0][0] > now:
                return
            deadline, node_id = heapq.heappop(self._deadlines)
            silence = self._silent.get(node_id)
            if silence is not None and silence.deadline == deadline:
                self._judge(node_id, silence, now, found)

    def _judge(self, node_id: NodeId, silence: _Silence, now: Instant, found: Findings) -> None:
        match silence.phase:
            case _Phase.AWAITED | _Phase.UNPROVEN | _Phase.HELD:
                self._probe(node_id, now, found)
            case _Phase.DISCONNECTED:
                if now >= self._end_of_grace(silence):
                    self._declare_down(node_id, silence, now, found)
                else:
                    self._probe(node_id, now, found)
            case _Phase.PROBED:
                self._judge_unanswered(node_id, silence, now, found)

    def _judge_unanswered(
        self, node_id: NodeId, silence: _Silence, now: Instant, found: Findings
    ) -> None:
        window = probe_window(self.period)
        silent_for_long = now - silence.since >= self._timeout
        if now - silence.deadline > window // 2 and silence.late < LATE_WINDOWS:
            silence.late += 1  # an answer may be waiting to be read
            self._probe(node_id, now, found)
            return
        silence.unanswered += silence.tried
        is_alive = silence.answered and silence.unanswered < WINDOWS_OF_A_LIVING_HOST
        if is_alive and now < self._end_of_grace(silence):
            self._probe(node_id, now, found)
        elif silent_for_long or (silence.tried and self.calibration.passes(node_id)):
            self._declare_down(node_id, silence, now, found)
        else:
            # The last window ends when three heartbeats are missed.
            last = max(after(silence.since, self._timeout - window), after(now, window))
            self._enter(node_id, silence, _Phase.UNPROVEN, last)

    def _probe(self, node_id: NodeId, now: Instant, found: Findings) -> None:
        silence = self._silent[node_id]
        if self._probed >= PROBED_AT_ONCE and silence.phase is not _Phase.PROBED:
            self._enter(node_id, silence, silence.phase, after(now, self.period))
            return
        if silence.phase is not _Phase.PROBED:
            silence.late = 0
        silence.tried = False
        self._enter(node_id, silence, _Phase.PROBED, after(now, probe_window(self.period)))
        found.probes.append(Probe(node_id, self._others(node_id)))

    def _declare_down(
        self, node_id: NodeId, silence: _Silence, now: Instant, found: Findings
    ) -> None:
        while self._fallen and next(iter(self._fallen.values())) <= now - MINUTE:
            self._fallen.popitem(last=False)
        is_empty = self._is_empty(node_id)
        if is_empty or len(self._fallen) < self.down_per_minute:
            self._end_silence(node_id)
            if not is_empty:
                self._fallen[node_id] = now
            found.down.append(node_id)
            return
        free = after(next(iter(self._fallen.values())), MINUTE)
        self._enter(node_id, silence, _Phase.HELD, free)
        found.held.append(node_id)

    def _others(self, node_id: NodeId) -> tuple[NodeId, ...]:
        """Agents to probe the host: of those heard last, a different choice each time."""
        recent = list(islice(reversed(self._heard), 4 * PROBERS))
        self._turn += 1
        turned = recent[self._turn % len(recent) :] + recent if recent else []
        others = dict.fromkeys(other for other in turned if other != node_id)
        return tuple(islice(others, PROBERS + _SPARE))

    def _next_probe(self, silence: _Silence, now: Instant) -> Instant:
        return min(after(now, self.period), self._end_of_grace(silence))

    def _end_of_grace(self, silence: _Silence) -> Instant:
        return after(silence.grace_from, max(self.grace, self._timeout))

    def _enter(self, node_id: NodeId, silence: _Silence, phase: _Phase, deadline: Instant) -> None:
        self._probed += (phase is _Phase.PROBED) - (silence.phase is _Phase.PROBED)
        silence.phase, silence.deadline = phase, deadline
        self._await(node_id, silence)

    def _await(self, node_id: NodeId, silence: _Silence) -> None:
        heapq.heappush(self._deadlines, (silence.deadline, node_id))

    def _end_silence(self, node_id: NodeId) -> None:
        silence = self._silent.pop(node_id, None)
        self._probed -= silence is not None and silence.phase is _Phase.PROBED
