"""`ports`: the short form, ranges, and what identifies a port. PURE."""

import re
from typing import Any, NamedTuple

from compose.forms.base import Form, Merge, Rule
from compose.forms.lists import Listing
from compose.forms.maps import Table
from compose.forms.scalars import TEXT, Number, Text, Word
from compose.limits import PORTS_MAX
from compose.reading import Reading
from compose.report import refusal
from compose.text.words import go_text
from compose.tree import Node, Path

_SHORT = re.compile(
    r"(?:(?:(?:\[(?P<six>[0-9a-fA-F:.]+)\]|(?P<four>[0-9.]*)|(?P<open>[0-9a-fA-F:]*:[0-9a-fA-F]*)):)?"
    r"(?P<host>[0-9-]*):)?"
    r"(?P<target>[0-9]+(?:-[0-9]+)?)(?:/(?P<protocol>[a-zA-Z]*))?",
    re.ASCII,
)
_SPAN = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", re.ASCII)
_PORT_MAX = 65_535
_EXPECTED = "[[IP:][HOST:]]PORT[/tcp|udp|sctp] in quotes, with ports from 1 to 65535, as in"
_PROTOCOLS = ("tcp", "udp", "sctp")


class Span(NamedTuple):
    """Ports from one to another."""

    first: int
    last: int

    def __len__(self) -> int:
        return self.last - self.first + 1


def span(text: str) -> Span | None:
    """`80` or `80-82`; None if it is neither."""
    if (match := _SPAN.fullmatch(text)) is None:
        return None
    found = Span(int(match[1]), int(match[2] or match[1]))
    return found if 0 <= found.first <= found.last <= _PORT_MAX else None


class Published(Form):
    """`published`: a number or a range, kept as a text."""

    def normal(self, node: Node, at: Path, reading: Reading) -> Node | None:
        """The text."""
        value = node.value
        text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
        if not isinstance(text, str) or (text and span(text) is None):
            reading.refuse(node, at, "a port or a range from 1 to 65535, as in 8080 or 8080-8090")
            return None
        return node.at(text)


class HostIp(Text):
    """An address."""

    def normal(self, node: Node, at: Path, reading: Reading) -> Node | None:
        """The text."""
        found = super().normal(node, at, reading)
        if found is None or not found.value:
            return found
        from ipaddress import ip_address  # most files have no address

        try:
            ip_address(found.value)
        except ValueError:
            return reading.refuse(node, at, "an address, as in 127.0.0.1")
        return found


PORT = Table(
    {
        "name": TEXT,
        "mode": Word("ingress", "host"),
        "host_ip": HostIp(),
        "target": Number(1, _PORT_MAX),
        "published": Published(),
        "protocol": Text(f"one of {', '.join(_PROTOCOLS)}", pattern=f"(?i:{'|'.join(_PROTOCOLS)})"),
        "app_protocol": TEXT,
    },
    needs=("target",),
    example='a map with target, or text as in "8080:80"',
)


def _expanded(node: Node, at: Path, reading: Reading) -> list[Node] | None:
    if node.is_map:
        defaults = {"mode": "ingress", "protocol": "tcp"}
        added = {key: Node(value, node.place) for key, value in defaults.items()}
        return [Node({**added, **node.value}, node.place, keys=node.keys)]
    value = node.value
    text = go_text(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    ports = _ports(text)
    if ports is None:
        reading.refuse(node, at, f'{_EXPECTED} "8080:80"')
        return []
    return [
        Node({key: Node(part, node.place) for key, part in port.items()}, node.place)
        for port in ports
    ]


def _ports(text: str) -> list[dict[str, Any]] | None:
    if (match := _SHORT.fullmatch(text)) is None or not text:
        return None
    target, host = span(match["target"]), span(match["host"] or "0")
    protocol = (match["protocol"] or "tcp").lower()
    if target is None or host is None or not target.first or protocol not in _PROTOCOLS:
        return None
    base: dict[str, Any] = {"mode": "ingress", "protocol": protocol}
    if ip := match["six"] or match["four"] or match["open"]:
        base["host_ip"] = ip
    if not match["host"]:
        return [{**base, "target": number} for number in range(target.first, target.last + 1)]
    if len(host) == len(target):
        both = zip(
            range(host.first, host.last + 1), range(target.first, target.last + 1), strict=True
        )
        return [{**base, "published": str(h), "target": t} for h, t in both]
    if len(target) > 1:
        return None
    return [{**base, "published": match["host"], "target": target.first}]


def _identity(node: Node) -> tuple[str, int, str, str]:
    target = node.get("target")
    ip = node.text("host_ip") or "0.0.0.0"
    number = target.value if target is not None else 0
    return ip, number, node.text("published"), node.text("protocol").lower()


def _docker_identity(node: Node) -> object:
    # Ports without a published one stay as they are; Docker's stack collapses them into the last.
    return node.text("published") or node


class Ports(Listing):
    """The list; all lists of a project have at most so many ports."""

    def normal(self, node: Node, at: Path, reading: Reading) -> Node | None:
        """The list, one entry per port."""
        entries = node.value if isinstance(node.value, list) else []
        reading.report.ports += sum(_count(entry) for entry in entries)
        if reading.report.ports > PORTS_MAX:
            raise refusal(node, at, f"more than {PORTS_MAX:,} ports in all")
        return super().normal(node, at, reading)


def _count(entry: Node) -> int:
    match = _SHORT.fullmatch(entry.value) if isinstance(entry.value, str) else None
    found = span(match["target"]) if match else None
    return len(found) if found else 1


PORTS = Ports(
    PORT,
    Merge(Rule.KEYED, _identity, Merge(Rule.KEYED, _docker_identity)),
    expand=_expanded,
    example='a list, as in ["8080:80"]',
)
