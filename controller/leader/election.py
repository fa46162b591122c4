"""Which controller leads, and until when, derived from the leader key and its lease. PURE.

The leader key has a lease of LEADER_TTL, or a longer one if the store was slow. The controller
that creates the key leads while the lease is renewed. Every write of the leader compares the key's
revision (the fence), so a deposed leader cannot write even if it has not noticed yet. A leader that
cannot renew its lease steps down before the store drops the lease: it counts from when it *sent*
the last renewal that succeeded. Instants here are of a monotonic clock.
"""

import msgspec

from pyswarm_core.clock import SECOND, Instant, after
from pyswarm_core.limits import (
    LEADER_TTL,
    LEADER_TTL_MAX,
    LEADER_TTL_MEMORY,
    LOOP_SILENCE_MAX,
)

RENEWALS_PER_TTL = 4
"""Renewals tried within one time to live: two may be lost."""
SAFETY_SHARE = 8
"""A leader steps down this share of the time to live before the store could drop its lease."""


class Candidate(msgspec.Struct, frozen=True):
    """A controller as the leader key's value names it."""

    id: str
    """Survives restarts: a controller that finds its own id in the key may end that lease."""
    name: str
    addr: str
    """The address of its API, for redirects."""


class Term(msgspec.Struct, frozen=True):
    """One controller's leadership."""

    lease: int
    ttl: int
    created: int
    """The leader key's create revision: the same as long as this term lasts."""
    fence: int
    """The leader key's mod revision: every write of this term compares it."""
    confirmed_at: Instant
    """When the last renewal that succeeded was sent."""


class Campaign(msgspec.Struct, frozen=True):
    """There is no leader: try to create the key."""


class TakeBack(msgspec.Struct, frozen=True):
    """The key is from an earlier run of this controller: end its lease, then campaign."""

    lease: int


class Follow(msgspec.Struct, frozen=True):
    """Another controller leads: wait until the key is gone."""

    leader: Candidate


def encode_candidate(candidate: Candidate) -> bytes:
    """The leader key's value."""
    return msgspec.json.encode(candidate)


def decode_candidate(value: bytes) -> Candidate:
    """The inverse; an unreadable value gives a candidate without id and address."""
    try:
        return msgspec.json.decode(value, type=Candidate)
    except msgspec.MsgspecError:
        return Candidate("", "unknown", "")


def next_move(me: Candidate, value: bytes | None, lease: int) -> Campaign | TakeBack | Follow:
    """What to do when the leader key has this value (None: it does not exist) and this lease."""
    if value is None:
        return Campaign()
    leader = decode_candidate(value)
    if leader.id == me.id:
        return TakeBack(lease)
    return Follow(leader)


def known_leader(seen: str, own: str, *, leads: bool) -> str:
    """The leader's address for redirects; never this controller's own while it does not lead."""
    return "" if seen == own and not leads else seen


def renewed(term: Term, sent_at: Instant, ttl_s: int) -> Term:
    """The term after a renewal sent at `sent_at` was confirmed with this time to live."""
    confirmed_at = max(term.confirmed_at, sent_at)
    return msgspec.structs.replace(term, confirmed_at=confirmed_at, ttl=ttl_s * SECOND)


def renew_at(term: Term) -> Instant:
    """When to send the next renewal."""
    return after(term.confirmed_at, term.ttl // RENEWALS_PER_TTL)


def step_down_at(term: Term) -> Instant:
    """When leadership ends unless a renewal is confirmed before."""
    return after(term.confirmed_at, term.ttl - term.ttl // SAFETY_SHARE)


def may_renew(alive_at: Instant, now: Instant) -> bool:
    """Whether a leader whose event loop last ran at `alive_at` is alive. A separate thread sends
    renewals; it must not do so for a leader whose loop hangs.
    """
    return now - alive_at <= LOOP_SILENCE_MAX


def next_ttl(ttl: int, lasted: int) -> int:
    """The time to live of the next lease, after a term with this one ended because the store did
    not answer in time. Otherwise an overloaded machine would have no leader for most of the time.
    """
    return min(2 * (ttl if lasted < LEADER_TTL_MEMORY else LEADER_TTL), LEADER_TTL_MAX)


def holds(term: Term, now: Instant) -> bool:
    """Whether the leader may still act as one."""
    return now < step_down_at(term)
