"""Encryption at rest: sensitive fields of stored objects are sealed with AES-256-GCM. PURE.

    sealed field = version (1) | key id (4) | nonce (12) | ciphertext, with a tag of 16

A former key opens what it sealed, until the next leader has sealed that with the current key. The
plaintext is the object's message with that field alone. The associated data is kind, object id
and field path: a ciphertext that was moved to another object or field cannot be opened. An object
without values in sensitive fields is stored as if there were no encryption.
"""

import hashlib
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from google.protobuf.message import Message

from pyswarm_core.api.v1 import objects_pb2
from pyswarm_core.codec import to_proto
from pyswarm_core.kinds import Kind, kind_of
from pyswarm_core.objects import Object

Item = TypeVar("Item", bound=Object)

KEY_BYTES = 32
NONCE_BYTES = 12
VERSION = 1
_ID_BYTES = 4
_HEADER_BYTES = 1 + _ID_BYTES + NONCE_BYTES


class CannotOpen(ValueError):
    """A sealed field cannot be opened; the text says why and what to do."""


def key_id(key: bytes) -> str:
    """The name of a key: the beginning of its digest, in hexadecimal."""
    return _id(key).hex()


def seal(key: bytes, nonce: bytes, plaintext: bytes, associated: bytes) -> bytes:
    """Encrypt. No nonce may be used twice with one key."""
    header = bytes([VERSION]) + _id(key) + nonce
    return header + AESGCM(key).encrypt(nonce, plaintext, associated)


def open_sealed(
    key: bytes, sealed: bytes, associated: bytes, former: Iterable[bytes] = ()
) -> bytes:
    """Decrypt with this key or a former one. Raises CannotOpen."""
    if len(sealed) < _HEADER_BYTES or sealed[0] != VERSION:
        version = sealed[0] if sealed else "none"
        raise CannotOpen(f"it is sealed in version {version} of the format: expected {VERSION}")
    found = sealed[1 : 1 + _ID_BYTES]
    used = next((one for one in (key, *former) if _id(one) == found), None)
    if used is None:
        raise CannotOpen(
            f"it is sealed with encryption key {found.hex()}, and this controller has"
            f" {key_id(key)}: copy the file encryption.key from the state directory of a controller"
            f" that has key {found.hex()}, and name it with --encryption-key"
        )
    nonce = sealed[1 + _ID_BYTES : _HEADER_BYTES]
    try:
        return AESGCM(used).decrypt(nonce, sealed[_HEADER_BYTES:], associated)
    except InvalidTag:
        raise CannotOpen(
            f"its ciphertext (encryption key {key_id(key)}) is corrupted, or was copied from"
            " another object: restore it from a backup of the store"
        ) from None


def associated_data(kind: str, object_id: str, path: str) -> bytes:
    """What a ciphertext is bound to. No part of it contains a zero byte."""
    return "\0".join((kind, object_id, path)).encode()


class Envelope:
    """Encodes stored objects with one key, and decodes them with that or a `former` one. `nonce`
    draws twelve random bytes.
    """

    def __init__(
        self, key: bytes, nonce: Callable[[], bytes], former: tuple[bytes, ...] = ()
    ) -> None:
        for one in (key, *former):
            if len(one) != KEY_BYTES:
                raise ValueError(f"the encryption key has {len(one)} bytes: expected {KEY_BYTES}")
        self._key = key
        self._former = former
        self._nonce = nonce

    @property
    def key_id(self) -> str:
        """The name of its key."""
        return key_id(self._key)

    def encode(self, item: Object) -> bytes:
        """The object as it is stored. Raises ValueError or TypeError if no message can hold it."""
        kind = kind_of(item)
        message = to_proto(item, kind.message())
        boxes = objects_pb2.SealedFields()
        for path in kind.sensitive:
            if (alone := _taken(message, path)) is None:
                continue
            associated = associated_data(kind.name, item.id, path)
            sealed = seal(self._key, self._nonce(), alone.SerializeToString(), associated)
            boxes.sealed.add(path=path, value=sealed)
        return message.SerializeToString() + boxes.SerializeToString()

    def decode(self, kind: Kind[Item, Any], data: bytes) -> Item:
        """Decode a stored object.

        Raises CannotOpen for a field that cannot be opened, another error for bytes of anything
        else.
        """
        if not kind.sensitive:
            return kind.decode(data)
        boxes = objects_pb2.SealedFields.FromString(data).sealed
        if not boxes:
            return kind.decode(data)
        object_id = kind.message.FromString(data).id  # type: ignore[attr-defined]
        opened = [data]
        for box in boxes:
            associated = associated_data(kind.name, object_id, box.path)
            try:
                opened.append(open_sealed(self._key, box.value, associated, self._former))
            except CannotOpen as error:
                raise CannotOpen(f"{box.path} cannot be decrypted: {error}") from None
        return kind.decode(b"".join(opened))  # a message and a part of it, joined, are merged

    def is_sealed(self, kind: Kind[Any, Any], data: bytes) -> bool:
        """Whether no sensitive field of a stored object is in plain text or sealed with a former
        key.
        """
        if not kind.sensitive:
            return True
        boxes = objects_pb2.SealedFields.FromString(data).sealed
        if any(box.value[1 : 1 + _ID_BYTES] != _id(self._key) for box in boxes):
            return False
        message = kind.message.FromString(data)
        return all(_taken(message, path) is None for path in kind.sensitive)


def _id(key: bytes) -> bytes:
    return hashlib.sha256(b"pyswarm encryption key\0" + key).digest()[:_ID_BYTES]


def _taken(message: Message, path: str) -> Message | None:
    """A message with the field alone, which is cleared in `message`; None: it is not set."""
    alone = type(message)()
    source, target = message, alone
    *parents, name = path.split(".")
    for parent in parents:
        if not source.HasField(parent):
            return None
        source, target = getattr(source, parent), getattr(target, parent)
    for descriptor, value in source.ListFields():
        if descriptor.name == name:
            _copy(target, name, value)
            source.ClearField(name)
            return alone
    return None


def _copy(target: Message, name: str, value: Any) -> None:
    if isinstance(value, (str, bytes, int, bool, float)):
        setattr(target, name, value)
    else:
        getattr(target, name).MergeFrom(value)
