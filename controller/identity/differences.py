"""The differences between two versions of a spec, as the audit log has them. PURE.

Structs are compared field by field, so that the cost follows what changed. Secrets are masked. Of a
list, `before` has the removed entries and `after` the added ones.
"""

from collections.abc import Iterator
from enum import Enum
from functools import cache
from typing import Any

import msgspec

from controller.identity.masking import (
    entries_without_secrets,
    is_secret,
    value_without_secrets,
    without_secrets,
)
from pyswarm_core.docker.changes import DOCUMENT_PARTS, NUMBERS
from pyswarm_core.identity.audit import MASK, FieldChange

_REORDERED = "reordered"
_EMPTY = '""'
"""The value of an entry that has none, as of a label."""


class _Absent:
    """The value of a field that has no default, of an object that does not exist."""


_ABSENT = _Absent()


def differences(old: Any, new: Any, path: str = "") -> Iterator[FieldChange]:
    """What changed from one struct to another; None or another type: everything that is set."""
    kept = old if type(old) is type(new) else None
    struct: type[msgspec.Struct] = type(new)
    for name, key, default in _fields(struct):
        before = default if kept is None else getattr(kept, name)
        after = getattr(new, name)
        if before is after or before == after:
            continue
        before = _ABSENT if kept is None else before  # what has its default is not shown
        inner = path if key in DOCUMENT_PARTS else f"{path}{key}."
        if isinstance(after, msgspec.Struct):
            yield from _of_structs(before, after, inner, f"{path}{key}")
        else:
            yield from _of_values(before, after, f"{path}{key}")


def _of_structs(before: Any, after: msgspec.Struct, inner: str, path: str) -> Iterator[FieldChange]:
    """A field that is a struct: its fields, or its tag if it is of another type now."""
    if isinstance(before, msgspec.Struct) and type(before) is not type(after):
        yield FieldChange(field=path, before=_tag(before), after=_tag(after))
    yield from differences(before, after, inner)


def _of_values(before: Any, after: Any, path: str) -> Iterator[FieldChange]:
    if isinstance(before, dict) or isinstance(after, dict):
        yield from _of_maps(_map(before), _map(after), path)
    elif isinstance(before, tuple) or isinstance(after, tuple):
        yield _of_lists(_tuple(before), _tuple(after), path)
    elif any(texts := (_text(path, before), _text(path, after))):
        yield FieldChange(field=path, before=texts[0], after=texts[1])


def _of_maps(before: dict[str, str], after: dict[str, str], path: str) -> Iterator[FieldChange]:
    for key in {**before, **after}:
        old, new = before.get(key), after.get(key)
        if old != new:
            before_text, after_text = (_entry_text(path, key, text) for text in (old, new))
            yield FieldChange(field=f"{path}.{key}", before=before_text, after=after_text)


def _entry_text(path: str, key: str, value: str | None) -> str:
    """The value of an entry; empty if there is no such entry."""
    if value == "":
        return _EMPTY
    return MASK if value and is_secret(key) else _text(path, value)


def _of_lists(before: tuple[Any, ...], after: tuple[Any, ...], path: str) -> FieldChange:
    gone = [text for one, text in _entries(before) if one not in after]
    added = [text for one, text in _entries(after) if one not in before]
    if not gone and not added:
        return FieldChange(field=path, before=_REORDERED, after=_REORDERED)
    return FieldChange(field=path, before=", ".join(gone), after=", ".join(added))


def _entries(items: tuple[Any, ...]) -> Iterator[tuple[Any, str]]:
    """Each item and its text."""
    if all(type(item) is str for item in items):
        yield from zip(items, entries_without_secrets(items), strict=True)
        return
    for item in items:
        value = value_without_secrets(msgspec.to_builtins(item))
        yield item, value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _text(path: str, value: Any) -> str:
    if value is None or value is _ABSENT or value == "":
        return ""
    if is_secret(path.rpartition(".")[2]):
        return MASK
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, str):
        return without_secrets(value)
    if isinstance(value, bool | float | bytes):
        return msgspec.json.encode(value).decode()
    if isinstance(value, msgspec.Struct):
        return "set"
    form = NUMBERS.get(path.rpartition(".")[2])
    return form(value) if form else str(value)


def _map(value: Any) -> dict[str, str]:
    return value if isinstance(value, dict) else {}


def _tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else ()


def _tag(value: msgspec.Struct) -> str:
    return str(value.__struct_config__.tag or type(value).__name__)


@cache
def _fields(struct: type[msgspec.Struct]) -> tuple[tuple[str, str, Any], ...]:
    """Name, key in documents and default of each field."""
    return tuple(
        (field.name, field.encode_name, _default(field)) for field in msgspec.structs.fields(struct)
    )


def _default(field: msgspec.structs.FieldInfo) -> Any:
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return _ABSENT if field.default is msgspec.NODEFAULT else field.default
