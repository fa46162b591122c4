"""Which controllers live: those that follow tell so in the store, and all read who does. SHELL.

A follower's entry hangs on a lease that it renews, so that a dead one's goes by itself and nothing
is written while nothing changes. A leader has no entry: it knows of itself, and renews one lease
alone. Losing the store changes nothing: who was known last stays known.
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
    """One controller's part in it."""

    def __init__(
        self,
        store: Store,
        keys: Keys,
        me: Candidate,
        on_change: Callable[[tuple[str, ...]], None],
        leads: Callable[[], bool] = lambda: False,
    ) -> None:
        """`on_change` is told the addresses of all others, whenever these are not the same."""
        self._store = store
        self._keys = keys
        self._me = me
        self._on_change = on_change
        self._leads = leads
        self._lease: LeaseId | None = None
        self._known: tuple[str, ...] = ()
        self._trouble = ""

    async def run(self) -> None:
        """Tell and read for ever; at the end (cancelled) take the entry back."""
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
        told = {decode_candidate(item.value).addr for item in found.items}
        known = tuple(sorted(told - {"", self._me.addr})[: CONTROLLERS_MAX - 1])
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
