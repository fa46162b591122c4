"""Where all parts of the control plane listen, from the store. SHELL.

Each controller writes where it and its etcd listen, under a key of its own. The entry has a lease
of LISTENING_TTL: it outlives a controller that is restarted, so that no port opens meanwhile, and
expires if the controller is gone for good.
"""

import asyncio
from collections.abc import Awaitable, Callable

from controller.config import Config
from controller.leader.persistence.controlplane import (
    decode_listens,
    encode_listens,
    hosts_of_agents,
    names_of,
    own_hosts,
)
from controller.leader.persistence.saving import YieldLoop
from controller.leader.sessions import Sessions
from controller.leader.slicing import run_sliced
from controller.store.base import LeaseExpired, LeaseId, Put, Store, StoreError, Txn
from pyswarm_core.aio.hosts import HostNames, host_addresses
from pyswarm_core.aio.logs import EventLog
from pyswarm_core.clock import SECOND, seconds
from pyswarm_core.controlplane import ControlHost
from pyswarm_core.keys import Keys
from pyswarm_core.limits import CONTROL_PERIOD, LISTENING_TTL
from pyswarm_core.state import State

_log = EventLog("controller.listening")

RENEWALS_PER_TTL = 6
_SAME_ERROR_S = 600.0


class Listening:
    """One controller's entry, and its view of all. `run` keeps both up to date."""

    def __init__(
        self,
        store: Store,
        keys: Keys,
        controller_id: str,
        config: Config,
        *,
        members: Callable[[], Awaitable[tuple[str, ...]]],
    ) -> None:
        """`members` returns the URLs of etcd's members, none of an embedded one."""
        self._hosts: tuple[ControlHost, ...] = ()
        """Where all controllers and etcd listen, as the store has it."""
        self._known = asyncio.Event()
        self._store = store
        self._keys = keys
        self._key = keys.listening_of(controller_id)
        self._config = config
        self._members = members
        self._listed: tuple[str, ...] = ()
        self._lease: LeaseId | None = None
        self._renew_at = 0.0
        self._written: bytes | None = None
        self._names = HostNames()
        self._trouble = ""

    async def run(self) -> None:
        """Write the entry and read all, for ever."""
        while True:
            try:
                await self._once()
            except StoreError as error:
                if str(error) != self._trouble:
                    _log.warning("listening.unknown", error=error)
                self._trouble = str(error)
            else:
                self._trouble = ""
            await asyncio.sleep(seconds(CONTROL_PERIOD))

    async def tell(self, state: State, sessions: Sessions, yield_loop: YieldLoop) -> None:
        """Have agents close the control plane to tasks, wherever it listens, for a term."""
        await self._known.wait()
        while True:
            agents = await run_sliced(hosts_of_agents(state), yield_loop)
            sessions.tell_control_plane((*self._hosts, *agents))
            await asyncio.sleep(seconds(CONTROL_PERIOD))

    async def _once(self) -> None:
        members = await self._known_members()
        names = names_of(self._config, members)
        addresses = await asyncio.gather(*map(self._names.addresses, names))
        resolved = dict(zip(names, addresses, strict=True))
        own = own_hosts(self._config, members, host_addresses(), resolved)
        await self._write(encode_listens(own))
        found = await self._store.read(self._keys.listening)
        if all(item.key != self._key for item in found.items):
            self._lease = None  # it expired unnoticed: the entry is written again
        others = decode_listens(item.value for item in found.items)
        self._hosts = tuple(dict.fromkeys((*own, *others)))
        self._known.set()

    async def _known_members(self) -> tuple[str, ...]:
        """The members that etcd listed last: its users may lack the permission to list them."""
        try:
            self._listed = await self._members()
        except StoreError as error:
            _log.warning("listening.members_unknown", error=error, every_s=_SAME_ERROR_S)
        return self._listed

    async def _write(self, value: bytes) -> None:
        now = asyncio.get_running_loop().time()
        if self._lease is not None and now >= self._renew_at:
            try:
                await self._store.keep_lease(self._lease)
            except LeaseExpired:
                self._lease = None
            else:
                self._renew_at = now + seconds(LISTENING_TTL) / RENEWALS_PER_TTL
        if self._lease is not None and value == self._written:
            return
        if self._lease is None:
            self._lease = (await self._store.grant_lease(LISTENING_TTL // SECOND)).id
            self._renew_at = now + seconds(LISTENING_TTL) / RENEWALS_PER_TTL
        await self._store.commit(Txn(puts=(Put(self._key, value, self._lease),)))
        self._written = value
