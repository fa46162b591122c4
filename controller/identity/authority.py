"""The cluster's CA as one controller knows it, and the controller's own certificate. SHELL over the
store.

The CA is part of the stored cluster. The first controller of a store makes both. Every controller
issues its own certificate with the CA's key, and again after half of its life or when the CA has
changed.
"""

import asyncio
from collections.abc import Callable
from functools import lru_cache

import msgspec

from controller.identity import ca
from controller.identity.ca import Issuer, Subject, Unit
from controller.store.base import Compare, Put, Store, StoreError, Txn
from pyswarm_core.aio.logs import EventLog
from pyswarm_core.clock import Clock, Instant
from pyswarm_core.errors import InvalidArgument, PyswarmError
from pyswarm_core.keys import Keys
from pyswarm_core.kinds import CLUSTER, encode
from pyswarm_core.objects import CertificateAuthority, Cluster
from pyswarm_core.tokens import JoinToken, digest_of, scrape_token
from pyswarm_core.trust import SERVER_NAME

_log = EventLog("controller.identity")

LOOK_PERIOD_S = 5.0
"""Between two looks at the stored CA: a following controller learns of a new one by them."""
RETRY_S = 0.5


class ServerIdentity(msgspec.Struct, frozen=True):
    """What a controller's servers show to callers, and which callers they accept."""

    key: bytes
    chain: bytes
    """PEM: its certificate, those that lead to older roots, the root, the guest certificate."""
    roots: bytes
    """PEM: the root certificates of callers."""
    ends_at: Instant
    renews_at: Instant


def first_cluster(cluster_id: str, secret: str, scrape_secret: str, now: Instant) -> Cluster:
    """A new cluster with its CA and its tokens."""
    authority = ca.new_authority(cluster_id, now)
    return Cluster(
        id=cluster_id,
        created_at=now,
        updated_at=now,
        worker_token=str(JoinToken(digest_of(ca.der_of(authority.certificate)), secret)),
        ca=authority,
        scrape_token=scrape_token(scrape_secret),
    )


def trusted_roots(cluster: Cluster) -> tuple[str, ...]:
    """The root certificates that callers' certificates may come from, the current one first."""
    return (cluster.ca.certificate, *cluster.former_roots)


@lru_cache(2)
def issuer_of(authority: CertificateAuthority) -> Issuer:
    """The CA's issuer; decoding its key takes as long as issuing ten certificates."""
    return Issuer(authority)


def server_identity(cluster: Cluster, controller_id: str, now: Instant) -> ServerIdentity:
    """A fresh key and certificate for a controller's servers."""
    key = ca.new_key()
    issuer = issuer_of(cluster.ca)
    lifetime = cluster.spec.cert_expiry
    subject = Subject(Unit.MANAGER, controller_id, cluster.id)
    own = issuer.issue(ca.csr_pem(key), subject, lifetime, now, serves=SERVER_NAME)
    guest = issuer.guest(cluster.id, lifetime, now)
    chain = (own.pem, cluster.cross_certificate.encode(), cluster.ca.certificate.encode(), guest)
    return ServerIdentity(
        key=ca.key_pem(key),
        chain=b"".join(chain),
        roots="".join(trusted_roots(cluster)).encode(),
        ends_at=own.expires_at,
        renews_at=Instant((now + own.expires_at) // 2),
    )


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

    @property
    def scrape_token(self) -> str:
        """As it was stored at the last look; empty before the first."""
        return self._of.scrape_token if self._of is not None else ""

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
        is_current = self._of is not None and _issued_from(self._of) == _issued_from(cluster)
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


def _issued_from(cluster: Cluster) -> tuple[object, ...]:
    """What a server's certificate depends on."""
    return cluster.ca, cluster.former_roots, cluster.cross_certificate, cluster.spec.cert_expiry


def usable(value: bytes) -> Cluster:
    """The stored cluster. Raises InvalidArgument if it has no CA, PyswarmError for other bytes."""
    try:
        cluster = CLUSTER.decode(value)
    except Exception as error:  # a decoder names no class for all that it rejects
        raise PyswarmError(
            f"the stored cluster cannot be read: restore it from a backup of the store ({error})"
        ) from None
    if not cluster.ca.certificate:
        raise InvalidArgument(
            "this fleet's data was made by a version without certificates: start the controller"
            " once with --convert, then run `pyswarm swarm rejoin --token TOKEN HOST:2377` on every"
            " host"
        )
    return cluster
