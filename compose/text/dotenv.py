"""The format of .env, `env_file` and `label_file`. PURE."""

import re
from collections.abc import Mapping

from compose.report import refusal
from compose.text.documents import decoded
from compose.text.templates import Lookup, interpolated
from compose.tree import Place
from pyswarm_core.errors import InvalidArgument, quoted

_BLANK = re.compile(r"(?:[ \t\r\n\f\v]+|#[^\n]*)*")
_KEY = re.compile(r"(?:export[ \t]+)?([\w.\[\]-]+)[ \t]*")
_PLAIN = re.compile(r"[^\n]*")
_COMMENT = re.compile(r" #.*")
_QUOTED = {
    '"': re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL),
    "'": re.compile(r"'((?:[^'\\]|\\.)*)'", re.DOTALL),
}
_AFTER = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\r?\n|\Z)")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {
    **dict(zip("ntrabfv", "\n\t\r\a\b\f\v", strict=True)),
    '"': '"',
    "\\": "\\",
    "$": "$$",
}


def variables(
    data: bytes,
    file: str,
    lookup: Lookup,
    *,
    below: Mapping[str, str] | None = None,
    raw: bool = False,
) -> dict[str, str]:
    """The variables of a file, the last of a name. A name alone takes the value of `lookup`, and is
    left out if that has none. Raises Refused, which names the line.

    Of a variable in a value `lookup` counts first, then what the file defines above, then `below`.
    """
    text = decoded(data, file)
    if raw:
        return _raw(text, file, lookup)
    return _Reader(text, file, lookup, below or {}).read()


def quoted_names(data: bytes, file: str) -> list[str]:
    """The variables whose values have quotes around them, which Docker's stack would keep."""
    pattern = r"^[ \t]*(?:export[ \t]+)?([\w.-]+)[ \t]*[=:][ \t]*(?:\"[^\n]*\"|'[^\n]*')[ \t]*$"
    return re.findall(pattern, decoded(data, file), re.MULTILINE)


def _raw(text: str, file: str, lookup: Lookup) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, line in enumerate(text.split("\n"), 1):
        entry = line.removesuffix("\r").lstrip()
        if not entry or entry.startswith("#"):
            continue
        name, equals, value = entry.partition("=")
        if not name or " " in name or "\t" in name:
            text = f"{quoted(name)} is no name: expected NAME=VALUE or NAME"
            raise refusal(Place(file, number, 1), (), text)
        known = value if equals else lookup(name)
        if known is not None:
            found[name] = known
    return found


class _Reader:
    def __init__(self, text: str, file: str, lookup: Lookup, below: Mapping[str, str]) -> None:
        self._text, self._file, self._lookup = text, file, lookup
        self._below = below
        self._found: dict[str, str] = {}
        self._at = 0

    def read(self) -> dict[str, str]:
        """All variables."""
        while (at := self._skipped()) < len(self._text):
            if (match := _KEY.match(self._text, at)) is None:
                raise self._fault(at, "expected NAME=VALUE, NAME: VALUE or NAME")
            self._at = match.end()
            self._entry(match[1], at)
        return self._found

    def _skipped(self) -> int:
        match = _BLANK.match(self._text, self._at)
        self._at = match.end() if match else self._at
        return self._at

    def _entry(self, name: str, at: int) -> None:
        sign = self._text[self._at : self._at + 1]
        if sign in ("", "\n", "\r", "#"):
            self._end(at)
            if (value := self._lookup(name)) is not None:
                self._found[name] = value
            return
        if sign not in "=:":
            raise self._fault(at, f"expected = after the name {name}")
        self._at += 1
        while self._text[self._at : self._at + 1] in (" ", "\t"):
            self._at += 1
        self._found[name] = self._value(at)

    def _value(self, at: int) -> str:
        quote = self._text[self._at : self._at + 1]
        if quote not in _QUOTED:
            match = _PLAIN.match(self._text, self._at)
            assert match is not None
            self._at = match.end()
            return self._expanded(_COMMENT.sub("", match[0]).strip(), at)
        if (match := _QUOTED[quote].match(self._text, self._at)) is None:
            raise self._fault(at, f"the closing {quote} is missing")
        self._at = match.end()
        self._end(at)
        if quote == "'":
            return match[1].replace("\\'", "'")
        return self._expanded(_ESCAPE.sub(_unescaped, match[1]), at)

    def _end(self, at: int) -> None:
        if (match := _AFTER.match(self._text, self._at)) is None:
            raise self._fault(at, "expected nothing but a comment after the value")
        self._at = match.end()

    def _expanded(self, text: str, at: int) -> str:
        try:
            return interpolated(text, self._known, lambda name: None)
        except InvalidArgument as error:
            raise self._fault(at, str(error)) from None

    def _known(self, name: str) -> str | None:
        outer = self._lookup(name)
        return outer if outer is not None else self._found.get(name, self._below.get(name))

    def _fault(self, at: int, reason: str) -> Exception:
        line = self._text.count("\n", 0, at) + 1
        shown = self._text.split("\n")[line - 1].strip()
        name = re.match(r"[\w.-]*", shown, re.ASCII)
        path = (name[0],) if name and name[0] else ()
        return refusal(Place(self._file, line, 1), path, reason)


def _unescaped(match: re.Match[str]) -> str:
    return _ESCAPES.get(match[1], match[0])
