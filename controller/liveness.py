"""Which nodes have gone silent. PURE: time comes in, deadlines and verdicts go out.

A node is down when nothing was heard of it for HEARTBEATS_MISSED heartbeat periods; a broken stream
is no sign at all. A verdict is passed only on silence we were awake to hear: after a pause of our
own (a stalled host, a stepped clock) everyone gets a full timeout anew. Hearing costs two writes to
a dict, a tick costs what expired.
"""

from collections import OrderedDict
from collections.abc import Iterable

from pyswarm_core.clock import NEVER, SECOND, Instant, after
from pyswarm_core.ids import NodeId
from pyswarm_core.limits import (
    HEARTBEAT_PERIOD_MAX,
    HEARTBEATS_MISSED,
    HEARTBEATS_PER_SECOND,
    HELLOS_PER_SECOND,
    LEADER_GRACE,
)

TICK_PERIOD = SECOND // 2
"""Call `expired` at least this often."""
DEAF_AFTER = 3 * TICK_PERIOD
"""A tick this late means that we were not listening."""
VERDICTS_AT_ONCE = 500
"""Nodes called down in one tick; the next one may follow at once, after others' turn."""


def heartbeat_period(base: int, nodes: int) -> int:
    """Nanoseconds between two heartbeats of each of `nodes` nodes.

    `base`, stretched in steps of a second so that the fleet sends no more than
    HEARTBEATS_PER_SECOND; steps, so that a growing fleet is not told a new period at every join.
    """
    needed = nodes * SECOND // HEARTBEATS_PER_SECOND
    if needed <= base:
        return base
    return max(base, min(-(-needed // SECOND) * SECOND, HEARTBEAT_PERIOD_MAX))


class Liveness:
    """When each node was heard last. Nodes that are down are not tracked until heard again."""

    def __init__(self, period: int, now: Instant) -> None:
        self.period = period
        self._heard: OrderedDict[NodeId, Instant] = OrderedDict()
        self._awaited: OrderedDict[NodeId, Instant] = OrderedDict()
        self._ticked = now
        self._lenient_until = now

    def await_hello(self, nodes: Iterable[NodeId], now: Instant) -> None:
        """Give nodes that have no session yet LEADER_GRACE to open one; a large fleet longer."""
        awaited = [node_id for node_id in nodes if node_id not in self._heard]
        deadline = after(now, LEADER_GRACE + len(awaited) // HELLOS_PER_SECOND * SECOND)
        self._awaited.update(dict.fromkeys(awaited, deadline))

    def heard(self, node_id: NodeId, now: Instant) -> None:
        """Any message of the node arrived."""
        if self._awaited:
            self._awaited.pop(node_id, None)
        self._heard[node_id] = now
        self._heard.move_to_end(node_id)

    def forget(self, node_id: NodeId) -> None:
        """The node was removed."""
        self._heard.pop(node_id, None)
        self._awaited.pop(node_id, None)

    def set_period(self, period: int, now: Instant) -> None:
        """Change the heartbeat period. A shorter one binds once agents can have heard of it."""
        if period < self.period:
            self._pause(now)
        self.period = period

    def expired(self, now: Instant) -> list[NodeId]:
        """Nodes whose deadline has passed, once each; they are no longer tracked.

        At most VERDICTS_AT_ONCE: `next_deadline` has passed then, too.
        """
        late = now - self._ticked > DEAF_AFTER
        self._ticked = now
        if late:
            self._pause(now)
            return []
        down: list[NodeId] = []
        if now >= self._lenient_until:
            _take_until(self._heard, Instant(now - self._timeout), down)
        _take_until(self._awaited, now, down)
        return down

    def next_deadline(self) -> Instant:
        """When `expired` may have something to say by silence alone."""
        deadline = NEVER
        if self._heard:
            oldest = after(next(iter(self._heard.values())), self._timeout)
            deadline = max(oldest, self._lenient_until)
        if self._awaited:
            deadline = min(deadline, next(iter(self._awaited.values())))
        return deadline

    @property
    def _timeout(self) -> int:
        return HEARTBEATS_MISSED * self.period

    def _pause(self, now: Instant) -> None:
        self._lenient_until = max(self._lenient_until, after(now, self._timeout))
        for node_id, deadline in self._awaited.items():
            self._awaited[node_id] = max(deadline, self._lenient_until)


def _take_until(times: OrderedDict[NodeId, Instant], limit: Instant, taken: list[NodeId]) -> None:
    while times and len(taken) < VERDICTS_AT_ONCE:
        node_id, at = next(iter(times.items()))
        if at > limit:
            return
        del times[node_id]
        taken.append(node_id)
