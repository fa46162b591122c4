"""The texts of key files and of the unlock key. PURE.

An unlock key has Docker's form, `SWMKEY-1-` and 32 random bytes in base64. With autolock it
encrypts the key of encryption at rest in the key file of each controller (AES-256-GCM); the id of
the encrypted key is the associated data.
"""

import re
from base64 import b64decode, b64encode
from binascii import Error

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from controller.identity.envelope import KEY_BYTES, NONCE_BYTES, key_id
from pyswarm_core.errors import InvalidArgument

PREFIX = "SWMKEY-1-"
_LOCKED = "locked-1"
_FORM = f"{PREFIX} and {KEY_BYTES} bytes in base64, as pyswarm swarm unlock-key prints it"
_EXPECTED = f"expected {KEY_BYTES} bytes in base64 on each line"
_ID = re.compile(r"[0-9a-f]{8}")


class LockedKey(msgspec.Struct, frozen=True):
    """A key that is encrypted with the unlock key."""

    key_id: str
    nonce: bytes
    ciphertext: bytes

    @property
    def text(self) -> str:
        """The content of the key file."""
        return f"{_LOCKED} {self.key_id} {b64encode(self.nonce + self.ciphertext).decode()}\n"


def lock(key: bytes, unlock_key: bytes, nonce: bytes) -> LockedKey:
    """Encrypt a key. No nonce may be used twice with one unlock key."""
    name = key_id(key)
    return LockedKey(name, nonce, AESGCM(unlock_key).encrypt(nonce, key, name.encode()))


def unlock(locked: LockedKey, unlock_key: bytes) -> bytes:
    """The key. Raises InvalidArgument for another unlock key."""
    try:
        key = AESGCM(unlock_key).decrypt(locked.nonce, locked.ciphertext, locked.key_id.encode())
    except InvalidTag:
        raise InvalidArgument(
            "invalid key: it does not unlock this controller: pyswarm swarm unlock-key prints the"
            " current one on an unlocked controller"
        ) from None
    return key


def key_text(key: bytes) -> str:
    """The content of the key file of a controller that is not locked."""
    return b64encode(key).decode() + "\n"


def parse_keys(text: str) -> tuple[bytes, ...] | tuple[LockedKey, ...]:
    """A key of each line, the current one first. Raises ValueError."""
    found = [parse_key(line) for line in text.split("\n") if line.strip()]
    keys = tuple(one for one in found if isinstance(one, bytes))
    locked = tuple(one for one in found if isinstance(one, LockedKey))
    if bool(keys) is bool(locked):
        raise ValueError(_EXPECTED)
    return keys or locked


def parse_key(text: str) -> bytes | LockedKey:
    """The key of one line: the inverse of `key_text` and `LockedKey.text`. Raises ValueError."""
    words = text.split()
    if len(words) == 1:
        return _bytes(words[0], KEY_BYTES)
    if len(words) == 3 and words[0] == _LOCKED and _ID.fullmatch(words[1]):
        content = _bytes(words[2], NONCE_BYTES + KEY_BYTES + 16)
        return LockedKey(words[1], content[:NONCE_BYTES], content[NONCE_BYTES:])
    raise ValueError(_EXPECTED)


def unlock_key_text(unlock_key: bytes) -> str:
    """The unlock key as users see it."""
    return PREFIX + b64encode(unlock_key).decode().rstrip("=")


def parse_unlock_key(text: str) -> bytes:
    """The inverse of `unlock_key_text`. Raises InvalidArgument, whose text has no part of it."""
    word = text.strip()
    try:
        if not word.startswith(PREFIX):
            raise ValueError
        content = word.removeprefix(PREFIX)
        return _bytes(content + "=" * (-len(content) % 4), KEY_BYTES)
    except ValueError:
        raise InvalidArgument(f"the unlock key is not valid: expected {_FORM}") from None


def _bytes(text: str, size: int) -> bytes:
    try:
        content = b64decode(text, validate=True)
    except Error:
        raise ValueError(_EXPECTED) from None
    if len(content) != size:
        raise ValueError(_EXPECTED)
    return content
