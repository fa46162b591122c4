"""The CA of a cluster, and what its controllers show and trust. PURE but for the keys and serial
numbers that `cryptography` draws.
"""

from collections.abc import Sequence
from functools import lru_cache

import msgspec
from msgspec.structs import replace

from controller.identity import ca
from controller.identity.ca import Issuer, Subject, Unit
from controller.identity.rotation import join_token
from pyswarm_core.clock import Instant
from pyswarm_core.identity.certificates import CertificateAuthority
from pyswarm_core.identity.limits import CERT_EXPIRY
from pyswarm_core.identity.tokens import digest_of, parse_join_token, scrape_token
from pyswarm_core.identity.trust import SERVER_NAME
from pyswarm_core.identity.users import UserId, UserToken
from pyswarm_core.kinds import CLUSTER
from pyswarm_core.objects import Cluster

WITHOUT_CA = (
    "this fleet's data was made by a version without certificates: start the controller once with"
    " --convert, then run `pyswarm swarm rejoin --token TOKEN HOST:2377` on every host"
)


class ServerIdentity(msgspec.Struct, frozen=True):
    """What a controller's servers show to callers, and which callers they accept."""

    key: bytes
    chain: bytes
    """PEM: its certificate, those that lead to older roots, the root, the guest certificate."""
    roots: bytes
    """PEM: the root certificates of callers."""
    ends_at: Instant
    renews_at: Instant


def first_cluster(cluster_id: str, secret: str, now: Instant, scrape_secret: str = "") -> Cluster:
    """A new cluster with its CA and its tokens; without a secret none for metrics."""
    authority = ca.new_authority(cluster_id, now)
    return Cluster(
        id=cluster_id,
        created_at=now,
        updated_at=now,
        worker_token=join_token(authority.certificate, secret),
        ca=authority,
        scrape_token=scrape_token(scrape_secret) if scrape_secret else "",
    )


def trusted_roots(cluster: Cluster) -> tuple[str, ...]:
    """The root certificates that callers' certificates may come from, the current one first."""
    return (cluster.ca.certificate, *cluster.former_roots)


def trusted_issuers(cluster: Cluster) -> frozenset[bytes]:
    """The identifiers of the keys of the trusted roots, as certificates have them."""
    return _issuers(trusted_roots(cluster))


@lru_cache(2)
def _issuers(roots: tuple[str, ...]) -> frozenset[bytes]:
    return frozenset(ca.identifier_of(CertificateAuthority(certificate=one)) for one in roots)


@lru_cache(2)
def issuer_of(authority: CertificateAuthority) -> Issuer:
    """The CA's issuer; decoding its key takes as long as issuing ten certificates."""
    return Issuer(authority)


@lru_cache(2)
def issuer_key_of(authority: CertificateAuthority) -> bytes:
    """The identifier of the CA's key, as certificates have it."""
    return ca.identifier_of(authority)


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


def registry_identity(cluster: Cluster, places: Sequence[str], now: Instant) -> ServerIdentity:
    """A fresh key and certificate of a registry that is reached by these names and addresses."""
    key = ca.new_key()
    subject = Subject(Unit.REGISTRY, places[0], cluster.id)
    own = issuer_of(cluster.ca).certify(
        key.public_key(), subject, cluster.spec.cert_expiry, now, places=places
    )
    return ServerIdentity(
        key=ca.key_pem(key),
        chain=own.pem + cluster.cross_certificate.encode(),
        roots=b"",
        ends_at=own.expires_at,
        renews_at=Instant((now + own.expires_at) // 2),
    )


def root_digest(cluster: Cluster) -> str:
    """The digest of the newest root, as tokens have it."""
    return digest_of(ca.der_of(cluster.ca.certificate))


def user_certificate(
    cluster: Cluster, user_id: UserId, csr: bytes, now: Instant, token: UserToken | None = None
) -> str:
    """A certificate of the user for the key of a signing request, and those that lead to an older
    root (PEM). One that is requested with a token ends with it. Raises InvalidArgument.
    """
    lifetime = cluster.spec.cert_expiry
    subject = Subject(Unit.USER, user_id, cluster.id)
    if token is not None:
        subject = replace(subject, token_id=token.id)
        lifetime = min(lifetime, token.ends_at - now)
    issued = issuer_of(cluster.ca).issue(csr, subject, lifetime, now)
    return issued.pem.decode() + cluster.cross_certificate


def issued_from(cluster: Cluster) -> tuple[object, ...]:
    """What a server's certificate depends on."""
    return cluster.ca, cluster.former_roots, cluster.cross_certificate, cluster.spec.cert_expiry


def is_without_ca(value: bytes) -> bool:
    """Whether the stored cluster was made by a version without certificates: it has no root, and
    nothing of it is encrypted. Bytes of anything else are not.
    """
    try:
        return not CLUSTER.decode(value).ca.certificate
    except Exception:  # a decoder names no class for all that it rejects
        return False


def converted(cluster: Cluster, fresh: Cluster) -> Cluster:
    """A cluster of a version without certificates, with a CA and the tokens of `fresh`."""
    authority = ca.new_authority(cluster.id, fresh.created_at)
    secret = parse_join_token(fresh.worker_token).secret
    token = join_token(authority.certificate, secret)
    return replace(
        cluster,
        spec=replace(cluster.spec, cert_expiry=cluster.spec.cert_expiry or CERT_EXPIRY),
        ca=authority,
        worker_token=token,
        scrape_token=fresh.scrape_token,
    )
