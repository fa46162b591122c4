"""What a client trusts: the fleet's root certificate, found by its digest. PURE.

A controller requires a client certificate of every caller, and sends the fleet's **guest
certificate** in its chain for those that have none. Its private key is no secret: it is derived
from GUEST_PHRASE. A guest may join, renew and show a token, and nothing else.
"""

import base64
import hashlib
import re
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from pyswarm_core.errors import InvalidArgument, PermissionDenied, Unavailable
from pyswarm_core.identity.tokens import digest_of

SERVER_NAME = "controller.pyswarm"
"""The name in the certificate of every controller; clients expect it whatever the address is."""
AGENT_NAME = "agent.pyswarm"
"""The name in the certificate of every agent, which serves its metrics with it."""
ETCD_NAME = "etcd.pyswarm"
"""The name in the certificate of the embedded etcd."""
OUTDATED_KEY = "pyswarm-certificate-outdated"
"""The metadata at the end of calls whose user has a certificate of a former root."""
AGENT_UNIT = "worker"
"""The organisational unit of the certificate of a node's agent."""
GUEST_UNIT = "guest"
"""The organisational unit of the guest certificate."""
GUEST_PHRASE = b"pyswarm guest certificate"
GUEST_SCALAR = hashlib.sha256(GUEST_PHRASE).digest()
"""The guest's private key on P-256, 32 bytes."""

# RFC 5915's ECPrivateKey of P-256 without its public part, which TLS libraries calculate.
_EC_PRIVATE_KEY = bytes.fromhex(f"30310201010420{GUEST_SCALAR.hex()}a00a06082a8648ce3d030107")


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate of a chain, with the fields that clients compare."""

    der: bytes
    subject: str
    issuer: str
    unit: str = ""
    """The organisational unit of the subject."""
    not_before: int = 0
    """Seconds since 1970."""
    not_after: int = 0
    """Seconds since 1970."""

    @property
    def pem(self) -> bytes:
        return _pem("CERTIFICATE", self.der)


class Trust(msgspec.Struct, frozen=True):
    """What a client without a certificate of its own needs for a connection."""

    root_pem: bytes
    guest_pem: bytes


def _pem(label: str, der: bytes) -> bytes:
    text = base64.b64encode(der).decode()
    lines = "\n".join(text[start : start + 64] for start in range(0, len(text), 64))
    return f"-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n".encode()


def ders_of(pems: str) -> tuple[bytes, ...]:
    """The certificates of a PEM file, in DER."""
    blocks = re.findall(r"-----BEGIN CERTIFICATE-----([^-]+)-----END CERTIFICATE-----", pems)
    return tuple(base64.b64decode(block) for block in blocks)


def roots_of(pem: str, owner: str) -> tuple[bytes, ...]:
    """The certificates of a CA's file, in DER. Raises InvalidArgument, which names the owner."""
    try:
        found = ders_of(pem)
    except ValueError:
        found = ()
    if not found:
        raise InvalidArgument(f"{owner}: expected a certificate in PEM form")
    return found


GUEST_KEY_PEM = _pem("EC PRIVATE KEY", _EC_PRIVATE_KEY)


def trusted(chain: Sequence[Certificate], digest: str, host: str, now: int) -> Trust:
    """The root with this digest, and the guest certificate that it issued.

    Raises PermissionDenied if the chain has no such root, Unavailable if a certificate is not
    valid at `now` or the chain has no guest certificate.
    """
    root = root_of(chain, digest, host)
    guest = guest_of(chain, host)
    if problem := out_of_time((chain[0], root, guest), host, now):
        raise Unavailable(problem)
    return Trust(root.pem, guest.pem)


def guest_of(chain: Sequence[Certificate], host: str) -> Certificate:
    """The guest certificate. Raises Unavailable if the chain has none."""
    for certificate in chain:
        if certificate.unit == GUEST_UNIT:
            return certificate
    raise Unavailable(
        f"the controller at {host} sent no guest certificate, so that it accepts no tokens:"
        " check that it has the same version as this program"
    )


def root_of(chain: Sequence[Certificate], digest: str, host: str) -> Certificate:
    """The certificate with this digest. Raises PermissionDenied if the chain has none."""
    for certificate in chain:
        if digest_of(certificate.der) == digest:
            return certificate
    roots = [digest_of(found.der) for found in chain if found.subject == found.issuer]
    has = " and ".join(roots) or "no root certificate"
    raise PermissionDenied(
        f"the controller at {host} does not have this fleet's CA (expected {digest}, it has {has}):"
        " the CA was rotated since the token was made, the token is of another fleet, or somebody"
        " answers in its place; nothing was sent"
    )


def out_of_time(certificates: Sequence[Certificate], host: str, now: int) -> str:
    """Why a controller's certificates are not valid at `now`; empty if they are."""
    for certificate in certificates:
        if not certificate.not_before <= now <= certificate.not_after:
            return validity_text(f"a certificate of the controller at {host}", certificate, now)
    return ""


def validity_text(owner: str, certificate: Certificate, now: int) -> str:
    """Since when a certificate is not valid, by which clock."""
    since, until = instant(certificate.not_before), instant(certificate.not_after)
    here = f"the clock of this host is at {instant(now)}"
    if now < certificate.not_before:
        ahead = certificate.not_before - now
        return (
            f"{owner} is not valid before {since}, and {here}: one of the two clocks is wrong by"
            f" {ahead} s or more, check both with `date -u`"
        )
    return (
        f"{owner} expired at {until}, and {here}: check both clocks with `date -u`; if they are"
        " right, the certificate has to be renewed"
    )


def instant(seconds: int) -> str:
    """`2026-01-31 12:00:00 UTC`."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
