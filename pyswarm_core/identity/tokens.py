"""Join tokens and user tokens. PURE.

    PYSWM-1-<digest>-<secret>             a host joins the fleet with it
    PYSWU-1-<digest>-<token id>-<secret>  a caller shows it instead of a client certificate
    PYSWS-1-<secret>                      a caller of metrics shows it

The digest is the SHA-256 of the cluster's root certificate (DER), in base 36 as in Docker's tokens:
a client compares it with the root that a controller sends before it sends anything of the token.
"""

import hashlib
import re

import msgspec

from pyswarm_core.errors import InvalidArgument
from pyswarm_core.ids import ID_LENGTH

DIGEST_LENGTH = 50
"""Digits of a SHA-256 in base 36."""
SECRET_LENGTH = 25
"""Digits of the secret: 128 bits."""
SECRET_MAX = 36**SECRET_LENGTH

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_BITS = 256
_JOIN = "PYSWM"
_USER = "PYSWU"
_SCRAPE = "PYSWS"
_VERSION = "1"
_FORMS = {
    _JOIN: "PYSWM-1-DIGEST-SECRET",
    _USER: "PYSWU-1-DIGEST-ID-SECRET",
}
_SOURCES = {
    _JOIN: "`pyswarm swarm join-token worker` prints one",
    _USER: "`pyswarm user token` makes one",
}
_KINDS = {_JOIN: "a join token", _USER: "a user token"}
_BASE36 = re.compile(r"[0-9a-z]*\Z")


class JoinToken(msgspec.Struct, frozen=True):
    """A token with which hosts join."""

    digest: str
    """Of the root certificate, as `digest_of` returns it."""
    secret: str

    def __str__(self) -> str:
        return f"{_JOIN}-{_VERSION}-{self.digest}-{self.secret}"


class UserToken(msgspec.Struct, frozen=True):
    """A bearer token of a user."""

    digest: str
    """Of the root certificate, as `digest_of` returns it."""
    id: str
    secret: str

    def __str__(self) -> str:
        return f"{_USER}-{_VERSION}-{self.digest}-{self.id}-{self.secret}"


def scrape_token(secret: str) -> str:
    """The token of this secret for callers of metrics, who have the CA in a file."""
    return f"{_SCRAPE}-{_VERSION}-{secret}"


def digest_of(der: bytes) -> str:
    """The digest of a root certificate."""
    return _base36(int.from_bytes(hashlib.sha256(der).digest()), DIGEST_LENGTH)


def secret_of(number: int) -> str:
    """The secret that a random number of 0 to SECRET_MAX - 1 stands for."""
    return _base36(number, SECRET_LENGTH)


def parse_join_token(text: str) -> JoinToken:
    """Raises InvalidArgument, which names the part that is wrong and never quotes the secret."""
    digest, secret = _parts(text, _JOIN)
    _require_digest(digest)
    _require_length("secret", secret, SECRET_LENGTH)
    return JoinToken(digest, secret)


def parse_user_token(text: str) -> UserToken:
    """Raises InvalidArgument, which names the part that is wrong and never quotes the secret."""
    digest, identifier, secret = _parts(text, _USER)
    _require_digest(digest)
    _require_length("id", identifier, ID_LENGTH)
    _require_length("secret", secret, SECRET_LENGTH)
    return UserToken(digest, identifier, secret)


def _parts(text: str, prefix: str) -> list[str]:
    """What follows the prefix and the version."""
    words = text.strip().split("-")
    form, source = _FORMS[prefix], _SOURCES[prefix]
    other = _USER if prefix == _JOIN else _JOIN
    if words[0] == other:
        raise _refused(f"it is {_KINDS[other]}, expected {_KINDS[prefix]} ({form}): {source}")
    if words[0] == "SWMTKN":
        raise _refused(f"it is a token of Docker Swarm, expected {_KINDS[prefix]}: {source}")
    if words[0] != prefix:
        raise _refused(f"it does not begin with {prefix}-: expected {form}; {source}")
    if len(words) > 1 and words[1] != _VERSION:
        raise _refused(f"its version is not {_VERSION}: expected {form}; {source}")
    wanted = len(form.split("-"))
    if len(words) != wanted:
        raise _refused(f"it has {len(words)} parts instead of {wanted}: expected {form}")
    return words[2:]


def _require_digest(digest: str) -> None:
    _require_length("digest", digest, DIGEST_LENGTH)
    if int(digest, 36) >> _BITS:
        raise _refused(f"its digest is larger than {_BITS} bits: it was not copied correctly")


def _require_length(what: str, part: str, length: int) -> None:
    if not _BASE36.match(part):
        raise _refused(f"its {what} has characters other than 0-9 and a-z")
    if len(part) != length:
        cut = "part of it is missing" if len(part) < length else "it is too long"
        raise _refused(f"its {what} has {len(part)} characters instead of {length}: {cut}")


def _refused(reason: str) -> InvalidArgument:
    """The error of a token; its text has no part of the token."""
    error = InvalidArgument(f"the token is not valid: {reason}")
    error.reason = reason
    return error


def _base36(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 36)
        digits.append(_DIGITS[digit])
    assert number == 0
    return "".join(reversed(digits))
