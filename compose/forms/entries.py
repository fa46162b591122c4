"""Lists and maps of services with a short form: devices, references, hosts. PURE."""

import posixpath
from typing import Any

from compose.forms.base import Form, Merge, Rule
from compose.forms.lists import Listing, expect_once, value_of
from compose.forms.maps import Entries, Table
from compose.forms.scalars import TEXT, Bool, FilePath, Mode, Number, Text, Word
from compose.reading import Reading
from compose.text.words import resolved
from compose.tree import Mark, Node, Path

_RWM = Text("letters of r, w and m", pattern="[rwm]{1,3}")


def _nodes(node: Node, **values: Any) -> Node:
    return Node({key: Node(value, node.place) for key, value in values.items()}, node.place)


def _device(node: Node, at: Path, reading: Reading) -> list[Node] | None:
    if isinstance(node.value, str):
        source, *rest = node.value.split(":")
        if len(rest) > 2 or not source:
            reading.refuse(node, at, "SOURCE[:TARGET[:rwm]], as in /dev/ttyUSB0:/dev/tty0:rw")
            return []
        target, permissions = [*rest, ""][:2] if rest else (source, "rwm")
        return [
            _nodes(node, source=source, target=target or source, permissions=permissions or "rwm")
        ]
    if node.is_map and "source" in node.value:
        added = {"permissions": Node("rwm", node.place)}
        return [Node({**added, **node.value}, node.place, keys=node.keys)]
    return None


DEVICES = Listing(
    Table(
        {"source": TEXT, "target": TEXT, "permissions": _RWM},
        needs=("source", "target"),
        example='a map with source and target, or text as in "/dev/fuse:/dev/fuse:rwm"',
    ),
    Merge(Rule.KEYED, lambda node: node.text("target")),
    expand=_device,
    example='a list, as in ["/dev/fuse"]',
)

_REFERENCE = {
    "source": TEXT,
    "target": TEXT,
    "uid": Text("a number in quotes"),
    "gid": Text("a number in quotes"),
    "mode": Mode(),
}


class References(Listing):
    """Secrets or configs that a service has: by name, or as a map."""

    def __init__(self, folder: str, *, fills: bool) -> None:
        self._folder, self._fills = folder, fills
        super().__init__(
            Table(_REFERENCE, needs=("source",), example="a name, or a map with source"),
            Merge(Rule.KEYED, self._target, Merge(Rule.KEYED, lambda node: node.text("source"))),
            expand=self._expanded,
            example="a list of names",
        )

    def _target(self, node: Node) -> str:
        return node.text("target") or posixpath.join(self._folder, node.text("source"))

    def _expanded(self, node: Node, at: Path, reading: Reading) -> list[Node] | None:
        del at, reading
        if isinstance(node.value, str):
            node = _nodes(node, source=node.value)
        if not self._fills or not node.is_map or not (source := node.text("source")):
            return [node]
        target = node.text("target") or posixpath.join(self._folder, source)
        made = {**node.value, "target": Node(target, node.place)}
        return [Node(made, node.place, keys=node.keys)]


SECRETS = References("/run/secrets", fills=True)
CONFIGS = References("/", fills=False)
BUILD_SECRETS = References("/run/secrets", fills=False)


def _host(node: Node, at: Path, reading: Reading) -> list[Node] | None:
    if not isinstance(node.value, str):
        return None
    sign = "=" if "=" in node.value else ":"
    host, found, address = node.value.partition(sign)
    if not found or not host or not address:
        reading.refuse(node, at, "HOST=ADDRESS, as in db=10.0.0.5")
        return []
    return [node.at(f"{host}={_unbracketed(address)}")]


def _unbracketed(address: str) -> str:
    return address[1:-1] if address.startswith("[") and address.endswith("]") else address


class Hosts(Listing):
    """`extra_hosts`: a list of HOST=ADDRESS, or a map."""

    def __init__(self) -> None:
        super().__init__(
            TEXT, Merge(Rule.UNIQUE, value_of), expand=_host, in_order=True,
            example='a map or a list of HOST=ADDRESS, as in ["db=10.0.0.5"]',
        )  # fmt: skip

    def normal(self, node: Node, at: Path, reading: Reading) -> Node | None:
        """The list."""
        if isinstance(node.value, list):
            expect_once(node.value, at, reading)
        if node.is_map:
            pairs = []
            for host, value in node.value.items():
                for address in value.value if isinstance(value.value, list) else [value]:
                    if not isinstance(address.value, str):
                        reading.refuse(address, (*at, host), "an address")
                    elif value.mark is not Mark.RESET:
                        pairs.append(address.at(f"{host}={address.value}"))
            node = node.at(pairs)
        return super().normal(node, at, reading)


