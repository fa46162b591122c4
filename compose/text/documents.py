"""YAML texts as trees: anchors, merge keys, tags, places; duplicate keys are refused. PURE.

The loader reads pyyaml's events, so that a text of a few lines cannot become millions of values,
and no constructor of pyyaml's runs.
"""

import re
from base64 import b64decode
from collections.abc import Callable, Iterator
from math import isfinite
from typing import Any, TypeAlias

import yaml

from compose.limits import DEPTH_MAX, FILE_BYTES_MAX, VALUES_MAX
from compose.report import Refused, refusal
from compose.text.words import resolved
from compose.tree import Mark, Node, Path, Place, named
from pyswarm_core.errors import quoted
from pyswarm_core.plaintext import is_utf8, split_lines

_FAST: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_AGAIN_MAX = 64 << 10
"""A longer text with a fault is not read a second time, for a better message."""
_PLAIN = ("", None)
_FORBIDDEN = re.compile("[^\t\n\r -~\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What YAML lets no text hold as it is."""
_MARKS = {mark.value: mark for mark in Mark}
_ALIKE = 0.75
"""How alike a tag is to a mark that it is taken for one with a typing error."""
_STANDARD = "tag:yaml.org,2002:"
_RESOLVED = frozenset({"", "int", "float", "bool", "null", "timestamp"})
_KINDS = _RESOLVED | {"str", "map", "seq", "set", "omap", "pairs", "binary"}
Told: TypeAlias = Callable[[Place, Path, str], None]
"""Gets what the author of a text may not expect."""


def _silent(place: Place, path: Path, text: str) -> None:
    del place, path, text


def documents(data: bytes, file: str, told: Told = _silent) -> list[Node]:
    """The documents of a file that are not empty. Raises Refused."""
    text = decoded(data, file)
    try:
        return list(_Builder(file, told).build(yaml.parse(text, Loader=_FAST)))
    except yaml.YAMLError as error:
        return _again(text, file, error, told)


def _near_mark(tag: str) -> str:
    """What a tag may be meant as; without its mark, a value would merge otherwise."""
    from difflib import get_close_matches  # most files have no tag

    close = get_close_matches(tag[:64].casefold(), list(_MARKS), n=1, cutoff=_ALIKE)
    return f"; did you mean {close[0]}?" if close else ""


def decoded(data: bytes, file: str) -> str:
    """The text of a file. Raises Refused if it is too long or not UTF-8."""
    if len(data) > FILE_BYTES_MAX:
        limit = f"{FILE_BYTES_MAX >> 20} MiB"
        raise refusal(Place(file), (), f"the file is longer than {limit}, the longest that is read")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        raise refusal(Place(file, line, column), (), "expected text in UTF-8") from None


def _again(text: str, file: str, error: yaml.YAMLError, told: Told) -> list[Node]:
    """libyaml refuses a few texts that pyyaml's own parser reads, and its messages are shorter."""
    if len(text) > _AGAIN_MAX:
        raise _told(error, text, file) from None
    try:
        return list(_Builder(file, told).build(yaml.parse(text, Loader=yaml.SafeLoader)))
    except yaml.YAMLError as second:
        raise _told(second, text, file) from None


def _place_in(text: str, at: int, file: str) -> Place:
    return Place(file, text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at))


def _forbidden(sign: str) -> str:
    return f"not YAML: the character U+{ord(sign):04X} may not be in a file"


def _told(error: yaml.YAMLError, text: str, file: str) -> Refused:
    if (odd := _FORBIDDEN.search(text)) is not None:
        return refusal(_place_in(text, odd.start(), file), (), _forbidden(odd[0]))
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return refusal(Place(file), (), f"not YAML: {' '.join(str(error).split())}")
    mark = error.problem_mark
    place = Place(file, mark.line + 1, mark.column + 1)
    lines = split_lines(text)
    line = lines[mark.line] if mark.line < len(lines) else ""
    if "\t" in line[: mark.column + 1] and not line[: mark.column].strip():
        return refusal(place, (), "a tab indents this line: YAML indents with spaces")
    at = f": {quoted(line.strip())}" if line.strip() else ""
    return refusal(place, (), f"not YAML: {error.problem}{at}")


