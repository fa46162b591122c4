"""Which controllers run: followers write an entry to the store, and all read the entries. SHELL.

A follower's entry has a lease that the follower renews, so that the entry of a dead follower
expires and nothing is written while nothing changes. The leader has no entry, and renews only the
lease of the leader key. While the store does not answer, the last known addresses are kept.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from controller.leader.election import Candidate, decode_candidate, encode_candidate
from controller.store.base import Delete, LeaseExpired, LeaseId, Put, Store, StoreError, Txn
from pyswarm_core.aio.logs import EventLog
from pyswarm_core.clock import SECOND, seconds
from pyswarm_core.keys import Keys
from pyswarm_core.limits import CONTROLLER_PERIOD, CONTROLLER_TTL, CONTROLLERS_MAX

_log = EventLog("controller.registry")

_LEAVE_TIMEOUT_S = 1.0


class Registry:
    """One controller's entry, and its view of the others."""

    def __init__(
        self,
        store: Store,
        keys: Keys,
        me: Candidate,
        on_change: Callable[[tuple[str, ...]], None],
        leads: Callable[[], bool] = lambda: False,
    ) -> None:
        """`on_change` is called with the addresses of all others when they change."""
        self._store = store
        self._keys = keys
        self._me = me
        self._on_change = on_change
        self._leads = leads
        self._lease: LeaseId | None = None
        self._known: tuple[str, ...] = ()
        self._trouble = ""

    async def run(self) -> None:
        """Write the entry and read the others, for ever; delete the entry when cancelled."""
        try:
            while True:
                await self._once()
                await asyncio.sleep(seconds(CONTROLLER_PERIOD))
        finally:
            with suppress(StoreError, TimeoutError):
                async with asyncio.timeout(_LEAVE_TIMEOUT_S):
                    await self._store.commit(Txn(deletes=(Delete(self._key),)))

    @property
    def _key(self) -> bytes:
        return self._keys.controller(self._me.id)

    async def _once(self) -> None:
        try:
            if self._leads():
                self._lease = None
            else:
                await self._tell()
            found = await self._store.read(self._keys.controllers)
        except StoreError as error:
            if str(error) != self._trouble:
                _log.warning("registry.unknown", error=error)
            self._trouble = str(error)
            return
        self._trouble = ""
        addresses = {decode_candidate(item.value).addr for item in found.items}
        known = tuple(sorted(addresses - {"", self._me.addr})[: CONTROLLERS_MAX - 1])
        if known != self._known:
            self._known = known
            self._on_change(known)

    async def _tell(self) -> None:
        if self._lease is not None:
            try:
                await self._store.keep_lease(self._lease)
            except LeaseExpired:
                self._lease = None
            else:
                return
        lease = await self._store.grant_lease(CONTROLLER_TTL // SECOND)
        put = Put(self._key, encode_candidate(self._me), lease.id)
        await self._store.commit(Txn(puts=(put,)))
        self._lease = lease.id
