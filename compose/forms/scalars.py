"""Texts, numbers, sizes, durations. PURE."""

import re
from collections.abc import Callable
from typing import Any

from compose.forms.base import Form
from compose.reading import Reading
from compose.text.commands import split
from compose.text.words import go_text, octal, resolved, single
from compose.tree import Node, Path
from pyswarm_core.docker.units import format_duration, parse_duration, parse_swap
from pyswarm_core.errors import unfit

_ODD_BOOL = {"y": True, "yes": True, "on": True, "n": False, "no": False, "off": False}
_DAYS = re.compile(r"([0-9]{1,6})([wd])", re.ASCII)
INT64_MAX = 2**63 - 1


class Text(Form):
    """A text. A number is none, as `007` and `1.10` would change."""

    def __init__(
        self, expected: str = "text", *, pattern: str = "", keeps_empty: bool = False,
        or_empty: bool = False,
    ) -> None:  # fmt: skip
        self._expected, self._pattern = expected, re.compile(pattern, re.ASCII) if pattern else None
        self._keeps_empty, self._or_empty = keeps_empty, or_empty

    def normal(self, node: Node, at: Path, reading: Reading) -> Node | None:
        """The text."""
        value = node.value
        if isinstance(value, str) and self._fits(value):
            return node
        if isinstance(value, bool | int | float):
            quote = f', in quotes: "{node.written or go_text(value)}"'
            return reading.refuse(node, at, self._expected + quote)
        return reading.refuse(node, at, self._expected)

    def _fits(self, text: str) -> bool:
        if self._pattern is None or (self._or_empty and not text):
            return True
        return self._pattern.fullmatch(text) is not None

    def is_left_out(self, node: Node) -> bool:
        """An empty one, mostly."""
        return node.value is None or (node.value == "" and not self._keeps_empty)


class Word(Text):
    """One of several words."""

    def __init__(self, *words: str, or_empty: bool = False) -> None:
        """With `or_empty` an empty text is as good as none."""
        pattern = "|".join(map(re.escape, words))
        super().__init__(f"one of {', '.join(words)}", pattern=pattern, or_empty=or_empty)


class Number(Form):
    """A number or a text with one, within bounds; kept as an integer, or as a float."""

    def __init__(
        self, low: float = -INT64_MAX, high: float = INT64_MAX, *, keeps_zero: bool = False,
        is_float: bool = False,
    ) -> None:  # fmt: skip
        self._low, self._high = low, high
        self._keeps_zero, self._is_float = keeps_zero, is_float

    def normal(self, node: Node, at: Path, reading: Reading) -> Node | None:
        """The number."""
        value: Any = node.value
        value = resolved(value.strip() or "x") if isinstance(value, str) else value
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        kinds = int | float if self._is_float else int
        is_number = isinstance(value, kinds) and not isinstance(value, bool)
        if is_number and self._low <= value <= self._high:
            return node.at(single(value) if isinstance(value, float) else value)
        kind = "a number" if self._is_float else "an integer"
        bounds = f" from {self._low} to {self._high}" if self._high < INT64_MAX else ""
        least = f" of at least {self._low}" if not bounds and self._low > -INT64_MAX else ""
        return reading.refuse(node, at, f"{kind}{bounds}{least}")

    def is_left_out(self, node: Node) -> bool:
        """A zero, unless it differs from no value."""
        return node.value is None or (node.value == 0 and not self._keeps_zero)


class Bool(Form):
    """true or false."""

    def __init__(self, *, keeps_false: bool = False) -> None:
        self._keeps_false = keeps_false

    def normal(self, node: Node, at: Path, reading: Reading) -> Node | None:
        """The truth."""
        value = node.value
        if isinstance(value, bool):
            return node
        word = value.lower() if isinstance(value, str) else ""
        if word in ("true", "false"):
            return node.at(word == "true")
        if word in _ODD_BOOL:
            meant = go_text(_ODD_BOOL[word])
            reading.report.warn(node, at, f'"{value}" is text in YAML 1.2: write {meant}')
            return node.at(_ODD_BOOL[word])
        return reading.refuse(node, at, "true or false")

    def is_left_out(self, node: Node) -> bool:
        """false, unless it differs from no value."""
        return node.value is None or (node.value is False and not self._keeps_false)


class Parsed(Form):
    """A text or number in a syntax of Docker's, kept as a text in one way of writing."""

    def __init__(
        self,
        parse: Callable[[str], str],
        example: str,
        *,
        takes_numbers: bool = False,
        keeps_zero: bool = False,
    ) -> None:
        self._parse, self._example = parse, example
        self._takes_numbers, self._keeps_zero = takes_numbers, keeps_zero

    def normal(self, node: Node, at: Path, reading: Reading) -> Node | None:
        """The text in its one form."""
        value: Any = node.value
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not isinstance(value, str) and not is_number:
            return reading.refuse(node, at, f"text, as in {self._example}")
        if is_number and not self._takes_numbers:
            return reading.refuse(node, at, f"text with a unit, as in {self._example}")
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        text = reading.parsed(node, at, self._parse, go_text(value))
        return None if text is None else node.at(text)

    def is_left_out(self, node: Node) -> bool:
        """A zero, unless it differs from no value."""
        return node.value is None or (node.value in ("0", "0s") and not self._keeps_zero)