class Ssh(Listing):
    """`build.ssh`: `default` or ID=PATH, kept as Compose prints it, `ID: PATH`."""

    def __init__(self) -> None:
        merge = Merge(Rule.KEYED, lambda node: node.value.partition(":")[0])
        super().__init__(
            TEXT, merge, expand=self._expanded, example='a list, as in ["default"]', once=True
        )

    def normal(self, node: Node, at: Path, reading: Reading) -> Node | None:
        """The list."""
        if node.is_map:
            node = node.at(
                [v.at(f"{name}={v.value}" if v.value else name) for name, v in node.value.items()]
            )
        return super().normal(node, at, reading)

    @staticmethod
    def _expanded(node: Node, at: Path, reading: Reading) -> list[Node] | None:
        del at
        if not isinstance(node.value, str):
            return None
        name, sign, path = node.value.partition("=" if "=" in node.value else ":")
        text = f"{name}: {reading.resolved(path.strip())}" if sign and path.strip() else name
        return [node.at(text)]


class Dependency(Table):
    """An entry of `depends_on`. Files may say it together: its condition is in one of them."""

    def __init__(self) -> None:
        conditions = "service_started service_healthy service_completed_successfully"
        super().__init__(
            {
                "condition": Word(*conditions.split()),
                "required": Bool(keeps_false=True),
                "restart": Bool(),
            },
            example="a map, as in {condition: service_started}",
        )

    def read(self, node: Node, at: Path, reading: Reading) -> Node | None:
        """As any form; null is refused, as its condition is not known."""
        if node.value is None and node.mark is not Mark.RESET:
            reading.refuse(node, at, "a map, as in {condition: service_started}")
            return None
        return super().read(node, at, reading)


def _started(node: Node) -> tuple[str, Any]:
    need = _nodes(node, condition="service_started", required=True)
    return node.value, Node(need.value, node.place, node.mark)


DEPENDS_ON = Entries(
    Dependency(),
    listed=_started,
    names=True,
    example="a map or a list of names of services",
    once=True,
)


class Ulimit(Form):
    """A number, or soft and hard, which files may say together; -1 is no limit."""

    merge = Merge(Rule.MAP)
    _both = Table({"soft": Number(-1), "hard": Number(-1)})
    _kept = Number(-1, keeps_zero=True)

    def normal(self, node: Node, at: Path, reading: Reading) -> Node | None:
        """The number or the map; a zero is written as both, as Compose prints it."""
        if node.is_map:
            return self._both.normal(node, at, reading)
        number = self._kept.normal(node, at, reading)
        if number is not None and number.value == 0:
            return number.at({"soft": Node(0, node.place), "hard": Node(0, node.place)})
        return number

    def child(self, key: str) -> Form | None:
        """The form of soft and hard."""
        del key
        return self._kept


ULIMITS = Entries(Ulimit(), example="a map, as in {nofile: 4096}")

_ENV_FILE = {
    "path": FilePath(),
    "required": Bool(keeps_false=True),
    "format": Word("raw", or_empty=True),
}


def _env_file(node: Node, at: Path, reading: Reading) -> list[Node] | None:
    del at, reading
    if isinstance(node.value, str):
        node = _nodes(node, path=node.value)
    if not node.is_map:
        return None
    added = {"required": Node(True, node.place)}
    return [Node({**added, **node.value}, node.place, keys=node.keys)]


ENV_FILES = Listing(
    Table(_ENV_FILE, needs=("path",), example="a path, or a map with path"),
    Merge(Rule.KEYED, lambda node: node.text("path")),
    or_one=True,
    expand=_env_file,
    example="a path or a list of paths",
)


class Count(Form):
    """A number of devices, or `all`, which is -1."""

    def normal(self, node: Node, at: Path, reading: Reading) -> Node | None:
        """The number."""
        value = resolved(node.value or "x") if isinstance(node.value, str) else node.value
        value = -1 if value == "all" else value
        if isinstance(value, bool) or not isinstance(value, int):
            reading.refuse(node, at, "a number, or all")
            return None
        return node.at(value)


def requests(options: Form, *needs: str) -> Table:
    """The form of a device request."""
    example = "a list of texts"
    texts = Listing(TEXT, Rule.UNIQUE, example=example, once=True)
    is_needed = "capabilities" in needs
    capabilities = Listing(TEXT, Rule.UNIQUE, example=example, once=True, keeps_empty=is_needed)
    return Requested(
        {
            "capabilities": capabilities,
            "driver": TEXT,
            "count": Count(),
            "device_ids": texts,
            "options": options,
        },
        needs=needs,
        example="a map with capabilities",
    )


class Requested(Table):
    """A device request; without count and ids it is for all."""

    def normal(self, node: Node, at: Path, reading: Reading) -> Node | None:
        """The map, with its count."""
        found = super().normal(node, at, reading)
        if found is None:
            return None
        if found.get("count") is not None and found.list("device_ids"):
            text = "count and device_ids exclude each other: give one of them"
            reading.report.fault(found, at, text)
        if found.get("count") is None and not found.list("device_ids"):
            return found.at({**found.value, "count": Node(-1, found.place)})
        return found


class Gpus(Listing):
    """`gpus`: `all`, or device requests."""

    def normal(self, node: Node, at: Path, reading: Reading) -> Node | None:
        """The list."""
        if node.value == "all":
            node = node.at([Node({"count": Node(-1, node.place)}, node.place)])
        return super().normal(node, at, reading)
