"""The keys of encryption at rest in a running controller, and their file. SHELL."""

import os
import secrets
from functools import partial
from pathlib import Path

from controller.identity.autolock import LockedKey, key_text, lock, unlock
from controller.identity.envelope import KEY_BYTES, NONCE_BYTES, Envelope
from controller.identity.keyfile import FILE, create_key, load_keys, missing, write_key
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
    """The keys of one controller, the current one first. Raises InvalidArgument for a key file that
    cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._keys: tuple[bytes, ...] = ()
        self._locked: tuple[LockedKey, ...] = ()
        self._unlock_key = b""
        """What the file is encrypted with; empty: it is not."""
        self._read()

    @property
    def is_locked(self) -> bool:
        """Whether the key has to be decrypted with an unlock key first."""
        return bool(self._locked)

    @property
    def has_former(self) -> bool:
        """Whether there are former keys."""
        return len(self._keys) > 1

    @property
    def is_empty(self) -> bool:
        """Whether there is no key yet, not even a locked one."""
        if not self._keys and not self._locked:
            self._read()  # an operator may have copied it since
        return not self._keys and not self._locked

    def envelope(self, *, is_new: bool) -> Envelope:
        """The envelope of this controller. Of a new cluster the key is made first.

        Raises InvalidArgument: there is no key, or it is locked.
        """
        if not self._keys and is_new:
            self._keys = (create_key(self._path),)
        if not self._keys:
            raise InvalidArgument(LOCKED if self._locked else missing(self._path))
        return Envelope(self._keys[0], _draw_nonce, self._keys[1:])

    def discard(self) -> None:
        """Remove the key of a cluster that another controller created first."""
        self._path.unlink(missing_ok=True)
        self._keys = ()

    def unlock(self, unlock_key: bytes) -> None:
        """Decrypt the keys. Raises InvalidArgument for another unlock key, Conflict if they are not
        locked.
        """
        if not self._locked:
            raise Conflict("swarm is not locked")
        self._keys = tuple(unlock(one, unlock_key) for one in self._locked)
        self._locked, self._unlock_key = (), unlock_key

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
        if not self._keys or wanted == self._unlock_key:
            return False
        write_key(self._path, "".join(_line(key, wanted) for key in self._keys))
        self._unlock_key = wanted
        return True

    def _read(self) -> None:
        if not self._path.exists():
            return
        found = load_keys(self._path)
        self._keys = tuple(one for one in found if isinstance(one, bytes))
        self._locked = tuple(one for one in found if isinstance(one, LockedKey))


def _line(key: bytes, unlock_key: bytes) -> str:
    return lock(key, unlock_key, _draw_nonce()).text if unlock_key else key_text(key)
