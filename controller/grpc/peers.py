"""Whom a connection's certificate names. SHELL over gRPC; gRPC has verified the certificate."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache

import msgspec
from cryptography import x509
from cryptography.x509.oid import NameOID

from controller.grpc.calls import Context
from pyswarm_core.clock import SECOND, Instant
from pyswarm_core.errors import PermissionDenied

PARSED = 4_096
"""Certificates of which the content is kept: parsing one takes as long as a short call."""
TLS = b"TLSv1.3"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Subject(msgspec.Struct, frozen=True):
    """Whom a certificate names."""

    unit: str
    """worker, manager, user or guest."""
    id: str
    cluster_id: str


class Parsed(msgspec.Struct, frozen=True):
    """What a certificate says."""

    subject: Subject
    expires_at: Instant


def certificate_of(context: Context) -> Parsed | None:
    """The content of the caller's certificate; None without one. Raises PermissionDenied for a
    connection of another version than TLS 1.3.
    """
    found = context.auth_context()
    pems = tuple(found.get("x509_pem_cert", ()))
    if not pems:
        return None
    (version,) = found.get("ssl_tls_version", (b"",))
    if version != TLS:
        raise PermissionDenied(f"this connection has {version.decode()}: expected {TLS.decode()}")
    return _parsed(pems[0])


@lru_cache(PARSED)
def _parsed(pem: bytes) -> Parsed:
    certificate = x509.load_pem_x509_certificate(pem)

    def only(oid: x509.ObjectIdentifier) -> str:
        found = certificate.subject.get_attributes_for_oid(oid)
        if len(found) != 1:
            raise PermissionDenied("the certificate is not one of a fleet: expected O, OU and CN")
        return str(found[0].value)

    subject = Subject(
        unit=only(NameOID.ORGANIZATIONAL_UNIT_NAME),
        id=only(NameOID.COMMON_NAME),
        cluster_id=only(NameOID.ORGANIZATION_NAME),
    )
    seconds = (certificate.not_valid_after_utc - _EPOCH) // timedelta(seconds=1)
    return Parsed(subject, Instant(seconds * SECOND))
