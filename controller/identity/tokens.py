"""The text of a user's token: PYSWU-1-<digest of the CA>-<token id>-<secret>. PURE.

The digest lets a client verify the controller before it sends the token. The secret is 32 random
bytes in hex.
"""

import re
from typing import NamedTuple

_FORM = re.compile(r"PYSWU-1-([0-9a-z]{1,128})-([0-9a-v]{25})-([0-9a-f]{64})", re.ASCII)
SECRET_BYTES = 32


class Token(NamedTuple):
    """The parts of a token."""

    ca_digest: str
    id: str
    secret: bytes


def token_text(token: Token) -> str:
    """The text that its user is shown once."""
    return f"PYSWU-1-{token.ca_digest}-{token.id}-{token.secret.hex()}"


def parse_token(text: str) -> Token | None:
    """The parts of a text; None if it is no token."""
    found = _FORM.fullmatch(text)
    return Token(found[1], found[2], bytes.fromhex(found[3])) if found else None
