"""The options of ps(1) that `top` takes: those of the format. PURE.

Which processes are shown is not the caller's choice: an option that would select others, or give
the columns headers that cannot be told apart, is refused. Selections of all processes (`-e`, `ax`),
which people write by habit, mean all of the container.
"""

import re
from collections.abc import Iterator, Sequence

import msgspec

from pyswarm_core.errors import InvalidArgument, invalid

DEFAULT = ("-ef",)
_UNIX = re.compile(r"-([eAadfFljycwHLT]*)(o?)(.*)", re.DOTALL)
_BSD = re.compile(r"([axujlvswfcSH]*)(o?)(.*)", re.DOTALL)
_UNIX_ALL, _BSD_ALL = "eAad", "ax"
_ANY = re.compile(r"--forest|--sort=[+-]?[a-z_]+(,[+-]?[a-z_]+)*|--(cols|columns|width)=\d{1,5}")
_COLUMN = re.compile(r"%?[a-z][a-z0-9_]*(:\d{1,4})?")
_HIDDEN = ("environ",)


class Format(msgspec.Struct, frozen=True):
    """How ps shows processes: options, and the columns of `-o`, if any were given."""

    words: tuple[str, ...]
    columns: tuple[str, ...]


def read(options: Sequence[str]) -> Format:
    """The format that the options request. Raises InvalidArgument for any other option."""
    words: list[str] = []
    columns: list[str] = []
    rest = iter(options or DEFAULT)
    for word in rest:
        if _ANY.fullmatch(word):
            words.append(word)
        elif word == "--format" or word.startswith("--format="):
            columns += _columns(word.partition("=")[2], rest)
        else:
            words += _letters(word, columns, rest)
    return Format(tuple(words), tuple(columns))


def _letters(word: str, columns: list[str], rest: Iterator[str]) -> Iterator[str]:
    """The letters of one word without selections of all processes; adds its columns."""
    is_unix = word.startswith("-")
    found = (_UNIX if is_unix else _BSD).fullmatch(word)
    assert found
    letters, has_columns, tail = found.groups()
    if not word.strip("-") or (tail and not has_columns):
        raise _refused(word)
    if has_columns:
        columns += _columns(tail, rest)
    shown = "".join(each for each in letters if each not in (_UNIX_ALL if is_unix else _BSD_ALL))
    if shown:
        yield f"-{shown}" if is_unix else shown


def _columns(text: str, rest: Iterator[str]) -> Iterator[str]:
    text = text or next(rest, "")
    for name in text.split(","):
        if not _COLUMN.fullmatch(name) or name in _HIDDEN:
            reason = "expected names of columns such as pid,user,args, without headers of your own"
            raise invalid("PS_OPTIONS", text, reason)
        yield name


def _refused(word: str) -> InvalidArgument:
    return invalid(
        "PS_OPTIONS",
        word,
        "expected options of the format, such as -ef, aux, -o pid,args or --sort=-pcpu: "
        "top shows the processes of one container, without their environment",
    )