class _Frame:
    """A map or list that is being read."""

    __slots__ = (
        *("anchor", "entries", "height", "is_map", "key", "keys", "merges", "node", "size"),
    )

    def __init__(self, node: Node, anchor: str | None, *, is_map: bool) -> None:
        self.node, self.anchor, self.is_map = node, anchor, is_map
        self.entries: Any = node.value
        self.key: tuple[str, Place] | None = None
        self.keys: dict[str, Place] = {}
        self.merges: list[Node] | None = None
        self.size = 1
        """Its keys and values, those of aliases as often as they occur."""
        self.height = 1
        """The maps and lists within each other, down from it."""


class _Builder:
    """Events in, trees out. A list of frames in place of recursion: no text is too deep."""

    def __init__(self, file: str, told: Told) -> None:
        self._file, self._told = file, told
        self._frames: list[_Frame] = []
        self._anchors: dict[str, tuple[Node, int, int]] = {}
        self._root: Node | None = None
        self._total = 0

    def build(self, events: Iterator[Any]) -> Iterator[Node]:
        """The documents, one by one."""
        for event in events:
            match type(event).__name__:
                case "ScalarEvent":
                    self._scalar(event)
                case "AliasEvent":
                    self._alias(event)
                case "MappingStartEvent":
                    self._open(event, {})
                case "SequenceStartEvent":
                    self._open(event, [])
                case "MappingEndEvent" | "SequenceEndEvent":
                    self._close()
                case "DocumentEndEvent":
                    if self._root is not None and self._root.value is not None:
                        yield self._root
                    self._root, self._anchors = None, {}
                case _:
                    pass

    def _place(self, event: Any) -> Place:
        mark = event.start_mark
        return Place(self._file, mark.line + 1, mark.column + 1)

    def _path(self) -> Path:
        path: list[str | int] = []
        for frame in self._frames:
            if not frame.is_map:
                path.append(len(frame.entries))
            elif frame.key is not None:
                path.append(frame.key[0])
        return tuple(path)

    def _scalar(self, event: Any) -> None:
        place, word = self._place(event), event.value
        if not is_utf8(word):
            word = self._joined(word, place)
        is_plain = event.style in _PLAIN
        mark, kind = self._tag(event, place)
        awaits_key = bool(self._frames) and self._frames[-1].is_map and not self._frames[-1].key
        value: Any = word
        if kind == "binary":
            value = self._bytes(word, place)
        elif kind == "null":
            value = None
        elif is_plain and kind in _RESOLVED:
            value = resolved(word)
            if isinstance(value, float) and not isfinite(value):
                text = f'{word} is not finite: quote it, if it is text, "{word}"'
                raise refusal(place, self._path(), text)
        if awaits_key:
            self._key(value, word, place, is_merge=is_plain and word == "<<")
            return
        written = word if is_plain and not isinstance(value, str) else ""
        node = Node(value, place, mark, written)
        if event.anchor is not None:
            self._anchors[event.anchor] = (node, 1, 0)
        self._add(node, 1, 0)

    def _joined(self, word: str, place: Place) -> str:
        """JSON writes a character as two escapes, which pyyaml's own parser does not join."""
        try:
            return word.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            text = "an escape is half of a character: JSON has two for it"
            raise refusal(place, self._path(), text) from None

    def _bytes(self, word: str, place: Place) -> str:
        """The text that base64 stands for."""
        try:
            return b64decode("".join(word.split()), validate=True).decode()
        except ValueError:
            raise refusal(place, self._path(), "expected base64 of a text in UTF-8") from None

    def _tag(self, event: Any, place: Place) -> tuple[Mark | None, str]:
        tag = event.tag
        if tag is None:
            return None, ""
        if tag in _MARKS:
            return _MARKS[tag], ""
        kind = tag.removeprefix(_STANDARD)
        if tag == "!":
            return None, "str"
        if kind in _KINDS:
            return None, kind
        if hint := _near_mark(tag):
            raise refusal(place, self._path(), f"there is no tag {quoted(tag)}{hint}")
        shown = quoted(tag)
        self._told(place, self._path(), f"the tag {shown} means nothing here: the value counts")
        return None, ""

    def _key(self, value: Any, word: str, place: Place, *, is_merge: bool) -> None:
        frame = self._frames[-1]
        if is_merge:
            self._once("<<", place, frame)
            frame.merges = []
        elif not isinstance(value, str):
            text = f'the key {word or "null"} is no text: quote it, "{word}"'
            raise refusal(place, self._path(), text)
        else:
            self._once(word, place, frame)
        frame.key = (word, place)

    def _once(self, key: str, place: Place, frame: _Frame) -> None:
        if (first := frame.keys.get(key)) is not None:
            text = f"the key is already defined at line {first.line}"
            raise refusal(place, (*self._path(), key), text)
        frame.keys[key] = place

    def _alias(self, event: Any) -> None:
        found = self._anchors.get(event.anchor)
        place = self._place(event)
        if found is None:
            inside = any(frame.anchor == event.anchor for frame in self._frames)
            text = "stands within itself" if inside else "is not defined above"
            raise refusal(place, self._path(), f"the anchor of *{event.anchor} {text}")
        node, size, height = found
        self._expect_depth(len(self._frames) + height, place)
        if self._frames and self._frames[-1].is_map and self._frames[-1].key is None:
            if not isinstance(node.value, str):
                raise refusal(place, self._path(), f"the key is {named(node.value)}: expected text")
            self._key(node.value, node.value, place, is_merge=False)
            return
        self._add(node, size, height)

    def _expect_depth(self, depth: int, place: Place) -> None:
        if depth > DEPTH_MAX:
            text = f"more than {DEPTH_MAX} maps and lists within each other"
            raise refusal(place, self._path()[:4], text)

    def _open(self, event: Any, value: Any) -> None:
        place = self._place(event)
        if self._frames and self._frames[-1].is_map and self._frames[-1].key is None:
            raise refusal(place, self._path(), f"the key is {named(value)}: expected text")
        self._expect_depth(len(self._frames) + 1, place)
        mark, _ = self._tag(event, place)
        frame = _Frame(Node(value, place, mark), event.anchor, is_map=isinstance(value, dict))
        self._frames.append(frame)

    def _close(self) -> None:
        frame = self._frames.pop()
        if frame.merges:
            for merged in frame.merges:
                for key, child in merged.value.items():
                    if frame.entries.setdefault(key, child) is child and merged.keys:
                        frame.keys.setdefault(key, merged.keys.get(key, merged.place))
        frame.keys.pop("<<", None)
        frame.node.keys = frame.keys
        if frame.anchor is not None:
            self._anchors[frame.anchor] = (frame.node, frame.size, frame.height)
        self._add(frame.node, frame.size, frame.height)

    def _add(self, node: Node, size: int, height: int) -> None:
        if not self._frames:
            self._root = node
            return
        frame = self._frames[-1]
        frame.size += size
        frame.height = max(frame.height, height + 1)
        self._total += 1
        if max(frame.size, self._total) > VALUES_MAX:
            text = f"more than {VALUES_MAX:,} keys and values, with what aliases repeat"
            raise refusal(node, self._path()[:4], text)
        if not frame.is_map:
            frame.entries.append(node)
            return
        assert frame.key is not None
        (key, place), frame.key = frame.key, None
        if key == "<<" and frame.merges is not None and not frame.merges:
            frame.merges = list(self._merged(node, place))
        else:
            frame.entries[key] = node

    def _merged(self, node: Node, place: Place) -> Iterator[Node]:
        for one in node.value if isinstance(node.value, list) else [node]:
            if not one.is_map:
                text = f"<< takes a map or a list of maps, not {named(one.value)}"
                raise refusal(place, self._path(), text)
            yield one
