"""Which agents are silent, and whether their hosts live. PURE: what was heard, which host answered
and the time come in; probes to send, verdicts and the next deadline go out.

An agent that misses one heartbeat is silent: its host is probed by the leader and by other agents.

    silence:  period + margin      + window                             three periods
    heard ────────┴─ probes ──────────┴─ no answer: down (DOWN at once)     │
                        └─ an answer: disconnected, probed each period,     │
                           down after two windows without an answer, or     │
                           when the agent's grace is over                   │
              host never known to answer a probe: ──────────────────────────┴─ down

A broken stream is no sign at all. No verdict is passed on a time in which this controller did not
run: after a pause everybody gets a full timeout anew, and a window that is judged late is opened
again. Of many that are silent at once only so many are called down per minute; the others are held
back. Hearing costs two writes to a dict, a tick costs what is due.
"""

import heapq
from collections import OrderedDict
from collections.abc import Iterable
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
"""A tick this late means that this controller did not run."""
AT_ONCE = 500
"""Silent nodes and deadlines of one tick; the next tick may follow at once, after others' turn.
"""
_SHARE = 5
"""Margin and window are this share of the period: a dead host is down after 1.4 periods."""
LATE_WINDOWS = 5
"""Windows in a row that may be judged late and opened again."""
WINDOWS_OF_A_LIVING_HOST = 2
"""Without an answer, in a row, of a host that has answered since its agent fell silent: dead."""
_SPARE = 2
"""Agents named for a probe beyond those needed: some may share the host that is probed."""


