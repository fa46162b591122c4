"""Messages that no client would send: drawn from the methods' descriptors, bytes changed. PURE."""

import math
import random
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from pyswarm_core.api.v1 import control_pb2, dispatcher_pb2

DEPTH_MAX = 6
REPEATS = (0, 1, 1, 2, 3, 300)
SIZES = (0, 1, 100, 5_000, 70_000, 1_000_000)
"""Bytes of hostile texts: around a DNS label, an environment's limit, a spec's limit."""
TEXTS = (
    "",
    "a\nb",
    "\x1b[31mred",
    "../../etc/passwd",
    "we\u202eb",
    "\u2028\u0085\x0b",
    "{{.Node.ID}}",
    "%s%n",
    "node.role==manger",
    "node.labels.x!=",
    "-1",
    "9" * 40,
    "10.128.0.0/16",
    "0.0.0.0/0",
    "::1",
    "224.0.0.1",
    "255.255.255.255",
    "127.0.0.1",
    "any",
    "active",
    "overlay",
    "state=\0",
)
_FRACTIONS = (0.0, 0.5, 1.0, -1.0, 2.0, 1e308, math.inf, -math.inf, math.nan)
_INTEGERS = (0, 1, 2, 80, 65_535, 65_536, 100_000, 2**31 - 1, 2**32 - 1, 2**53, 2**63 - 1)
_F = FieldDescriptor
_BITS = {
    _F.TYPE_INT32: (31, True),
    _F.TYPE_SINT32: (31, True),
    _F.TYPE_UINT32: (32, False),
    _F.TYPE_INT64: (63, True),
    _F.TYPE_UINT64: (64, False),
    _F.TYPE_FIXED64: (64, False),
    _F.TYPE_SFIXED64: (63, True),
}


class Method(NamedTuple):
    """One RPC of the API."""

    path: str
    request: Descriptor
    streams_in: bool
    streams_out: bool


def methods() -> Iterator[Method]:
    """Every RPC of users and of agents."""
    for file in (control_pb2.DESCRIPTOR, dispatcher_pb2.DESCRIPTOR):
        for service in file.services_by_name.values():
            for method in service.methods:
                yield Method(
                    f"/{service.full_name}/{method.name}",
                    method.input_type,
                    method.client_streaming,
                    method.server_streaming,
                )


class Hostile:
    """Draws requests. `names` are objects that may be named: nothing else may come to harm."""

    def __init__(self, chance: random.Random, names: tuple[str, ...]) -> None:
        self._chance = chance
        self._names = names
        self._kinds: tuple[Callable[[bytes], bytes], ...] = (
            self._same,
            self._same,
            self._flipped,
            self._cut,
            self._repeated,
        )

    def request(self, kind: Descriptor) -> bytes:
        """A serialized request, valid or not."""
        message = GetMessageClass(kind)()
        self._fill(message, 0)
        return self._chance.choice(self._kinds)(message.SerializeToString())

    def _fill(self, message: Message, depth: int) -> None:
        for field in message.DESCRIPTOR.fields:
            if depth < DEPTH_MAX and self._chance.random() < 0.6:
                self._set(message, field, depth)

    def _set(self, message: Message, field: Any, depth: int) -> None:
        target = getattr(message, field.name)
        if field.message_type and field.message_type.GetOptions().map_entry:
            for _ in range(self._chance.choice(REPEATS)):
                target[self._text()] = self._text()
        elif field.is_repeated:
            count = self._chance.choice(REPEATS)
            for _ in range(min(count, 3) if depth else count):
                if field.message_type:
                    self._fill(target.add(), depth + 1)
                else:
                    target.append(self._scalar(field))
        elif field.message_type:
            target.SetInParent()
            self._fill(target, depth + 1)
        else:
            setattr(message, field.name, self._scalar(field))

    def _scalar(self, field: FieldDescriptor) -> Any:
        chance = self._chance
        if field.type == _F.TYPE_STRING:
            return self._text()
        if field.type == _F.TYPE_BYTES:
            return chance.randbytes(chance.choice((0, 1, 24, 25, 50, 5_000)))
        if field.type == _F.TYPE_ENUM:
            return chance.choice((0, 1, 2, 99))
        if field.type == _F.TYPE_DOUBLE:
            return chance.choice(_FRACTIONS)
        if field.type == _F.TYPE_BOOL:
            return bool(chance.getrandbits(1))
        bits, signed = _BITS[field.type]
        number = chance.choice(_INTEGERS) & (2**bits - 1)
        return -number if signed and chance.random() < 0.3 else number

    def _text(self) -> str:
        chance = self._chance
        if chance.random() < 0.3:
            return chance.choice(self._names)
        if chance.random() < 0.1:
            return chance.choice("ax\u00e9\U0001f30b") * (chance.choice(SIZES) // 4)
        return chance.choice(TEXTS)

    def _same(self, data: bytes) -> bytes:
        return data

    def _flipped(self, data: bytes) -> bytes:
        changed = bytearray(data)
        for _ in range(min(len(data), self._chance.choice((1, 2, 8)))):
            changed[self._chance.randrange(len(data))] = self._chance.getrandbits(8)
        return bytes(changed)

    def _cut(self, data: bytes) -> bytes:
        return data[: self._chance.randrange(len(data) + 1)]

    def _repeated(self, data: bytes) -> bytes:
        start = self._chance.randrange(len(data) + 1)
        return data[:start] + data[start : start + 50] * self._chance.choice((2, 20)) + data[start:]
