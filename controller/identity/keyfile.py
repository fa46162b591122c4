"""The key file of a controller: the key of encryption at rest, which is never in the store. SHELL.

Each line has a key in base64 (`openssl rand -base64 32` makes one), or, while the cluster is locked
automatically, a key encrypted with the unlock key (autolock.py). The first one seals; the others
are former keys, which open what they sealed.
"""

import os
import secrets
from pathlib import Path

from controller.identity.autolock import LockedKey, key_text, parse_keys
from controller.identity.envelope import KEY_BYTES
from pyswarm_core.errors import InvalidArgument, reason_of

FILE = "--encryption-key"
OTHERS = 0o007


def create_key(path: Path) -> bytes:
    """Make a key and its file (mode 0600). Raises InvalidArgument, also if the file exists."""
    if path.exists():
        raise InvalidArgument(f"{FILE}: {path} exists: a new key would not open what is stored")
    key = secrets.token_bytes(KEY_BYTES)
    write_key(path, key_text(key))
    return key


def load_keys(path: Path) -> tuple[bytes, ...] | tuple[LockedKey, ...]:
    """The keys, or the encrypted ones of a controller that is to be unlocked. Raises
    InvalidArgument.
    """
    try:
        mode = path.stat().st_mode
        text = path.read_text()
    except FileNotFoundError:
        raise InvalidArgument(missing(path)) from None
    except (OSError, UnicodeDecodeError) as error:
        told = str(path)
        why = reason_of(error, named=told) if isinstance(error, OSError) else "it is no text"
        raise InvalidArgument(f"{FILE}: {path} cannot be read: {why}") from None
    if mode & OTHERS:
        raise InvalidArgument(
            f"{FILE}: every user of this host may use {path}: expected mode 0600 (chmod 600 {path})"
        )
    try:
        return parse_keys(text)
    except ValueError as error:
        raise InvalidArgument(f"{FILE}: {path} is no key file: {error}") from None


def write_key(path: Path, text: str) -> None:
    """Replace the file, so that a crash leaves the old one or the new one. Raises
    InvalidArgument.
    """
    fresh = path.with_name(f"{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        _sync_directory(path.parent)
    except OSError as error:
        why = reason_of(error, named=str(path))
        raise InvalidArgument(f"{FILE}: {path} cannot be written: {why}") from None


def missing(path: Path) -> str:
    """What to do about a key file that a controller of an existing cluster does not have."""
    return (
        f"{FILE}: the cluster in this store exists, and its encryption key is not in {path}: copy"
        f" the file encryption.key from the state directory of a controller of the cluster to"
        f" {path} (mode 0600), or name it with {FILE}"
    )


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