def heartbeat_period(base: int, nodes: int) -> int:
    """Nanoseconds between two heartbeats of each of `nodes` nodes.

    `base`, stretched in steps of a second so that the fleet sends no more than
    HEARTBEATS_PER_SECOND; steps, so that a growing fleet is not told a new period at every join.
    """
    needed = nodes * SECOND // HEARTBEATS_PER_SECOND
    if needed <= base:
        return base
    return max(base, min(-(-needed // SECOND) * SECOND, HEARTBEAT_PERIOD_MAX))


def probe_window(period: int) -> int:
    """Nanoseconds that a host has to answer a probe."""
    return max(period // _SHARE, PROBE_WINDOW_MIN)


class Probe(msgspec.Struct, frozen=True):
    """A host to send echoes to now: by the leader, and by the first PROBERS of `agents` that are
    connected and on other hosts.
    """

    node_id: NodeId
    agents: tuple[NodeId, ...]


class Findings(msgspec.Struct):
    """What a tick found, each node once."""

    probes: list[Probe]
    down: list[NodeId]
    held: list[NodeId]
    """Would be down, but too many are silent at once."""


class _Phase(Enum):
    AWAITED = auto()
    """A new leader, or a join: the node has time to open a session."""
    PROBED = auto()
    """Probes are on their way; the deadline is the window's end."""
    UNPROVEN = auto()
    """Nothing answered, but its host never did: only a longer silence means something."""
    DISCONNECTED = auto()
    """Its host answered; the deadline is the next probe or the end of the agent's grace."""
    HELD = auto()
    """Down but for those before it; the deadline is when the next one may be called down."""


class _Silence(msgspec.Struct):
    since: Instant
    """When the agent was heard last, or began to be awaited."""
    phase: _Phase
    deadline: Instant
    tried: bool = False
    """Whether somebody could send echoes in this window and would have told of an answer."""
    late: int = 0
    """Windows in a row that were judged late."""
    unanswered: int = 0
    """Windows in a row in which somebody asked and nobody heard an answer."""
    answered: bool = False
    """Whether the host lived after its agent had fallen silent: one window without an answer, of a
    busy host or network, is then no sign of its death.
    """


class Liveness:
    """When each agent was heard last, and what is known of the silent ones. Nodes that are down are
    not tracked until heard again.
    """

    def __init__(self, period: int, grace: int, now: Instant) -> None:
        """`grace`: of an agent whose host answers probes. Both in nanoseconds."""
        self.period = period
        self.grace = grace
        self.calibration = Calibration()
        self._heard: OrderedDict[NodeId, Instant] = OrderedDict()
        self._silent: dict[NodeId, _Silence] = {}
        self._deadlines: list[tuple[Instant, NodeId]] = []
        """Of the silent; an entry that is not its node's deadline is out of date."""
        self._probed = 0
        self._fallen: OrderedDict[NodeId, Instant] = OrderedDict()
        """Called down within the last minute and not heard since."""
        self._turn = 0
        self._ticked = now
        self._lenient_until = now

    # What happens

    def await_hello(self, nodes: Iterable[NodeId], now: Instant) -> None:
        """Give nodes that have no session yet LEADER_GRACE to open one; a large fleet longer."""
        awaited = [node_id for node_id in nodes if node_id not in self._heard]
        deadline = after(now, LEADER_GRACE + len(awaited) // HELLOS_PER_SECOND * SECOND)
        for node_id in awaited:
            self._silent[node_id] = silence = _Silence(now, _Phase.AWAITED, deadline)
            self._await(node_id, silence)

    def heard(self, node_id: NodeId, now: Instant) -> None:
        """Any message of the node arrived."""
        if self._heard.pop(node_id, None) is None:
            self._end_silence(node_id)
            self._fallen.pop(node_id, None)
            self.calibration.add(node_id, now)
        self._heard[node_id] = now

    def answered(self, node_id: NodeId, now: Instant) -> bool:
        """Its host answered a probe. Whether the node is disconnected because of that."""
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
        """Somebody sent echoes to its host. Without an answer until the window ends, that is a sign
        of death; that nobody could try is none.
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
        """Change the heartbeat period. A shorter one binds once agents can have heard of it."""
        if period < self.period:
            self._lenient_until = max(self._lenient_until, after(now, self._timeout))
        self.period = period

    # What follows from it

    def tick(self, now: Instant) -> Findings:
        """Probes to send and verdicts, as of now; next at `next_deadline`."""
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
        """When `tick` may have something to say."""
        deadline = min(
            self._deadlines[0][0] if self._deadlines else NEVER, self.calibration.next_due()
        )
        if self._heard:
            deadline = min(deadline, after(next(iter(self._heard.values())), self._missed))
        return max(deadline, self._lenient_until)

    @property
    def nodes_held(self) -> int:
        """Nodes that would be down, but for those that were called down before them."""
        return sum(silence.phase is _Phase.HELD for silence in self._silent.values())

    @property
    def down_per_minute(self) -> int:
        """Nodes called down per minute at most, while more are silent at once."""
        fleet = len(self._heard) + len(self._silent) + len(self._fallen)
        return max(DOWN_PER_MINUTE_MIN, fleet // DOWN_PER_MINUTE_SHARE)

    @property
    def nodes_filtered(self) -> int:
        """Nodes whose hosts do not answer echoes although their agents are heard."""
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
            self._silent[node_id] = _Silence(heard, _Phase.UNPROVEN, now)
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
                    self._call_down(node_id, silence, now, found)
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
            self._call_down(node_id, silence, now, found)
        else:
            # With a last look that ends when three heartbeats are missed.
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

    def _call_down(self, node_id: NodeId, silence: _Silence, now: Instant, found: Findings) -> None:
        while self._fallen and next(iter(self._fallen.values())) <= now - MINUTE:
            self._fallen.popitem(last=False)
        if len(self._fallen) < self.down_per_minute:
            self._end_silence(node_id)
            self._fallen[node_id] = now
            found.down.append(node_id)
            return
        free = after(next(iter(self._fallen.values())), MINUTE)
        self._enter(node_id, silence, _Phase.HELD, free)
        found.held.append(node_id)

    def _others(self, node_id: NodeId) -> tuple[NodeId, ...]:
        """Agents to probe the node's host: of those heard last, each time others."""
        recent = list(islice(reversed(self._heard), 4 * PROBERS))
        self._turn += 1
        turned = recent[self._turn % len(recent) :] + recent if recent else []
        others = dict.fromkeys(other for other in turned if other != node_id)
        return tuple(islice(others, PROBERS + _SPARE))

    def _next_probe(self, silence: _Silence, now: Instant) -> Instant:
        return min(after(now, self.period), self._end_of_grace(silence))

    def _end_of_grace(self, silence: _Silence) -> Instant:
        return after(silence.since, max(self.grace, self._timeout))

    def _enter(self, node_id: NodeId, silence: _Silence, phase: _Phase, deadline: Instant) -> None:
        self._probed += (phase is _Phase.PROBED) - (silence.phase is _Phase.PROBED)
        silence.phase, silence.deadline = phase, deadline
        self._await(node_id, silence)

    def _await(self, node_id: NodeId, silence: _Silence) -> None:
        heapq.heappush(self._deadlines, (silence.deadline, node_id))

    def _end_silence(self, node_id: NodeId) -> None:
        silence = self._silent.pop(node_id, None)
        self._probed -= silence is not None and silence.phase is _Phase.PROBED
