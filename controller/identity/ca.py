"""X.509: root certificates, certificates of nodes, users and controllers, and what they say. PURE
but for the keys and serial numbers that `cryptography` draws.

All keys are ECDSA P-256. A certificate names its holder: CN is the id, OU the kind of holder, O the
cluster's id, as in Swarm. Times are instants in nanoseconds; X.509 has whole seconds.
"""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from ipaddress import ip_address

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pyswarm_core.clock import HOUR, SECOND, Instant
from pyswarm_core.errors import InvalidArgument, PermissionDenied
from pyswarm_core.identity.certificates import CertificateAuthority
from pyswarm_core.identity.trust import AGENT_UNIT, GUEST_SCALAR, GUEST_UNIT

ROOT_LIFETIME = 20 * 365 * 24 * HOUR
"""Swarm's."""
BACKDATED = 1 * HOUR
"""A certificate is valid on a host whose clock is behind by this much (Swarm's)."""
CSR_BYTES_MAX = 4_096
"""A request for a P-256 key has some 400 bytes."""

CHAIN_BYTES_MAX = 8_192
"""A certificate has some 900 bytes, and so has one that leads to an older root."""

PrivateKey = ec.EllipticCurvePrivateKey


class Unit(StrEnum):
    """The kind of a certificate's holder: its organisational unit."""

    ROOT = "root"
    """The CA itself."""
    WORKER = AGENT_UNIT
    """A node's agent."""
    MANAGER = "manager"
    """A controller."""
    USER = "user"
    GUEST = GUEST_UNIT
    """Anybody: its key is public."""
    ETCD = "etcd"
    """The embedded etcd or its client, under a CA of their own."""
    REGISTRY = "registry"
    """The fleet's registry: it is a server alone."""


class Subject(msgspec.Struct, frozen=True):
    """Whom a certificate names."""

    unit: Unit
    id: str
    cluster_id: str
    token_id: str = ""
    """Of the token with which a user requested the certificate; it is valid as long as that."""


class Issued(msgspec.Struct, frozen=True):
    """A certificate for somebody else's key."""

    pem: bytes
    expires_at: Instant


class Parsed(msgspec.Struct, frozen=True):
    """What a certificate says."""

    subject: Subject
    starts_at: Instant
    expires_at: Instant
    key_digest: str
    """Of its public key, as `key_digest` returns it."""
    issuer_key: bytes
    """The identifier of the issuer's key."""


