"""The key of encryption at rest in a running controller, and its file. SHELL."""

import os
import secrets
from functools import partial
from pathlib import Path

from controller.identity.autolock import LockedKey, key_text, lock, unlock
from controller.identity.envelope import KEY_BYTES, NONCE_BYTES, Envelope
from controller.identity.keyfile import FILE, create_key, load_key, missing, write_key
from pyswarm_core.errors import Conflict, InvalidArgument
from pyswarm_core.objects import Cluster

LOCKED = (
    "Swarm is encrypted and needs to be unlocked before it can be used. Please use"
    ' "pyswarm swarm unlock" to unlock it.'
)
"""Docker's text."""

new_unlock_key = partial(secrets.token_bytes, KEY_BYTES)
_draw_nonce = partial(secrets.token_bytes, NONCE_BYTES)


class Keyring:
    """The key of one controller. Raises InvalidArgument for a key file that cannot be used."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._key: bytes | None = None
        self._locked: LockedKey | None = None
        self._unlock_key = b""
        """What the file is encrypted with; empty: it is not."""
        self._read()

    @property
    def is_locked(self) -> bool:
        """Whether the key has to be decrypted with an unlock key first."""
        return self._locked is not None

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

    def discard(self) -> None:
        """Remove the key of a cluster that another controller created first."""
        self._path.unlink(missing_ok=True)
        self._key = None

    def unlock(self, unlock_key: bytes) -> None:
        """Decrypt the key. Raises InvalidArgument for another unlock key, Conflict if it is not
        locked.
        """
        if self._locked is None:
            raise Conflict("swarm is not locked")
        self._key = unlock(self._locked, unlock_key)
        self._locked, self._unlock_key = None, unlock_key

    def require_writable(self) -> None:
        """Raise InvalidArgument if the file cannot be replaced: autolock would have no effect."""
        if not os.access(self._path, os.W_OK) or not os.access(self._path.parent, os.W_OK):
            raise InvalidArgument(
                f"--autolock: the key file {self._path} of this controller cannot be written"
                f" (a Secret of Kubernetes?): expected {FILE} to name a file that can be replaced"
            )

    def follow(self, cluster: Cluster) -> bool:
        """Encrypt or decrypt the file as the cluster says; return whether it changed. Raises
        InvalidArgument if the file cannot be written.
        """
        wanted = cluster.unlock_key if cluster.spec.autolock else b""
        if self._key is None or wanted == self._unlock_key:
            return False
        text = lock(self._key, wanted, _draw_nonce()).text if wanted else key_text(self._key)
        write_key(self._path, text)
        self._unlock_key = wanted
        return True

    def _read(self) -> None:
        if not self._path.exists():
            return
        found = load_key(self._path)
        if isinstance(found, LockedKey):
            self._locked = found
        else:
            self._key = found
