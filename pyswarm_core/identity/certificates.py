"""Certificates and keys in stored objects. PURE."""

from pyswarm_core.clock import Instant
from pyswarm_core.model import Model


class NodeCertificate(Model, frozen=True):
    """The newest certificate of a node."""

    expires_at: Instant = Instant(0)
    issued_at: Instant = Instant(0)
    key_digest: str = ""
    """The SHA-256 digest of its public key, in hexadecimal."""
    issuer: bytes = b""
    """The identifier of the issuing CA's key."""
    former_key_digest: str = ""
    """Of the key before: the host may not have the answer to its renewal yet. Empty after a rejoin
    without proof of that key.
    """


class CertificateAuthority(Model, frozen=True):
    """A root certificate and its private key."""

    certificate: str = ""
    """PEM; empty: the fleet was made by a version without certificates."""
    key: bytes = b""
    """PKCS #8, DER."""


class EncryptionKey(Model, frozen=True):
    """A key of IPsec between hosts; the leader creates and replaces it."""

    number: int
    """Part of the SPI; 1, 2, 3…"""
    secret: bytes
    """AES-128 key and salt (RFC 4106), 20 bytes."""
    created_at: Instant = Instant(0)
