"""`--secret` and `--config`: Docker's syntax of references. PURE."""

import csv
import re
from collections.abc import Callable
from typing import TypeVar

from pyswarm_core.errors import InvalidArgument, invalid, quoted
from pyswarm_core.payloads.references import (
    DEFAULT_MODE,
    NO_SIGNAL,
    ConfigReference,
    FileTarget,
    Reference,
    SecretReference,
)

R = TypeVar("R", bound=Reference)

_KEYS = ("source", "src", "target", "uid", "gid", "mode")
_MODE = re.compile(r"(?:0o?)?[0-7]{1,4}")
_NUMBER = re.compile(r"[1-9][0-9]{0,8}")


def secret(text: str, flag: str = "--secret") -> SecretReference:
    """`NAME[@NUMBER]`, or `source=NAME,target=PATH,uid=0,gid=0,mode=0444`. Raises
    InvalidArgument.
    """
    name, number, file = _parsed(text, flag)
    return SecretReference(secret_name=name, number=number, pinned=bool(number), file=file)


def secret_env(text: str, flag: str = "--secret-env") -> SecretReference:
    """`VARIABLE=NAME[@NUMBER]`. Raises InvalidArgument."""
    variable, equals, source = text.partition("=")
    if not equals or not variable or not source:
        raise invalid(flag, text, "expected VARIABLE=NAME or VARIABLE=NAME@VERSION, of a secret")
    name, number = _source(source, lambda reason: invalid(flag, text, reason))
    return SecretReference(
        secret_name=name,
        number=number,
        pinned=bool(number),
        file=FileTarget(name="", mode=0),
        env=variable,
    )


def config(text: str, flag: str = "--config") -> ConfigReference:
    """As `secret`, of a config."""
    name, number, file = _parsed(text, flag)
    return ConfigReference(config_name=name, number=number, pinned=bool(number), file=file)


def _parsed(text: str, flag: str) -> tuple[str, int, FileTarget]:
    def refused(reason: str) -> InvalidArgument:
        return invalid(flag, text, reason)

    found = _fields(text, flag)
    source = found.get("source") or found.get("src", "")
    if not source:
        raise refused("source is required")
    name, number = _source(source, refused)
    mode = found.get("mode", "")
    if mode and not _MODE.fullmatch(mode):
        raise refused(f"invalid mode specified: {mode}: expected an octal mode such as 0440")
    file = FileTarget(
        name=found.get("target") or name,
        uid=found.get("uid") or "0",
        gid=found.get("gid") or "0",
        mode=int(mode, 8) if mode else DEFAULT_MODE,
    )
    return name, number, file


def _source(source: str, refused: Callable[[str], InvalidArgument]) -> tuple[str, int]:
    """The name and the number of `NAME[@NUMBER]`; 0: none."""
    name, at, number = source.partition("@")
    if at and not _NUMBER.fullmatch(number):
        raise refused(f"version {quoted(number)}: expected NAME@NUMBER, such as {name}@3")
    return name, int(number) if number else 0


def _fields(text: str, flag: str) -> dict[str, str]:
    try:
        rows = list(csv.reader([text], strict=True))
    except csv.Error as error:
        raise invalid(flag, text, f"it is no line of CSV: {error}") from None
    if len(rows) != 1 or not rows[0]:
        raise invalid(flag, text, "expected NAME, or source=NAME,target=PATH")
    if len(rows[0]) == 1 and "=" not in rows[0][0]:
        return {"source": rows[0][0]}
    found: dict[str, str] = {}
    for field in rows[0]:
        key, equals, value = field.partition("=")
        key = key.strip(" ").lower()
        if not equals:
            raise invalid(flag, text, f"invalid field {quoted(field)}: it must be a key=value pair")
        if key not in _KEYS:
            expected = f"expected one of {', '.join(_KEYS)}"
            raise invalid(flag, text, f"unexpected key {quoted(key)}: {expected}")
        found[key] = value
    return found


def reload(text: str) -> str:
    """The value of `--reload`: a signal, or NO_SIGNAL. Raises InvalidArgument."""
    key, equals, value = text.partition("=")
    signal = value if equals else key
    if (equals and key != "signal") or not signal or (not equals and signal != NO_SIGNAL):
        raise invalid("--reload", text, "expected signal=SIGNAL, such as signal=HUP, or none")
    return signal


def merged(old: tuple[R, ...], added: tuple[R, ...], removed: tuple[str, ...]) -> tuple[R, ...]:
    """Docker's `--secret-add` and `--secret-rm`: those of a removed name go, then others are added;
    an added one replaces one with the same path.
    """
    gone = frozenset(removed)
    paths = frozenset(one.path for one in added)

    def stays(one: R) -> bool:
        return bool(one.variable) or (one.source not in gone and one.path not in paths)

    return (*filter(stays, old), *added)


def merged_variables(
    old: tuple[SecretReference, ...], added: tuple[SecretReference, ...], removed: tuple[str, ...]
) -> tuple[SecretReference, ...]:
    """`--secret-env-add` and `--secret-env-rm`, which names variables: an added one replaces that
    of its name.
    """
    gone = {*removed, *(one.env for one in added)}
    return (*(one for one in old if not one.env or one.env not in gone), *added)
