"""Replaces secrets in texts of the audit log by `***`. PURE.

A value is a secret by its name (`DB_PASSWORD=…`, `"password": "…"`, `--api-token …`), after `-u
USER:`, or by its form (credentials in a URL, a token, an unlock key). Names are compared without
regard to case. Every pattern reads each word once: texts of users may be long.
"""

import re
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from pyswarm_core.identity.audit import MASK, SECRET_NAMES

_SECRET_NAME = re.compile(SECRET_NAMES, re.IGNORECASE)
_NAME = rf"(?<![\w.-])(?=[\w.-]*?(?:{SECRET_NAMES}))[\w.-]++"
_SCHEME = r"(?:(?:Basic|Bearer|Digest|Token)\s++)?"
_VALUE = r"""(?:\\"[^"]*+"|"(?:[^"\\]|\\.)*+"?|'[^']*+'?|[^\s"']++)"""
"""Quoted, perhaps in a quoted text, or one word."""
_SECRETS = tuple(
    re.compile(rf"({pattern}){_VALUE}", re.IGNORECASE | re.DOTALL)
    for pattern in (
        rf"""{_NAME}(?:\\?["'])?=\s*+{_SCHEME}""",
        # Not `--key: value …`, as errors name an option, and not an image such as `keycloak:1`.
        rf"""(?!-){_NAME}(?:\\?["']\s*+:\s*+|\s*+:\s++){_SCHEME}""",
        rf"(?=-){_NAME}\s++",
        r"""(?<!\S)(?:-u|--user)(?:\s++|=)["']?[^\s:"'=]++:""",
    )
)
_USER_FLAGS = ("-u", "--user")
_URL = re.compile(r"(://)[^/@\s]+@")
_TOKEN = re.compile(r"\b((?:PYSW[A-Z]|SWMKEY)-\d+-)\S+")


def is_secret(name: str) -> bool:
    """Whether values of this name are secrets."""
    return _SECRET_NAME.search(name) is not None


def without_secrets(text: str) -> str:
    """The text with its secrets masked."""
    for pattern in _SECRETS:
        text = pattern.sub(rf"\1{MASK}", text)
    return _TOKEN.sub(rf"\1{MASK}", _URL.sub(rf"\1{MASK}@", text))


def entry_without_secrets(entry: str) -> str:
    """An entry of a list, such as `NAME=VALUE`: all of the value is masked if it is a secret."""
    name, equals, _ = entry.partition("=")
    if equals and is_secret(name):
        return f"{name}={MASK}"
    return without_secrets(entry)


def entries_without_secrets(entries: Iterable[str]) -> list[str]:
    """The entries of a list; the word after a flag without `=` whose name is a secret's is one, and
    the password in that after `-u`.
    """
    found = []
    for flag, entry in pairwise(("", *entries)):
        user, colon, password = entry.partition(":")
        if flag in _USER_FLAGS and password:
            found.append(f"{user}{colon}{MASK}")
            continue
        is_value = flag.startswith("-") and "=" not in flag and is_secret(flag)
        found.append(MASK if is_value else entry_without_secrets(entry))
    return found


def value_without_secrets(value: Any) -> Any:
    """A value of builtin types with the secrets in it masked."""
    if isinstance(value, str):
        return without_secrets(value)
    if isinstance(value, dict):
        return {
            key: MASK if item and is_secret(str(key)) else value_without_secrets(item)
            for key, item in value.items()
        }
    if not isinstance(value, list):
        return value
    if all(isinstance(item, str) for item in value):
        return entries_without_secrets(value)
    return [value_without_secrets(item) for item in value]
