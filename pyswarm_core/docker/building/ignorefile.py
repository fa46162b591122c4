"""Files such as .dockerignore, as Docker reads them. PURE.

The rules are those of moby's patternmatcher: the last pattern that matches a path, or a directory
above it, decides; `**` stands for any number of directories, and `!` makes an exception.
"""

import posixpath
import re
from collections.abc import Iterable
from typing import NamedTuple

from pyswarm_core.errors import InvalidArgument, invalid

_BOM = "\ufeff"


class Pattern(NamedTuple):
    """One line of the file."""

    text: str
    """Cleaned, without the exclamation mark."""
    is_exception: bool
    line: int


class IgnoreFile:
    """The patterns of one file."""

    def __init__(self, patterns: Iterable[Pattern]) -> None:
        self.patterns = tuple(patterns)
        self._compiled = [
            (re.compile(_expression(each.text)), each.is_exception) for each in self.patterns
        ]

    def excludes(self, path: str) -> bool:
        """Whether the path, relative to the context, is left out. Without a leading slash."""
        excluded = False
        for expression, is_exception in self._compiled:
            if excluded == is_exception and expression.fullmatch(path):
                excluded = not is_exception
        return excluded

    def may_keep_below(self, directory: str) -> bool:
        """Whether an exception could keep something below an excluded directory."""
        return any(
            each.is_exception and _may_reach(each.text.split("/"), directory.split("/"))
            for each in self.patterns
        )

    @property
    def is_plain(self) -> bool:
        """Whether buildah 1.28 can follow the patterns, which it does wrong with exceptions."""
        return not any(each.is_exception or set(each.text) & set("[\\") for each in self.patterns)

    def lines(self) -> list[str]:
        """Plain patterns for buildah 1.28, which takes the characters of regular expressions in
        patterns as such.
        """
        return ["".join(_quoted(letter, "*?") for letter in each.text) for each in self.patterns]


def parse_ignore_file(text: str, name: str = ".dockerignore") -> IgnoreFile:
    """Raises InvalidArgument with the line of a pattern that is not valid."""
    patterns = []
    for number, line in enumerate(text.removeprefix(_BOM).split("\n"), 1):
        if line.startswith("#"):
            continue
        stripped = line.strip()
        is_exception = stripped.startswith("!")
        pattern = stripped[1:].strip() if is_exception else stripped
        if not pattern:
            if is_exception:
                raise invalid(f"{name}:{number}", stripped, "expected a pattern after !", "pattern")
            continue
        cleaned = posixpath.normpath(pattern).lstrip("/") or "/"
        try:
            _expression(cleaned)
        except (InvalidArgument, re.error):
            reason = "expected a pattern of * ? [] and \\, each [ closed by ]"
            raise invalid(f"{name}:{number}", stripped, reason, "pattern") from None
        patterns.append(Pattern(cleaned, is_exception, number))
    return IgnoreFile(patterns)


def literal(path: str) -> str:
    """The pattern for buildah 1.28 that matches this path and what is below it."""
    # buildah trims blanks, splits at line feeds and reads UTF-8; "?" stands for any one character.
    escaped = "".join("?" if _is_unwritable(letter) else _quoted(letter, "") for letter in path)
    if escaped.startswith(("#", "!", " ")):
        escaped = f"[{escaped[0]}]{escaped[1:]}"
    return escaped[:-1] + "[ ]" if escaped.endswith(" ") else escaped


def _is_unwritable(letter: str) -> bool:
    return (letter != " " and letter.isspace()) or "\ud800" <= letter <= "\udfff"


def _quoted(letter: str, kept: str) -> str:
    special = letter in "\\*?[]+(){}|^"
    return f"\\{letter}" if special and letter not in kept else letter


def _expression(pattern: str) -> str:
    """The regular expression of a pattern; it also matches what is below."""
    parts = []
    at = 0
    while at < len(pattern):
        if pattern.startswith("**", at):
            at += 3 if pattern.startswith("/", at + 2) else 2
            parts.append("(?:.*/)?" if at < len(pattern) else ".*")
            continue
        part, at = _one(pattern, at)
        parts.append(part)
    return f"(?s:{''.join(parts)}(?:/.*)?)"


def _one(pattern: str, at: int) -> tuple[str, int]:
    """The expression of what begins at this place, and the place after it."""
    letter = pattern[at]
    if letter == "*":
        return "[^/]*", at + 1
    if letter == "?":
        return "[^/]", at + 1
    if letter == "[":
        return _class(pattern, at)
    if letter == "\\":
        if at + 1 == len(pattern):
            raise InvalidArgument("a pattern cannot end with a backslash")
        return re.escape(pattern[at + 1]), at + 2
    return re.escape(letter), at + 1


def _class(pattern: str, at: int) -> tuple[str, int]:
    """The expression of a class such as `[^a-c]`, as Go's filepath.Match reads it."""
    end = at + 1
    inverted = pattern.startswith("^", end)
    end += inverted
    inner = ""
    while True:
        if end >= len(pattern) or (pattern[end] == "]" and not inner):
            raise InvalidArgument("a class is not closed")
        letter = pattern[end]
        if letter == "]":
            break
        if letter == "\\":
            end += 1
            if end >= len(pattern):
                raise InvalidArgument("a class is not closed")
            inner += re.escape(pattern[end])
        else:
            inner += letter if letter == "-" else re.escape(letter)
        end += 1
    found = f"[{'^' if inverted else ''}{inner}]"
    re.compile(found)
    return found, end + 1


def _may_reach(pattern: list[str], directory: list[str]) -> bool:
    """Whether the pattern can match something below the directory."""
    for number, part in enumerate(pattern):
        if number >= len(directory) or "**" in part or set(part) & set("[\\"):
            return True
        if not re.fullmatch(_expression(part), directory[number]):
            return False
    return True
