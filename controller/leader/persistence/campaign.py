"""Winning a term of leadership and keeping it. SHELL: the store's leases around `election`.

The clock here is monotonic: it measures how long ago a renewal was sent.
"""

import asyncio
from collections.abc import Callable

from controller.leader.election import (
    Campaign,
    Candidate,
    Follow,
    TakeBack,
    Term,
    encode_candidate,
    holds,
    may_renew,
    next_move,
    next_ttl,
    renew_at,
    renewed,
    step_down_at,
)
from controller.leader.persistence.saving import Deposed
from controller.store.base import (
    Committed,
    Compacted,
    Compare,
    LeaseExpired,
    LeaseId,
    Put,
    Revision,
    Store,
    StoreError,
    StoreMisuse,
    StoreUnavailable,
    Txn,
)
from pyswarm_core.aio.logs import EventLog
from pyswarm_core.clock import SECOND, Clock, seconds
from pyswarm_core.keys import Keys
from pyswarm_core.limits import LEADER_TTL, LEADER_TTL_MEMORY, LOOP_SILENCE_MAX

_log = EventLog("controller.leader.election")

RETRY_S = 0.3
SIGN_OF_LIFE_S = 1.0
POLL_S = 2.0
"""A follower reads the key at least this often, even if no deletion is reported."""


class Elector:
    """One controller's part in elections."""

    def __init__(
        self,
        store: Store,
        keys: Keys,
        me: Candidate,
        clock: Clock,
        on_leader: Callable[[str], None],
    ) -> None:
        self._store = store
        self._keys = keys
        self._me = me
        self._clock = clock
        self._on_leader = on_leader
        self.trouble = ""
        """The store's error that prevents elections; empty if the store answers."""
        self.ttl = LEADER_TTL
        """The time to live of the lease of its next term."""
        self._term: Term | None = None
        self._alive_at = clock.now()

    def holds(self) -> bool:
        """Whether the last term that was won still holds; false after a long pause."""
        return self._term is not None and holds(self._term, self._clock.now())

    async def win(self) -> Term:
        """Return when this controller leads. Retries after every failure of the store."""
        while True:
            try:
                term = await self._try()
            except StoreMisuse:
                raise
            except StoreError as error:
                self._on_leader("")
                self.trouble = str(error)
                _log.warning("election.delayed", error=error)
                await asyncio.sleep(RETRY_S)
                continue
            if term is not None:
                self._term = term
                self._alive_at = self._clock.now()
                self._on_leader(self._me.addr)
                return term

    async def keep(self, term: Term) -> None:
        """Renew the lease while that succeeds. Raises Deposed when leadership has to end.

        It runs on an event loop of its own, so that the leader's work does not delay it. It only
        reads what `live` writes, and only writes what `holds` and the next `win` read.
        """
        began = term.confirmed_at
        while True:
            wait_s = seconds(renew_at(term) - self._clock.now())
            await asyncio.sleep(max(wait_s, 0.0))
            sent_at = self._clock.now()
            if not may_renew(self._alive_at, sent_at):
                raise Deposed(f"the leader did nothing for {seconds(LOOP_SILENCE_MAX):g} s")
            try:
                async with asyncio.timeout(max(seconds(step_down_at(term) - sent_at), 0.001)):
                    ttl_s = await self._store.keep_lease(LeaseId(term.lease))
                self._term = term = renewed(term, sent_at, ttl_s)
                if sent_at - began >= LEADER_TTL_MEMORY:
                    self.ttl = LEADER_TTL
            except LeaseExpired as error:
                raise Deposed(str(error)) from error
            except TimeoutError:
                # A controller that was itself paused sends too late; the store is not to blame.
                if holds(term, sent_at):
                    self.ttl = next_ttl(term.ttl, self._clock.now() - began)
                    _log.warning(
                        "lease.late",
                        error="the store does not answer",
                        next_ttl_s=seconds(self.ttl),
                    )
            except StoreError as error:
                _log.warning("lease.late", error=error)
                await asyncio.sleep(RETRY_S / 3)
            if not holds(term, self._clock.now()):
                raise Deposed("the lease could not be renewed in time")

    async def live(self) -> None:
        """Show that the leader's event loop runs, until cancelled."""
        while True:
            self._alive_at = self._clock.now()
            await asyncio.sleep(SIGN_OF_LIFE_S)

    async def resign(self, term: Term) -> None:
        """Revoke the lease, so that the next leader is elected at once; errors are ignored."""
        self._term = None
        try:
            async with asyncio.timeout(1.0):
                await self._store.revoke_lease(LeaseId(term.lease))
        except (StoreError, TimeoutError) as error:
            _log.warning("lease.abandoned", error=error)

    async def _try(self) -> Term | None:
        read = await self._store.read(self._keys.leader)
        self.trouble = ""
        found = next(iter(read.items), None)
        match next_move(self._me, found.value if found else None, found.lease if found else 0):
            case Campaign():
                return await self._campaign()
            case TakeBack(lease):
                await self._store.revoke_lease(LeaseId(lease))
            case Follow(leader):
                self._on_leader(leader.addr)
                await self._until_gone(Revision(read.revision + 1))
        return None

    async def _campaign(self) -> Term | None:
        sent_at = self._clock.now()
        lease = await self._store.grant_lease(-(-self.ttl // SECOND))
        put = Put(self._keys.leader, encode_candidate(self._me), lease.id)
        txn = Txn((Compare.absent(self._keys.leader),), (put,))
        outcome = await self._store.commit(txn)
        if not isinstance(outcome, Committed):
            await self._store.revoke_lease(lease.id)
            return None
        _log.info("election.won", revision=outcome.revision)
        revision = outcome.revision
        return Term(lease.id, lease.ttl_s * SECOND, revision, revision, sent_at)

    async def _until_gone(self, revision: Revision) -> None:
        # Not from the key's own revision, which is old and may have been compacted away.
        try:
            async with asyncio.timeout(POLL_S):
                await self._store.wait_deleted(self._keys.leader, revision)
        except TimeoutError:
            return
        except (StoreUnavailable, Compacted):
            # The key may still exist: the next read shows that, or fails with the reason.
            await asyncio.sleep(RETRY_S)
