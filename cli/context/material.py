"""Checks credentials before they are stored, or after a controller refused them. SHELL: imports
`cryptography`, which takes 50 ms and is not needed for a call.
"""

import time
from contextlib import suppress

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from cli.context.model import Context, Material
from pyswarm_core.errors import InvalidArgument, quoted
from pyswarm_core.identity.tokens import digest_of, parse_user_token
from pyswarm_core.identity.trust import Certificate, roots_of, validity_text

BACKDATED_S = 3_600
"""A certificate says that it is valid since so long before it was issued."""


def require(context: Context) -> None:
    """Raises InvalidArgument if the host and its credentials do not belong together."""
    material = context.material
    if context.is_local:
        if material != Material():
            raise InvalidArgument(
                f"{context.host} is a socket, which needs no ca, cert, key or token: the mode of"
                " its file says who may open it"
            )
        return
    if material.token and (material.cert or material.key):
        raise InvalidArgument("expected token=, or cert= and key=, not both")
    if material.token:
        token = parse_user_token(material.token)
        if material.ca and token.digest not in map(digest_of, roots_of(material.ca, "ca")):
            raise InvalidArgument("ca: the digest in the token is that of another certificate")
        return
    if not material.ca and not material.cert and not material.key:
        return
    for name in ("ca", "cert", "key"):
        if not getattr(material, name):
            raise InvalidArgument(
                f"{name}= is missing: a certificate needs ca=FILE, cert=FILE and key=FILE"
            )
    if problem := unrelated(material):
        raise InvalidArgument(problem)


def unrelated(material: Material) -> str:
    """Why ca, cert and key do not belong together; empty if they do. The time does not count."""
    certificate = _certificates(material.cert, "cert")[0]
    issuers = [*_certificates(material.ca, "ca"), *_certificates(material.cert, "cert")[1:]]
    try:
        key = load_pem_private_key(material.key.encode(), None)
    except (ValueError, TypeError):
        return "key: expected a private key in PEM form, without a passphrase"
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if key.public_key().public_bytes(*form) != certificate.public_key().public_bytes(*form):
        return "key: it is not the key of the certificate in cert"
    if not any(_is_issued(certificate, issuer) for issuer in issuers):
        return "ca: it did not issue the certificate in cert"
    return ""


def out_of_time(context: Context) -> str:
    """Why the context's certificate is not valid now; empty if it is."""
    now = int(time.time())
    certificate = _certificates(context.material.cert, "cert")[0]
    since = int(certificate.not_valid_before_utc.timestamp())
    until = int(certificate.not_valid_after_utc.timestamp())
    if since <= now <= until:
        return ""
    dates = Certificate(der=b"", subject="", issuer="", not_before=since, not_after=until)
    owner = f"the certificate of context {quoted(context.name)}"
    return validity_text(owner, dates, now)


def half_life(pem: str) -> int:
    """When half of the life of a certificate is over, seconds since 1970."""
    certificate = _certificates(pem, "cert")[0]
    issued = int(certificate.not_valid_before_utc.timestamp()) + BACKDATED_S
    return (issued + int(certificate.not_valid_after_utc.timestamp())) // 2


def _is_issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    with suppress(ValueError, TypeError, InvalidSignature):
        certificate.verify_directly_issued_by(issuer)
        return True
    return False


def _certificates(pem: str, owner: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem.encode())
    except ValueError:
        raise InvalidArgument(f"{owner}: expected a certificate in PEM form") from None
