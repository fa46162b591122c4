"""The newest events of the fleet, which the leader has in memory and stores. SHELL.

The store has the events in pages, written behind; a new leader loads them, so the history goes on.
It lacks what the former leader recorded in its last half second.

A follower holds a position in the ring, not a queue: it costs nothing while it waits and reads all
new events together. If it falls behind by more than the ring holds, it gets the number of events
that it missed.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from functools import partial
from itertools import islice
from types import MappingProxyType

from msgspec.structs import replace

from pyswarm_core.aio.logs import EventLog
from pyswarm_core.api.v1 import control_pb2
from pyswarm_core.clock import Instant
from pyswarm_core.codec import from_proto, to_proto
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.limits import DETAIL_LENGTH_MAX, EVENT_PAGE, EVENTS_KEPT, EVENTS_PER_MESSAGE
from pyswarm_core.objects import clipped
from pyswarm_core.views import Event, Events

_log = EventLog("controller.events")

MISSED = "events"
"""The type of the event that counts what a slow follower missed."""

StorePage = Callable[[int, Callable[[], bytes | None]], None]
"""Stores a page, by its number, when the state is next saved; None deletes it."""


def _nowhere(number: int, make: Callable[[], bytes | None]) -> None:
    """Nothing is stored."""


class EventHistory:
    """The newest events, oldest first. Event n of the fleet is on page n // EVENT_PAGE."""

    def __init__(
        self,
        stored: Mapping[int, bytes] = MappingProxyType({}),
        store: StorePage = _nowhere,
        kept: int = EVENTS_KEPT,
    ) -> None:
        """`stored`: the pages of the store by their numbers."""
        self._ring: deque[Event] = deque(maxlen=kept)
        self._pages_kept = -(-kept // EVENT_PAGE)
        self._end = 0
        self._store = store
        self._grown = asyncio.Event()
        self._load(stored)

    def record(self, events: Iterable[Event], at: Instant, revision: int) -> None:
        """Append the events, as of that instant and revision, and wake the followers."""
        first = self._end
        for event in events:
            reason = clipped(event.reason, DETAIL_LENGTH_MAX)
            self._ring.append(replace(event, at=at, revision=revision, reason=reason))
            self._end += 1
        if self._end == first:
            return
        for number in range(first // EVENT_PAGE, (self._end - 1) // EVENT_PAGE + 1):
            self._store(number, partial(self._page, number))
            if (gone := number - self._pages_kept - 1) >= 0:
                self._store(gone, partial(self._page, gone))
        self._grown.set()
        self._grown = asyncio.Event()

    def kept(self, position: int = 0) -> list[Event]:
        """Every event in the ring, from a position on."""
        oldest = self._end - len(self._ring)
        return list(islice(self._ring, max(0, position - oldest), None))

    def position_of(self, revision: int) -> int:
        """The position of the first event of this revision or a later one.

        Raises InvalidArgument if events of this revision may be gone.
        """
        oldest = self._end - len(self._ring)
        if oldest and revision <= self._ring[0].revision:
            raise InvalidArgument(
                f"since-revision: events of revision {revision} are not kept any more; the oldest"
                f" kept are of revision {self._ring[0].revision}: begin with a later revision"
            )
        return oldest + sum(event.revision < revision for event in self._ring)

    async def follow(self, *, position: int | None = None) -> AsyncIterator[list[Event]]:
        """Yield events as they happen, at most EVENTS_PER_MESSAGE at once, for ever; first those
        from a position on, which may be 0.
        """
        oldest = self._end - len(self._ring)
        position = self._end if position is None else max(position, oldest)
        while True:
            if position == self._end:
                await self._grown.wait()
                continue
            oldest = self._end - len(self._ring)
            events = [self._missed(oldest - position)] if position < oldest else []
            position = max(position, oldest)
            begin = position - oldest
            events += islice(self._ring, begin, begin + EVENTS_PER_MESSAGE)
            position = min(position + EVENTS_PER_MESSAGE, self._end)
            yield events

    def _page(self, number: int) -> bytes | None:
        """The page as it is stored; None if none of its events is kept."""
        oldest = self._end - len(self._ring)
        begin = max(0, number * EVENT_PAGE - oldest)
        end = (number + 1) * EVENT_PAGE - oldest
        events = tuple(islice(self._ring, begin, max(0, end)))
        if not events:
            return None
        return to_proto(Events(events), control_pb2.EventsReply()).SerializeToString()

    def _load(self, stored: Mapping[int, bytes]) -> None:
        """Take the newest pages that can be read, up to one that is missing, and delete others."""
        pages: list[list[Event]] = []
        last = max(stored, default=0)
        for number in sorted(stored, reverse=True):
            events = _decoded(number, stored[number]) if number == last - len(pages) else []
            if events and (len(events) == EVENT_PAGE or number == last):
                pages.append(events)
            else:
                self._store(number, _no_page)
        for events in reversed(pages):
            self._ring.extend(events)
        if pages:
            self._end = last * EVENT_PAGE + len(pages[0])

    def _missed(self, count: int) -> Event:
        first = self._ring[0]
        return Event(
            at=first.at,
            revision=first.revision,
            type=MISSED,
            action="missed",
            reason="the reader was too slow",
            count=count,
        )


def _decoded(number: int, page: bytes) -> list[Event]:
    """The events of a page; none if it cannot be read."""
    try:
        return list(from_proto(Events, control_pb2.EventsReply.FromString(page)).events)
    except Exception as error:  # stored by something else
        _log.warning("events.unreadable", page=number, error=error)
        return []


def _no_page() -> None:
    return None
