"""Validation of texts in specs: names, labels, environment, arguments, users, paths. PURE.

Names are ASCII, so that equal looks mean equal names. Free text may be of any language, but has no
character that a terminal or an exec interprets.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

from pyswarm_core.limits import NAME_LENGTH_MAX
from pyswarm_core.validation.problem import Problem

LABEL_KEY_MAX = 255
PATH_MAX = 4096
HOSTNAME_MAX = 64
"""Linux's limit."""

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]*[A-Za-z0-9])?")
HOSTNAME = re.compile(
    r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*"
)
_ACCOUNT = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,31})"
_USER = re.compile(rf"{_ACCOUNT}(?::{_ACCOUNT})?")
_GROUP = re.compile(_ACCOUNT)


def name_problems(field: str, name: str, what: str = "value") -> Iterable[Problem]:
    """A name is a DNS label; `_` is allowed inside because stacks join names with it."""
    if len(name) > NAME_LENGTH_MAX or not _NAME.fullmatch(name):
        yield Problem(
            field,
            name,
            f"expected 1 to {NAME_LENGTH_MAX} of a-z A-Z 0-9 - _, a letter or digit at both ends",
            what,
        )


def hostname_problems(field: str, name: str) -> Iterable[Problem]:
    """A host name that Linux accepts; empty is allowed."""
    if name and (len(name) > HOSTNAME_MAX or not HOSTNAME.fullmatch(name)):
        expected = f"expected at most {HOSTNAME_MAX} letters and digits, - and . between them"
        yield Problem(field, name, expected)


def label_problems(field: str, labels: Mapping[str, str]) -> Iterable[Problem]:
    """Keys are printable, without spaces or `=`; values may have lines and tabs."""
    for key, value in labels.items():
        if not is_word(key) or "=" in key or len(key) > LABEL_KEY_MAX:
            expected = f"expected 1 to {LABEL_KEY_MAX} printable characters without space or ="
            yield Problem(field, key, expected, "key")
        if not is_text(value):
            yield Problem(field, f"{key}={value}", "expected no control characters")


def env_problems(env: Sequence[str], *, removes: bool = False) -> Iterable[Problem]:
    """Each is NAME=VALUE; with `removes` also NAME, which takes away the image's. Errors quote the
    name alone: the value may be a secret.
    """
    for entry in env:
        name, equals, value = entry.partition("=")
        if not is_word(name) or not (equals or removes):
            yield Problem("--env", name, "expected NAME=VALUE, the name without spaces")
        elif "\0" in value:
            yield Problem("--env", name, "expected no NUL in the value")


def argument_problems(field: str, arguments: Sequence[str]) -> Iterable[Problem]:
    """Any text that exec accepts: no NUL."""
    for argument in arguments:
        if "\0" in argument:
            yield Problem(field, argument, "expected no NUL")
    if arguments and not arguments[0] and field == "--entrypoint":
        yield Problem(field, "", "expected a program first")


def directory_problems(field: str, path: str) -> Iterable[Problem]:
    """An absolute path; empty is allowed."""
    if path and not (path.startswith("/") and len(path) <= PATH_MAX and path.isprintable()):
        expected = f"expected an absolute path of at most {PATH_MAX} printable characters"
        yield Problem(field, path, expected)


def user_problems(user: str, groups: Sequence[str]) -> Iterable[Problem]:
    """`name`, `uid`, `name:group` or `uid:gid`; an empty user is allowed."""
    if user and not _USER.fullmatch(user):
        yield Problem("--user", user, "expected NAME|UID[:GROUP|GID]")
    for group in groups:
        if not _GROUP.fullmatch(group):
            yield Problem("--group", group, "expected a group's name or number")


def is_word(text: str) -> bool:
    """Whether it is not empty, printable (in any script) and without spaces."""
    return bool(text) and text.isprintable() and " " not in text


def is_text(text: str) -> bool:
    """Whether it is printable, except for line ends and tabs."""
    return text.translate(_LAYOUT).isprintable()


_LAYOUT = {ord(character): None for character in "\n\r\t"}
