"""The top level of a file: services and what they use. PURE."""

from typing import Any

from compose.forms.base import Form, Merge, Rule
from compose.forms.lists import Listing
from compose.forms.maps import LABELS, OPTIONS, TEXTS, Entries, Key, Table
from compose.forms.scalars import TEXT, WORDS, Bool, FilePath, Number, TextOrNumber
from compose.keys.service import SERVICE
from compose.reading import Reading
from compose.tree import Node, Path
from pyswarm_core.errors import quoted


class External(Bool):
    """true or false, or the old form, a map with the name."""

    def normal(self, node: Node, at: Path, reading: Reading) -> Node | None:
        """The truth; the object takes the name."""
        return node.at(True) if node.is_map else super().normal(node, at, reading)


class Object(Table):
    """A network, volume, secret or config."""

    keeps_null = True
    takes_null = True

    def __init__(self, keys: dict[str, Form], example: str = "a map, or nothing") -> None:
        common = {"name": TEXT, "external": External(), "labels": LABELS}
        super().__init__({**common, **keys}, example=example, keeps_empty=True)

    def normal(self, node: Node, at: Path, reading: Reading) -> Node | None:
        """The map; `external: {name: X}` is `external: true` with that name."""
        old = node.get("external") if node.is_map else None
        if old is not None and old.is_map:
            extra = [key for key in old.value if key != "name" and not key.startswith("x-")]
            if old.text("name") and node.text("name") not in ("", old.text("name")):
                text = f"name is {quoted(node.text('name'))} beside it: write name alone"
                reading.report.fault(old, (*at, "external", "name"), text)
            if extra:
                text = "no such key: expected name"
                reading.report.fault(old, (*at, "external", extra[0]), text)
            named = {"name": old.value["name"]} if "name" in old.value else {}
            node = Node({**named, **node.value}, node.place, node.mark, keys=node.keys)
        return super().normal(node, at, reading)


_BLOCK = Table({"subnet": TEXT, "gateway": TEXT, "ip_range": TEXT, "aux_addresses": TEXTS})

NETWORK = Object(
    {
        "driver": TEXT,
        "driver_opts": OPTIONS,
        "ipam": Table(
            {
                "driver": TEXT,
                "config": Listing(_BLOCK, Merge(Rule.KEYED, lambda node: node.text("subnet"))),
                "options": TEXTS,
            }
        ),
        "internal": Bool(),
        "attachable": Bool(),
        "enable_ipv4": Bool(keeps_false=True),
        "enable_ipv6": Bool(keeps_false=True),
    }
)


class Volume(Object):
    """A volume; the device of a local one that is a bind is a path."""

    def normal(self, node: Node, at: Path, reading: Reading) -> Node | None:
        """The map."""
        found = super().normal(node, at, reading)
        if found is None or found.text("driver") != "local":
            return found
        device = found.text("driver_opts", "device")
        if not device or found.text("driver_opts", "o") != "bind":
            return found
        options = dict(found.items("driver_opts"))
        options["device"] = options["device"].at(reading.resolved(device))
        return found.at({**found.value, "driver_opts": found.at(options)})


VOLUME = Volume({"driver": TEXT, "driver_opts": OPTIONS})
_DATA: dict[str, Form] = {
    "file": FilePath(),
    "environment": TEXT,
    "template_driver": TEXT,
}
_WHAT = "a map with one of file, environment, {}external"
SECRET = Object({**_DATA, "driver": TEXT, "driver_opts": OPTIONS}, _WHAT.format(""))
CONFIG = Object({**_DATA, "content": WORDS}, _WHAT.format("content, "))
MODEL = Table(
    {
        "name": TEXT,
        "model": TEXT,
        "context_size": Number(0),
        "runtime_flags": Listing(TEXT, example="a list of texts"),
    },
    needs=("model",),
    example="a map, as in {model: ai/smollm2}",
)


def _path(node: Node) -> Any:
    return {"path": node} if isinstance(node.value, str) else None


_PATHS = Listing(FilePath(), or_one=True, example="a path or a list of paths")
INCLUDE = Listing(
    Table(
        {"path": _PATHS, "project_directory": FilePath(), "env_file": _PATHS},
        short=_path,
        needs=("path",),
        example="a path, or a map with path",
    ),
    example="a list of paths",
)


def _named(form: Form, example: str) -> Entries:
    return Entries(form, names=True, example=example, keeps_empty=form is SERVICE)


TOP = Table(
    {
        "version": TextOrNumber(),
        "name": TEXT,
        "include": INCLUDE,
        "services": _named(SERVICE, "a map, as in {web: {image: nginx}}"),
        "models": _named(MODEL, "a map of models"),
        "networks": _named(NETWORK, "a map, as in {front: {}}"),
        "volumes": _named(VOLUME, "a map, as in {data: {}}"),
        "secrets": _named(SECRET, "a map, as in {token: {file: ./token}}"),
        "configs": _named(CONFIG, "a map, as in {app: {file: ./app.conf}}"),
    },
    example="a map with the key services",
)
OBJECTS = ("networks", "volumes", "secrets", "configs")
"""The sections whose entries services refer to."""
__all__ = ["INCLUDE", "Key", "OBJECTS", "TOP"]
