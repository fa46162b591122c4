"""Which certificates of a controller's chain are trusted."""

import base64
import hashlib

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from msgspec.structs import replace

from pyswarm_core.errors import PermissionDenied, Unavailable
from pyswarm_core.identity.tokens import digest_of
from pyswarm_core.identity.trust import GUEST_KEY_PEM, GUEST_SCALAR, Certificate, trusted

NOW = 1_000
LEAF = Certificate(
    der=b"leaf", subject="c1", issuer="root", unit="manager", not_before=0, not_after=2_000
)
ROOT = replace(LEAF, der=b"root", subject="root", unit="ca")
GUEST = replace(LEAF, der=b"guest", subject="guest", unit="guest")
DIGEST = digest_of(b"root")


def test_the_root_and_the_guest_certificate_are_found() -> None:
    cross = replace(ROOT, der=b"cross", issuer="old root", not_after=1)
    trust = trusted([LEAF, cross, ROOT, GUEST], DIGEST, "h:1", NOW)
    assert base64.b64decode(trust.root_pem.split(b"\n")[1]) == b"root"
    assert base64.b64decode(trust.guest_pem.split(b"\n")[1]) == b"guest"


def test_a_root_with_another_digest_is_not_trusted() -> None:
    with pytest.raises(PermissionDenied, match=f"expected {DIGEST}, it has {digest_of(b'evil')}"):
        trusted([LEAF, replace(ROOT, der=b"evil"), GUEST], DIGEST, "h:1", NOW)
    with pytest.raises(PermissionDenied, match="it has no root certificate"):
        trusted([LEAF], DIGEST, "h:1", NOW)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_each_certificate_must_be_valid_now(place: int) -> None:
    for changes, text in (
        ({"not_before": NOW + 40}, "1970-01-01 00:17:20 UTC, and the clock of this host is at"),
        ({"not_after": NOW - 1}, "expired at 1970-01-01 00:16:39 UTC"),
    ):
        chain = [LEAF, ROOT, GUEST]
        chain[place] = replace(chain[place], **changes)
        with pytest.raises(Unavailable) as caught:
            trusted(chain, DIGEST, "h:1", NOW)
        assert text in str(caught.value)
        assert "1970-01-01 00:16:40 UTC" in str(caught.value)


def test_a_skew_says_how_much_it_is_at_least() -> None:
    with pytest.raises(Unavailable, match="wrong by 40 s or more"):
        trusted([replace(LEAF, not_before=NOW + 40), ROOT, GUEST], DIGEST, "h:1", NOW)


def test_the_guests_key_is_the_phrases_hash() -> None:
    assert hashlib.sha256(b"pyswarm guest certificate").digest() == GUEST_SCALAR
    key = serialization.load_pem_private_key(GUEST_KEY_PEM, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert isinstance(key.curve, ec.SECP256R1)
    assert key.private_numbers().private_value == int.from_bytes(GUEST_SCALAR)
