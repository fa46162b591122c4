"""Conversion between structs and protobuf messages. PURE.

Structs and messages have the same field names, so one rule converts all of them.

`to_proto` and `from_proto` are for everything outside the hot paths: the plan of a class is
computed once, from its annotations. `chunks.py` (store) and `columns.py` (sessions) convert tasks
in bulk, and their details by the sparse versions.
"""

from collections.abc import Callable
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec
from google.protobuf.message import Message

from pyswarm_core.errors import not_valid

M = TypeVar("M", bound=Message)
S = TypeVar("S", bound=msgspec.Struct)

_Write = Callable[[Message, Any], None]
_Read = Callable[[Message], Any]


def to_proto(value: msgspec.Struct, message: M) -> M:
    """Fill `message` (fresh) with every field of `value`; return it. As a field of another message
    it is present then, although all of `value` may be empty.
    """
    message.SetInParent()
    for name, write, _ in _plan(type(value)):
        write(message, getattr(value, name))
    return message


def from_proto(cls: type[S], message: Message) -> S:
    """The struct of a message. Raises ValueError for an unknown word of an enum."""
    make: Callable[[], Message] = type(message)
    absent, always, readers = _reading(cls, make)
    values = absent.copy()
    for descriptor, _ in message.ListFields():
        if descriptor.name in readers:  # no reader: the struct does not have the field
            name, read = readers[descriptor.name]
            values[name] = read(message)
    for name, read in always:
        values[name] = read(message)
    return cls(**values)


def to_proto_sparse(value: msgspec.Struct, message: M) -> M:
    """The same as `to_proto` for a class whose defaults are all empty or 0, of which most values
    have few fields set: the cost follows those.
    """
    for name, write, _ in _plan(type(value)):
        if field := getattr(value, name):
            write(message, field)
    return message


def from_proto_sparse(cls: type[S], message: Message) -> S:
    """The inverse of `to_proto_sparse`. Raises ValueError for an unknown word of an enum."""
    readers, found = _readers(cls), message.ListFields()
    names = [descriptor.name for descriptor, _ in found]
    return cls(**{name: readers[name](message) for name in names})


_Named = tuple[str, _Read]


@cache
def _reading(
    cls: type[msgspec.Struct], make: Callable[[], Message]
) -> tuple[dict[str, Any], tuple[_Named, ...], dict[str, _Named]]:
    """How a struct is read: the values of fields that a message lacks; what is read from every
    message (dicts, for structs share none, and what is not valid if it is absent); and the other
    fields by their names in the message.
    """
    absent, always, readers = dict[str, Any](), list[_Named](), dict[str, _Named]()
    for name, _, read in _plan(cls):
        try:
            value = read(make())
        except ValueError:
            value = {}
        if isinstance(value, dict):
            always.append((name, read))
        else:
            absent[name] = value
            readers[name.rstrip("_")] = name, read
    return absent, tuple(always), readers


@cache
def _readers(cls: type[msgspec.Struct]) -> dict[str, _Read]:
    assert not any(field.default for field in msgspec.structs.fields(cls))
    return {name: read for name, _, read in _plan(cls)}


@cache
def _plan(cls: type[msgspec.Struct]) -> tuple[tuple[str, _Write, _Read], ...]:
    hints = get_type_hints(cls)
    return tuple(
        (field.name, *_accessors(hints[field.name], field.name.rstrip("_"), field.default))
        for field in msgspec.structs.fields(cls)
    )


def _accessors(hint: Any, name: str, default: Any) -> tuple[_Write, _Read]:
    origin = get_origin(hint)
    if origin is tuple:
        return _repeated(get_args(hint)[0], name)
    if origin is dict:
        return _map(name)
    if origin in (UnionType, Union):
        inner = [arg for arg in get_args(hint) if arg is not NoneType]
        return (
            _submessage(inner[0], name, None) if len(inner) == 1 else _union(inner, name, default)
        )
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return _submessage(hint, name, default)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _scalar(name, hint)
    return _scalar(name, None)


def _scalar(name: str, enum: type[Enum] | None) -> tuple[_Write, _Read]:
    def write(message: Message, value: Any) -> None:
        if value or value is None:  # a fresh message has 0 and empty values
            setattr(message, name, value)

    def read(message: Message) -> Any:
        value = getattr(message, name)
        if enum is None:
            return value
        try:
            return enum(value)
        except ValueError:
            field = f"{message.DESCRIPTOR.name}.{name}"
            words = ", ".join(str(one.value) for one in enum)
            raise ValueError(not_valid(field, value, f"expected one of {words}")) from None

    return write, read


def _submessage(cls: type[msgspec.Struct], name: str, default: Any) -> tuple[_Write, _Read]:
    def write(message: Message, value: Any) -> None:
        if value is not None:
            to_proto(value, getattr(message, name))

    def read(message: Message) -> Any:
        if not message.HasField(name) and default is not msgspec.NODEFAULT:
            return default
        return from_proto(cls, getattr(message, name))

    return write, read


def _union(classes: list[type[msgspec.Struct]], name: str, default: Any) -> tuple[_Write, _Read]:
    """One of several tagged structs: a message with one field for each, named like its tag."""
    by_tag = {str(cls.__struct_config__.tag): cls for cls in classes}

    def write(message: Message, value: Any) -> None:
        to_proto(value, getattr(getattr(message, name), value.__struct_config__.tag))

    def read(message: Message) -> Any:
        if not message.HasField(name) and default is not msgspec.NODEFAULT:
            return default
        held = getattr(message, name)
        for tag, cls in by_tag.items():
            if held.HasField(tag):
                return from_proto(cls, getattr(held, tag))
        raise ValueError(f"{name} is not valid: expected one of {', '.join(by_tag)}")

    return write, read


def _repeated(inner: Any, name: str) -> tuple[_Write, _Read]:
    is_struct = isinstance(inner, type) and issubclass(inner, msgspec.Struct)

    def write(message: Message, value: Any) -> None:
        if not value:
            return
        target = getattr(message, name)
        if is_struct:
            for item in value:
                to_proto(item, target.add())
        else:
            target.extend(value)

    def read(message: Message) -> Any:
        source = getattr(message, name)
        return tuple(from_proto(inner, item) for item in source) if is_struct else tuple(source)

    return write, read


def _map(name: str) -> tuple[_Write, _Read]:
    def write(message: Message, value: Any) -> None:
        if value:
            getattr(message, name).update(value)

    def read(message: Message) -> Any:
        return dict(sorted(getattr(message, name).items()))

    return write, read
