"""Which hosts answer echoes, tested while their agents are heard. PURE.

Without this, a host that filters ICMP would look dead. A host is probed when its agent is first
heard, once a minute while it answers, and more often while it does not; at most
CALIBRATIONS_AT_ONCE in each CALIBRATION_PAUSE, whatever the size of the fleet.
"""

import heapq
from collections.abc import Mapping

import msgspec

from pyswarm_core.clock import MINUTE, NEVER, SECOND, Instant, after
from pyswarm_core.ids import NodeId
from pyswarm_core.limits import CALIBRATION_PAUSE, CALIBRATIONS_AT_ONCE

AGAIN_AFTER = MINUTE
RETRY_AFTER = 10 * SECOND
PATIENCE = SECOND
"""Time limit of an answer; far longer than a probe's window."""


class _Entry(msgspec.Struct):
    due: Instant
    asked: Instant | None = None
    passes: bool | None = None
    """Whether echoes pass; None: not known yet."""


class Calibration:
    """What is known of each host, and which host is probed next."""

    def __init__(self) -> None:
        self._entries: dict[NodeId, _Entry] = {}
        self._due: list[tuple[Instant, NodeId]] = []
        """A heap; an entry that is not its node's `due` is out of date."""
        self._next_at = Instant(0)

    def add(self, node_id: NodeId, now: Instant) -> None:
        """The agent is heard, for the first time or again."""
        entry = self._entries.setdefault(node_id, _Entry(NEVER))
        if entry.due == NEVER:
            self._plan(node_id, entry, now)

    def answered(self, node_id: NodeId, now: Instant) -> None:
        """The host answered an echo."""
        entry = self._entries.get(node_id)
        if entry is None:
            return
        entry.passes = True
        if entry.asked is not None:
            entry.asked = None
            self._plan(node_id, entry, after(now, AGAIN_AFTER))

    def forget(self, node_id: NodeId) -> None:
        """The node was removed."""
        self._entries.pop(node_id, None)

    def passes(self, node_id: NodeId) -> bool:
        """Whether the host answered its last probe, so that a missing answer means something."""
        entry = self._entries.get(node_id)
        return entry is not None and entry.passes is True

    @property
    def filtered(self) -> int:
        """How many hosts do not answer although their agents are heard."""
        return sum(entry.passes is False for entry in self._entries.values())

    def due(self, now: Instant, heard: Mapping[NodeId, Instant]) -> list[NodeId]:
        """The hosts to probe now. `heard`: when each agent that is not silent was heard last."""
        asked: list[NodeId] = []
        while self._due and self._due[0][0] <= now >= self._next_at:
            due, node_id = heapq.heappop(self._due)
            entry = self._entries.get(node_id)
            if entry is None or entry.due != due:
                continue
            heard_at = heard.get(node_id)
            if heard_at is None:
                entry.asked, entry.due = None, NEVER  # until it is heard again
            elif entry.asked is not None:
                # If the agent was heard since, the echo is lost, not the host.
                is_lost = heard_at >= after(entry.asked, PATIENCE // 2)
                if is_lost:
                    entry.asked, entry.passes = None, False
                self._plan(node_id, entry, after(now, RETRY_AFTER if is_lost else PATIENCE))
            else:
                entry.asked = now
                self._plan(node_id, entry, after(now, PATIENCE))
                asked.append(node_id)
                if len(asked) == CALIBRATIONS_AT_ONCE:
                    self._next_at = after(now, CALIBRATION_PAUSE)
        return asked

    def next_due(self) -> Instant:
        """When a host may be due next."""
        return max(self._due[0][0], self._next_at) if self._due else NEVER

    def _plan(self, node_id: NodeId, entry: _Entry, at: Instant) -> None:
        entry.due = at
        heapq.heappush(self._due, (at, node_id))
