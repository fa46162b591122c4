"""The cluster's CA as one controller knows it, and the controller's own certificate. SHELL over the
store.

The CA is part of the stored cluster. The first controller of a store makes both. Every controller
issues its own certificate with the CA's key, and again after half of its life or when the CA has
changed.
"""

import asyncio
from collections.abc import Callable

from controller.identity.cluster import issued_from, server_identity, usable
from controller.store.base import Compare, Put, Store, StoreError, Txn
from pyswarm_core.aio.logs import EventLog
from pyswarm_core.clock import Clock
from pyswarm_core.keys import Keys
from pyswarm_core.kinds import encode
from pyswarm_core.objects import Cluster

_log = EventLog("controller.identity")

LOOK_PERIOD_S = 1.0
"""Between two looks at the stored CA, which every controller has."""
RETRY_S = 0.5


class Authority:
    """Keeps the identity of this controller's servers current."""

    def __init__(
        self,
        store: Store,
        keys: Keys,
        clock: Clock,
        controller_id: str,
        first: Callable[[], Cluster],
    ) -> None:
        self._store = store
        self._keys = keys
        self._clock = clock
        self._controller_id = controller_id
        self._first = first
        self._of: Cluster | None = None
        self._known = asyncio.Event()
        self.identity = server_identity(first(), controller_id, clock.now())
        """Of a cluster that nobody trusts, until the stored one is known."""

    async def known(self) -> None:
        """Return when the stored cluster is known."""
        await self._known.wait()

    async def keep(self) -> None:
        """Create the cluster if there is none, and follow its CA, until cancelled.

        Raises InvalidArgument if the stored cluster has no CA, or cannot be read.
        """
        while True:
            try:
                self.adopt(await self._stored())
                pause_s = LOOK_PERIOD_S
            except StoreError as error:
                _log.warning("authority.store_failed", every_s=LOOK_PERIOD_S, error=error)
                pause_s = RETRY_S
            await asyncio.sleep(min(pause_s, self._renews_in_s()))

    def adopt(self, cluster: Cluster) -> None:
        """Issue a new certificate if the CA has changed or the time has come."""
        now = self._clock.now()
        is_current = self._of is not None and issued_from(self._of) == issued_from(cluster)
        self._of = cluster
        if is_current and now < self.identity.renews_at:
            return
        self.identity = server_identity(cluster, self._controller_id, now)
        _log.info("certificate.issued", ends_at=self.identity.ends_at)
        self._known.set()

    def _renews_in_s(self) -> float:
        return max(0.05, (self.identity.renews_at - self._clock.now()) / 1e9)

    async def _stored(self) -> Cluster:
        """The stored cluster; makes one if there is none."""
        key = self._keys.cluster
        while not (found := await self._store.read(key)).items:
            cluster = self._first()
            txn = Txn(compares=(Compare.absent(key),), puts=(Put(key, encode(cluster)),))
            await self._store.commit(txn)
            _log.info("cluster.created", id=cluster.id)
        return usable(found.items[0].value)
