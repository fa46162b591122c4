"""`volumes` of services: the short form, and what identifies a mount. PURE."""

import posixpath
import re
from typing import Any

from compose.forms.base import Form, Merge, Rule
from compose.forms.lists import Listing
from compose.forms.maps import LABELS, Table
from compose.forms.scalars import TEXT, TMPFS_SIZE, Bool, Mode, Text, Word
from compose.reading import Reading
from compose.tree import Node, Path

_PROPAGATION = ("private", "rprivate", "shared", "rshared", "slave", "rslave")
_OPTIONS: dict[str, tuple[str, str, Any]] = {
    "ro": ("", "read_only", True),
    "rw": ("", "read_only", False),
    "nocopy": ("volume", "nocopy", True),
    "z": ("bind", "selinux", "z"),
    "Z": ("bind", "selinux", "Z"),
    **{word: ("bind", "propagation", word) for word in _PROPAGATION},
}
_CONSISTENCY = ("cached", "delegated", "consistent", "default")
_WINDOWS = re.compile(r"[A-Za-z]:(\\|/[^:]*:/)")
_EXPECTED = "[SOURCE:]TARGET[:OPTIONS], as in data:/var/data or ./conf:/etc/app:ro"


class Source(Form):
    """A source: of a bind a path, else a name. The mount resolves it."""

    def normal(self, node: Node, at: Path, reading: Reading) -> Node | None:
        """The text."""
        return TEXT.normal(node, at, reading)

    def is_left_out(self, node: Node) -> bool:
        """An empty one."""
        return not node.value


_LONG: dict[str, Form] = {
    "type": Word("volume", "bind", "tmpfs", "image", "cluster", "npipe"),
    "source": Source(),
    "target": Text("a path in the container"),
    "read_only": Bool(),
    "consistency": TEXT,
    "bind": Table(
        {
            "selinux": Word("z", "Z"),
            "propagation": Word(*_PROPAGATION),
            "create_host_path": Bool(keeps_false=True),
            "recursive": Word("enabled", "disabled", "writable", "readonly"),
        }
    ),
    "volume": Table({"labels": LABELS, "nocopy": Bool(), "subpath": TEXT}),
    "tmpfs": Table({"size": TMPFS_SIZE, "mode": Mode(as_number=True)}, keeps_empty=True),
    "image": Table({"subpath": TEXT}, keeps_empty=True),
}


class Mount(Table):
    """A mount in its long form."""

    def normal(self, node: Node, at: Path, reading: Reading) -> Node | None:
        """The mount; of a bind, the source absolute and `create_host_path` filled in."""
        found = super().normal(node, at, reading)
        if found is None or "target" not in found.value:
            return found
        target = found.value["target"]
        found = found.at({**found.value, "target": target.at(clean(target.value))})
        return _bind(found, at, reading) if found.text("type") == "bind" else found


def _bind(found: Node, at: Path, reading: Reading) -> Node | None:
    source, bind = found.get("source"), found.get("bind")
    if source is None:
        reading.report.fault(found, at, "a bind has a source: the key source is missing")
        return None
    options = dict(bind.value) if bind is not None else {}
    options.setdefault("create_host_path", Node(True, found.place))
    path = Node(reading.resolved(source.value), source.place, source.mark, source.value)
    bind = Node(options, (bind or found).place)
    return found.at({**found.value, "source": path, "bind": bind})


def _expanded(node: Node, at: Path, reading: Reading) -> list[Node] | None:
    if not isinstance(node.value, str):
        return None
    parts = node.value.split(":")
    if len(parts) > 2 and _WINDOWS.match(node.value):
        reading.refuse(node, at, f"a source of Linux, {_EXPECTED}: {parts[0]}: is a Windows drive")
        return []
    if len(parts) > 3 or not all(parts):
        reading.refuse(node, at, _EXPECTED)
        return []
    mount: dict[str, Any] = {"type": "volume", "target": parts[0]}
    if len(parts) > 1:
        source = parts[0]
        kind = "bind" if source[0] in "./~" else "volume"
        mount = {"type": kind, "source": source, "target": parts[1]}
    for word in parts[2].split(",") if len(parts) > 2 else ():
        if word in _CONSISTENCY:
            continue
        if word not in _OPTIONS:
            words = ", ".join(_OPTIONS)
            reading.refuse(node.at(word), at, f"options of {words} after the target")
            return []
        _set(mount, *_OPTIONS[word])
    return [_node(mount, node)]


def _set(mount: dict[str, Any], group: str, key: str, value: Any) -> None:
    (mount.setdefault(group, {}) if group else mount)[key] = value


def _node(value: Any, place: Node) -> Node:
    if isinstance(value, dict):
        return Node({key: _node(child, place) for key, child in value.items()}, place.place)
    return Node(value, place.place)


def clean(path: str) -> str:
    """A path without what says nothing; two slashes at its begin are one."""
    found = posixpath.normpath(path)
    return found[1:] if found.startswith("//") else found


def identity(node: Node) -> str:
    """The target, which is clean: `/data/` is `/data`."""
    return node.text("target")


MOUNTS = Listing(
    Mount(_LONG, needs=("type", "target"), example=f"a map with type and target, or {_EXPECTED}"),
    Merge(Rule.KEYED, identity),
    expand=_expanded,
    example='a list, as in ["data:/var/data"]',
)