def new_key() -> PrivateKey:
    """A fresh private key."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: PrivateKey) -> bytes:
    """The private key in PEM (PKCS #8), not encrypted."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def private_key(pem: bytes) -> PrivateKey:
    """The key that `key_pem` returned as PEM. Raises InvalidArgument for anything else."""
    try:
        key = serialization.load_pem_private_key(pem, None)
    except Exception as error:  # OpenSSL names no class for all that its parser rejects
        raise InvalidArgument(f"this is no private key: {error}") from None
    if not isinstance(key, PrivateKey):
        raise InvalidArgument("this is no private key of ECDSA")
    return key


def new_authority(cluster_id: str, now: Instant) -> CertificateAuthority:
    """A root certificate that signs itself, and its key."""
    key = new_key()
    name = _name(Subject(Unit.ROOT, f"root of {now // SECOND}", cluster_id))
    root = _root(name, key.public_key(), name, key, now)
    return CertificateAuthority(
        certificate=_pem(root),
        key=key.private_bytes(
            serialization.Encoding.DER,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


def cross_signed(new: CertificateAuthority, old: CertificateAuthority, now: Instant) -> str:
    """The new root's key under a certificate of the old root, for those who only trust that."""
    certificate = x509.load_pem_x509_certificate(new.certificate.encode())
    issuer = x509.load_pem_x509_certificate(old.certificate.encode())
    public = certificate.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    return _pem(_root(certificate.subject, public, issuer.subject, _key(old), now))


def der_of(certificate_pem: str) -> bytes:
    """The certificate in DER."""
    certificate = x509.load_pem_x509_certificate(certificate_pem.encode())
    return certificate.public_bytes(serialization.Encoding.DER)


class Issuer:
    """Issues certificates in a CA's name. About 5,000 a second."""

    def __init__(self, authority: CertificateAuthority) -> None:
        self._key = _key(authority)
        self._root = x509.load_pem_x509_certificate(authority.certificate.encode())

    def issue(
        self, csr_pem: bytes, subject: Subject, lifetime: int, now: Instant, *, serves: str = ""
    ) -> Issued:
        """A certificate for the key of this signing request, whose own subject is ignored.

        `serves`: the name by which clients verify the holder as a server; empty: it is none. Raises
        InvalidArgument.
        """
        return self.certify(public_key_of(csr_pem), subject, lifetime, now, serves=serves)

    def certify(
        self,
        key: ec.EllipticCurvePublicKey,
        subject: Subject,
        lifetime: int,
        now: Instant,
        *,
        serves: str = "",
        places: Sequence[str] = (),
    ) -> Issued:
        """A certificate for this key; `serves` is as in `issue`. With `places`, the names and IP
        addresses by which clients verify it, it is of a server alone.
        """
        root_end = _instant(self._root.not_valid_after_utc)
        expires_at = Instant(min(now + lifetime, root_end) // SECOND * SECOND)
        usages = [] if places else [ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = _builder(_name(subject), key, self._root.subject, now, expires_at)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        builder = builder.add_extension(_usage(digital_signature=True), True)
        if names := [*map(_place, places), *([x509.DNSName(serves)] if serves else [])]:
            usages.append(ExtendedKeyUsageOID.SERVER_AUTH)
            builder = builder.add_extension(x509.SubjectAlternativeName(names), False)
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), False)
        signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        certificate = builder.add_extension(signer, False).sign(self._key, hashes.SHA256())
        return Issued(certificate.public_bytes(serialization.Encoding.PEM), expires_at)

    def guest(self, cluster_id: str, lifetime: int, now: Instant) -> bytes:
        """The certificate of the public guest key: for callers who have no other yet."""
        key = ec.derive_private_key(int.from_bytes(GUEST_SCALAR), ec.SECP256R1())
        subject = Subject(Unit.GUEST, Unit.GUEST, cluster_id)
        return self.certify(key.public_key(), subject, lifetime, now).pem


def csr_pem(key: PrivateKey) -> bytes:
    """A signing request for the key."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def public_key_of(csr_pem: bytes) -> ec.EllipticCurvePublicKey:
    """The key of a signing request, which its holder signed. Raises InvalidArgument."""
    expected = "expected a PEM signing request for an ECDSA P-256 key"
    if len(csr_pem) > CSR_BYTES_MAX:
        raise InvalidArgument(f"csr has {len(csr_pem)} bytes: {expected} of at most 4 KiB")
    try:
        request = x509.load_pem_x509_csr(csr_pem)
        key = request.public_key()
    except Exception as error:  # OpenSSL names no class for all that its parser rejects
        raise InvalidArgument(f"csr cannot be read ({error}): {expected}") from None
    # First: to verify a signature of RSA may take 35 ms.
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise InvalidArgument(f"csr has a key of another kind: {expected}")
    if not request.is_signature_valid:
        raise InvalidArgument("csr is not signed by its key: make it again")
    return key


def key_digest(key: ec.EllipticCurvePublicKey) -> str:
    """The SHA-256 digest of a public key, in hexadecimal."""
    der = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(der).hexdigest()


def parse(certificate_pem: bytes) -> Parsed:
    """What the certificate says. Raises InvalidArgument for anything that no Issuer made."""
    if len(certificate_pem) > CHAIN_BYTES_MAX:  # anybody may send one with 100,000 names
        raise InvalidArgument(
            f"the certificate has {len(certificate_pem)} bytes: expected at most {CHAIN_BYTES_MAX}"
        )
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem)
        subject = _subject(certificate.subject)
        key = certificate.public_key()
        signer = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    except Exception as error:  # see `public_key_of`
        raise InvalidArgument(f"this is no certificate of a cluster: {error}") from None
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise InvalidArgument("this is no certificate of a cluster: its key is of another kind")
    return Parsed(
        subject,
        starts_at=_instant(certificate.not_valid_before_utc),
        expires_at=_instant(certificate.not_valid_after_utc),
        key_digest=key_digest(key),
        issuer_key=signer.value.key_identifier or b"",
    )


def identifier_of(authority: CertificateAuthority) -> bytes:
    """The identifier of the CA's key, as `Parsed.issuer_key`."""
    root = x509.load_pem_x509_certificate(authority.certificate.encode())
    return x509.SubjectKeyIdentifier.from_public_key(root.public_key()).digest


def made_at(authority: CertificateAuthority) -> Instant:
    """When the CA was made, in whole seconds."""
    root = x509.load_pem_x509_certificate(authority.certificate.encode())
    return Instant(_instant(root.not_valid_before_utc) + BACKDATED)


def require_proof(certificate_pem: bytes, signed: bytes, signature: bytes) -> None:
    """Raise PermissionDenied unless the certificate's key made this signature (ECDSA, SHA-256)."""
    key = x509.load_pem_x509_certificate(certificate_pem).public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    try:
        key.verify(signature, signed, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise PermissionDenied(
            "the proof of the former key is not valid: it is no signature of the request by the"
            " certificate's key"
        ) from None


def _key(authority: CertificateAuthority) -> PrivateKey:
    key = serialization.load_der_private_key(authority.key, None)
    assert isinstance(key, PrivateKey)
    return key


def _root(
    name: x509.Name,
    key: ec.EllipticCurvePublicKey,
    issuer: x509.Name,
    signer: PrivateKey,
    now: Instant,
) -> x509.Certificate:
    builder = _builder(name, key, issuer, now, Instant(now + ROOT_LIFETIME))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=1), True)
    builder = builder.add_extension(_usage(key_cert_sign=True), True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), False)
    own = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    return builder.add_extension(own, False).sign(signer, hashes.SHA256())


def _builder(
    name: x509.Name,
    key: ec.EllipticCurvePublicKey,
    issuer: x509.Name,
    now: Instant,
    expires_at: Instant,
) -> x509.CertificateBuilder:
    return x509.CertificateBuilder(
        subject_name=name,
        issuer_name=issuer,
        public_key=key,
        serial_number=x509.random_serial_number(),
        not_valid_before=_time(Instant(now - BACKDATED)),
        not_valid_after=_time(expires_at),
    )


def _place(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _usage(*, digital_signature: bool = False, key_cert_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=key_cert_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _name(subject: Subject) -> x509.Name:
    named = [
        (NameOID.ORGANIZATION_NAME, subject.cluster_id),
        (NameOID.ORGANIZATIONAL_UNIT_NAME, subject.unit),
        (NameOID.COMMON_NAME, subject.id),
    ]
    if subject.token_id:
        named.append((NameOID.SERIAL_NUMBER, subject.token_id))
    return x509.Name([x509.NameAttribute(oid, text) for oid, text in named])


def _subject(name: x509.Name) -> Subject:
    def only(oid: x509.ObjectIdentifier) -> str:
        (attribute,) = name.get_attributes_for_oid(oid)
        return str(attribute.value)

    made_with = name.get_attributes_for_oid(NameOID.SERIAL_NUMBER)
    return Subject(
        Unit(only(NameOID.ORGANIZATIONAL_UNIT_NAME)),
        only(NameOID.COMMON_NAME),
        only(NameOID.ORGANIZATION_NAME),
        str(made_with[0].value) if made_with else "",
    )


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _time(instant: Instant) -> datetime:
    return datetime.fromtimestamp(instant // SECOND, UTC)


def _instant(time: datetime) -> Instant:
    return Instant((time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1) * SECOND)
