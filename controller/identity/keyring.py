"""The key of encryption at rest in a running controller, and its file. SHELL."""

import secrets
from functools import partial
from pathlib import Path

from controller.identity.autolock import LockedKey
from controller.identity.envelope import NONCE_BYTES, Envelope
from controller.identity.keyfile import create_key, load_key, missing
from pyswarm_core.errors import InvalidArgument

LOCKED = (
    "Swarm is encrypted and needs to be unlocked before it can be used. Please use"
    ' "pyswarm swarm unlock" to unlock it.'
)
"""Docker's text."""

_draw_nonce = partial(secrets.token_bytes, NONCE_BYTES)


class Keyring:
    """The key of one controller. Raises InvalidArgument for a key file that cannot be used."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._key: bytes | None = None
        self._locked: LockedKey | None = None
        self._read()

    @property
    def is_empty(self) -> bool:
        """Whether there is no key yet, not even a locked one."""
        if self._key is None and self._locked is None:
            self._read()  # an operator may have copied it since
        return self._key is None and self._locked is None

    def envelope(self, *, is_new: bool) -> Envelope:
        """The envelope of this controller. Of a new cluster the key is made first.

        Raises InvalidArgument: there is no key, or it is locked.
        """
        if self._key is None and is_new:
            self._key = create_key(self._path)
        if self._key is None:
            raise InvalidArgument(LOCKED if self._locked else missing(self._path))
        return Envelope(self._key, _draw_nonce)

    def _read(self) -> None:
        if not self._path.exists():
            return
        found = load_key(self._path)
        if isinstance(found, LockedKey):
            self._locked = found
        else:
            self._key = found
