"""Keeps a controller's key file as the cluster's autolock says. SHELL over the store.

Every controller has a key file of its own, and only the leader has the state: each looks at the
stored cluster.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

from google.protobuf.message import DecodeError

from controller.identity.envelope import CannotOpen, Envelope
from controller.identity.keyring import Keyring, new_unlock_key
from controller.store.base import KeyValue, Store, StoreError
from pyswarm_core.aio.logs import EventLog
from pyswarm_core.errors import PyswarmError
from pyswarm_core.keys import Keys
from pyswarm_core.kinds import CLUSTER, KINDS, Kind
from pyswarm_core.objects import Cluster

_log = EventLog("controller.autolock")

LOOK_PERIOD_S = 5.0
FORMER_PERIOD_S = 10.0
"""Between two counts of what is sealed with former keys: each reads all sensitive objects."""


class Locking:
    """The key file of one controller."""

    draw = staticmethod(new_unlock_key)

    def __init__(self, store: Store, keys: Keys, keyring: Keyring) -> None:
        self._store = store
        self._keys = keys
        self._keyring = keyring
        self._writing = asyncio.Lock()

    def require_writable(self) -> None:
        """Raise InvalidArgument if the key file cannot be replaced."""
        self._keyring.require_writable()

    async def run(self) -> None:
        """Look at the stored cluster every LOOK_PERIOD_S, until cancelled."""
        while True:
            try:
                await self.look()
            except (StoreError, PyswarmError, ValueError) as error:
                _log.warning("autolock.failed", every_s=60, error=error)
            await asyncio.sleep(LOOK_PERIOD_S)

    async def look(self) -> None:
        """Follow the stored cluster now."""
        if self._keyring.is_empty:
            return
        if (found := await self._store.get(self._keys.cluster)) is not None:
            try:
                cluster = self._keyring.envelope(is_new=False).decode(CLUSTER, found.value)
            except CannotOpen:
                return  # this controller does not lead, and says why
            await self.follow(cluster)

    async def count_former(self) -> None:
        """Return once the store has nothing that a former key sealed. The leader seals that anew
        when its term begins.
        """
        while self._keyring.has_former:
            try:
                left = await self._former()
            except StoreError as error:
                _log.warning("encryption.failed", every_s=60, error=error)
            else:
                if not left:
                    _log.info("encryption.former_keys_unused")
                    return
                _log.info("encryption.former_keys_used", objects=left)
            await asyncio.sleep(FORMER_PERIOD_S)

    async def _former(self) -> int:
        """How many objects in the store are not sealed with the current key."""
        envelope, left = self._keyring.envelope(is_new=False), 0
        for kind in (CLUSTER, *KINDS.values()):
            if not kind.sensitive:
                continue
            prefix = self._keys.cluster if kind is CLUSTER else self._keys.objects(kind)
            items = (await self._store.read(prefix)).items
            left += await asyncio.to_thread(_unsealed, envelope, kind, items)
        return left

    async def follow(self, cluster: Cluster) -> None:
        """Return when the key file is as this cluster says. Raises InvalidArgument if it cannot be
        written.
        """
        async with self._writing:
            if await asyncio.to_thread(self._keyring.follow, cluster):
                _log.info("autolock.changed", autolock=cluster.spec.autolock)


def _unsealed(envelope: Envelope, kind: Kind[Any, Any], items: Iterable[KeyValue]) -> int:
    count = 0
    for item in items:
        try:
            count += not envelope.is_sealed(kind, item.value)
        except DecodeError:
            count += 1  # nobody can read it
    return count