def _duration(text: str) -> str:
    return format_duration(parse_duration(_DAYS.sub(_hours, text.strip())))


def _hours(match: re.Match[str]) -> str:
    """Days and weeks, which Compose has beside Go's units."""
    return f"{int(match[1]) * (24 if match[2] == 'd' else 7 * 24)}h"


def _size(text: str) -> str:
    return str(parse_swap(text.strip()))


def _positive(text: str) -> str:
    size = _size(text)
    if size.startswith("-"):
        raise unfit("expected a size of at least 0, as in 64m")
    return size


class Mode(Form):
    """The permissions of a file: octal, kept as `0440`, or of a tmpfs as a number."""

    def __init__(self, *, as_number: bool = False) -> None:
        self._as_number = as_number

    def normal(self, node: Node, at: Path, reading: Reading) -> Node | None:
        """The permissions."""
        value = octal(node.value) if isinstance(node.value, str) else node.value
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 0o7777:
            return reading.refuse(node, at, "permissions in octal, as in 0440")
        if node.written and node.written == str(value) and value:
            told = f"{node.written} is decimal, that is 0{value:o} in octal"
            reading.report.notice(node, at, f"{told}: write 0{node.written}, if that is meant")
        return node.at(value if self._as_number else f"0{value:o}")


class Command(Form):
    """A list of words, or a text that is split as a shell does, without variables."""

    takes_null = True

    def normal(self, node: Node, at: Path, reading: Reading) -> Node | None:
        """The list."""
        value = node.value
        if isinstance(value, str):
            found = reading.parsed(node, at, split, value)
            if found is None:
                return None
            if found.end:
                told = f"{found.end} ends the command, and nothing behind it counts"
                reading.report.notice(node, at, f"{told}: a list with sh, -c has a shell run it")
            return node.at([Node(word, node.place) for word in found.words])
        if not isinstance(value, list):
            return reading.refuse(node, at, 'text or a list of texts, as in ["serve", "--port"]')
        words = [_word(child, (*at, number), reading) for number, child in enumerate(value)]
        return node.at([word for word in words if word is not None])

    def is_left_out(self, node: Node) -> bool:
        """Never a list: an empty one empties the image's."""
        return node.value is None


def _word(child: Node, at: Path, reading: Reading) -> Node | None:
    if child.value is None and child.mark is None:
        return reading.refuse(child, at, "text")
    return WORDS.read(child, at, reading)


class HealthTest(Command):
    """`healthcheck.test`: a text is for a shell; a list begins with NONE, CMD or CMD-SHELL."""

    takes_null = False

    def normal(self, node: Node, at: Path, reading: Reading) -> Node | None:
        """The list."""
        if isinstance(node.value, str):
            return node.at([Node("CMD-SHELL", node.place), node.at(node.value)])
        words = super().normal(node, at, reading)
        if words is None or not words.value:
            return words
        if words.value[0].value not in ("NONE", "CMD", "CMD-SHELL"):
            expected = "NONE, CMD or CMD-SHELL as the first of the list"
            return reading.refuse(words.value[0], (*at, 0), expected)
        return words

    def is_left_out(self, node: Node) -> bool:
        """An empty one."""
        return not node.value


class FilePath(Text):
    """A path, kept absolute."""

    def normal(self, node: Node, at: Path, reading: Reading) -> Node | None:
        """The absolute path."""
        text = super().normal(node, at, reading)
        if text is None or text.value == "":
            return text
        return text.at(self.kept(text.value) or reading.resolved(text.value))

    @staticmethod
    def kept(path: str) -> str:
        """The text, if it is no path of this machine; empty otherwise."""
        del path
        return ""


class ContextPath(FilePath):
    """A path, or what a builder fetches itself."""

    @staticmethod
    def kept(path: str) -> str:
        """URLs, git repositories, other services."""
        prefixes = ("git@", "github.com/", "service:", "docker-image:", "oci-layout:", "target:")
        return path if "://" in path or path.startswith(prefixes) else ""


class TextOrNumber(Form):
    """A text, or a number that becomes one as Go prints it."""

    def __init__(self, *, takes_bool: bool = False, takes_float: bool = True) -> None:
        self._takes_bool = takes_bool
        self._kinds = int | float if takes_float else int

    def normal(self, node: Node, at: Path, reading: Reading) -> Node | None:
        """The text."""
        value = node.value
        if isinstance(value, str):
            return node
        if not isinstance(value, self._kinds) or (isinstance(value, bool) > self._takes_bool):
            return reading.refuse(node, at, "text or a number")
        return as_text(node, at, reading)


def as_text(node: Node, at: Path, reading: Reading) -> Node:
    """A number or truth as text; a notice, if that is not what is written."""
    text = go_text(node.value)
    if node.written and text != node.written:
        told = f"{node.written} is {text} to YAML: quote it to keep it"
        reading.report.notice(node, at, told)
    return node.at(text)


WORDS = Text(keeps_empty=True)
TEXT = Text()
DURATION = Parsed(_duration, "1m30s")
DURATION_OR_ZERO = Parsed(_duration, "1m30s", keeps_zero=True)
SIZE = Parsed(_size, "512m", takes_numbers=True)
TMPFS_SIZE = Parsed(_positive, "64m", takes_numbers=True)
RATE = Parsed(_size, "12mb", takes_numbers=True, keeps_zero=True)
SIZE_TEXT = Parsed(_size, "512m")
