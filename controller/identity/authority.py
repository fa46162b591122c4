"""The cluster's CA as one controller knows it, and the controller's own certificate. SHELL over the
store.

The CA is part of the stored cluster. The first controller of a store makes both. Every controller
issues its own certificate with the CA's key, and again after half of its life or when the CA has
changed.
"""

import asyncio
from collections.abc import Callable, Iterable

from controller.identity.cluster import (
    WITHOUT_CA,
    converted,
    is_without_ca,
    issued_from,
    server_identity,
)
from controller.identity.keyring import Keyring
from controller.store.base import Compare, CompareFailed, Put, Store, StoreError, Txn
from pyswarm_core.aio.logs import EventLog
from pyswarm_core.clock import Clock
from pyswarm_core.errors import InvalidArgument, PyswarmError
from pyswarm_core.keys import Keys
from pyswarm_core.kinds import CLUSTER
from pyswarm_core.objects import Cluster, Object

_log = EventLog("controller.identity")

LOOK_PERIOD_S = 1.0
"""Between two looks at the stored CA. Another process that leads may have changed it."""
RETRY_S = 0.5


class StoredCluster:
    """The cluster in the store, which has the CA.

    `first` makes one for an empty store. `converts`: give a CA to a cluster without one.
    """

    def __init__(
        self,
        store: Store,
        keys: Keys,
        keyring: Keyring,
        first: Callable[[], Cluster],
        *,
        converts: bool = False,
    ) -> None:
        self._store = store
        self._key = keys.cluster
        self._keyring = keyring
        self._converts = converts
        self.first = first

    async def read(self) -> Cluster:
        """The stored cluster. Raises InvalidArgument if it has no CA, or the key of its sensitive
        fields is missing; PyswarmError for bytes of anything else; StoreError.
        """
        while (found := await self._store.get(self._key)) is None:
            cluster = self.first()
            await self._put(cluster, Compare.absent(self._key), is_new=True)
            _log.info("cluster.created", id=cluster.id)
        if not is_without_ca(found.value):
            return self._decoded(found.value)
        if not self._converts:
            raise InvalidArgument(WITHOUT_CA)
        cluster = self._decoded(found.value, is_new=True)
        fresh = converted(cluster, self.first())
        await self._put(fresh, Compare(self._key, found.mod_revision), is_new=True)
        _log.info("cluster.converted", id=cluster.id)
        return await self.read()

    def _decoded(self, value: bytes, *, is_new: bool = False) -> Cluster:
        try:
            return self._keyring.envelope(is_new=is_new).decode(CLUSTER, value)
        except PyswarmError:
            raise
        except Exception as error:  # a decoder names no class for all that it rejects
            raise PyswarmError(
                "the stored cluster cannot be read: restore it from a backup of the store"
                f" ({error})"
            ) from None

    async def _put(self, cluster: Cluster, compare: Compare, *, is_new: bool = False) -> None:
        makes_key = is_new and self._keyring.is_empty
        value = self._keyring.envelope(is_new=is_new).encode(cluster)
        txn = Txn(compares=(compare,), puts=(Put(self._key, value),))
        outcome = await self._store.commit(txn)
        if makes_key and isinstance(outcome, CompareFailed):
            self._keyring.discard()


class Authority:
    """Keeps the identity of this controller's servers current."""

    def __init__(self, stored: StoredCluster, controller_id: str, clock: Clock) -> None:
        self._stored = stored
        self._clock = clock
        self._controller_id = controller_id
        self._of: Cluster | None = None
        self._known = asyncio.Event()
        self.identity = server_identity(stored.first(), controller_id, clock.now())
        """Of a cluster that nobody trusts, until the stored one is known."""

    @property
    def scrape_token(self) -> str:
        """As it was stored at the last look; empty before the first."""
        return self._of.scrape_token if self._of is not None else ""

    @property
    def cluster(self) -> Cluster | None:
        """The same of the whole cluster; None before the first look."""
        return self._of

    async def known(self) -> None:
        """Return when the stored cluster is known."""
        await self._known.wait()

    async def keep(self) -> None:
        """Create the cluster if there is none, and follow its CA, until cancelled.

        Raises InvalidArgument if the stored cluster has no CA, or cannot be read.
        """
        while True:
            try:
                known = self._of
                found = await self._stored.read()
                if self._of is known:  # else the leader has given a newer one meanwhile
                    self.adopt(found)
                pause_s = LOOK_PERIOD_S
            except StoreError as error:
                _log.warning("authority.store_failed", every_s=LOOK_PERIOD_S, error=error)
                pause_s = RETRY_S
            await asyncio.sleep(min(pause_s, self._renews_in_s()))

    def changed(self, put: Iterable[Object | Cluster]) -> None:
        """The leader of this process has stored these."""
        for item in put:
            if isinstance(item, Cluster):
                self.adopt(item)

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
