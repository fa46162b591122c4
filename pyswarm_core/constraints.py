"""Placement constraints: `node.labels.zone==a`, parsed and matched against a node. PURE.

Swarm's language: a key, `==` or `!=`, a value; values compare without regard to case; a label that
a node lacks is equal to no value. Validation refuses what `parse` refuses, so stored constraints
always parse.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

import msgspec

from pyswarm_core.errors import InvalidArgument, invalid, similar
from pyswarm_core.objects import Node
from pyswarm_core.specs import ROLES

NODE_LABEL = "node.labels."
ENGINE_LABEL = "engine.labels."
IP = "node.ip"

_FORM = re.compile(r" *(?P<key>[^\s=!]+) *(?P<operator>==|!=) *(?P<value>.*?) *")
_LABEL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]*")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


def _platform_word(word: str) -> str:
    return _ARCHITECTURES.get(word.lower(), word)


# node.ip is not here: it compares networks, not words.
_FIELDS: Mapping[str, Callable[[Node], str]] = {
    "node.id": lambda node: node.id,
    "node.hostname": lambda node: node.description.hostname,
    "node.role": lambda node: node.spec.role,
    "node.platform.os": lambda node: node.description.platform.os,
    "node.platform.arch": lambda node: _platform_word(node.description.platform.architecture),
}
KEYS = (*_FIELDS, IP, f"{NODE_LABEL}NAME", f"{ENGINE_LABEL}NAME")


VALUES: Mapping[str, tuple[str, ...]] = {
    "node.role": ROLES,
    "node.platform.os": ("linux", "windows", "darwin", "freebsd"),
    "node.platform.arch": (
        "amd64", "arm64", "arm", "386", "loong64", "mips64le", "ppc64le", "riscv64", "s390x",
    ),
}  # fmt: skip
"""The keys with a closed set of values, in Go's words: a task with another value would wait
forever.
"""


class Constraint(msgspec.Struct, frozen=True):
    """One parsed constraint."""

    key: str
    equal: bool
    value: str

    def holds(self, node: Node) -> bool:
        """Whether the node satisfies it."""
        return self._equals(node) is self.equal

    def _equals(self, node: Node) -> bool:
        if self.key == IP:
            return _within(node.status.addr, network_of(self.value))
        found = attribute(node, self.key)
        return found is not None and found.casefold() == self.value.casefold()


def attribute(node: Node, key: str) -> str | None:
    """The node's value of a constraint's or preference's key; None if it lacks that label."""
    if key.startswith(NODE_LABEL):
        return node.spec.labels.get(key[len(NODE_LABEL) :])
    if key.startswith(ENGINE_LABEL):
        return node.description.engine_labels.get(key[len(ENGINE_LABEL) :])
    field = _FIELDS.get(key)
    return field(node) if field else None


def attributes(node: Node) -> Iterator[tuple[str, str]]:
    """The keys and values that `attribute` finds on the node."""
    for key, field in _FIELDS.items():
        yield key, field(node)
    for name, value in node.spec.labels.items():
        yield NODE_LABEL + name, value
    for name, value in node.description.engine_labels.items():
        yield ENGINE_LABEL + name, value


@lru_cache(4096)
def parse(text: str) -> Constraint:
    """Parse a constraint. Raises InvalidArgument that says what is expected."""
    found = _FORM.fullmatch(text)
    if found is None or not text.isprintable():
        raise _invalid(text, "expected KEY==VALUE or KEY!=VALUE")
    key, value = found["key"], found["value"]
    if not value:
        raise _invalid(text, f"expected a value after {found['operator']}")
    if not _known(key):
        raise _invalid(text, f"expected a key of {', '.join(KEYS)}{similar(key, KEYS)}")
    if key == IP and network_of(value) is None:
        raise _invalid(text, "expected an address or a CIDR network as the value")
    if key == "node.platform.arch":
        value = _platform_word(value)
    return Constraint(key, found["operator"] == "==", value)


def check(text: str) -> Constraint:
    """As `parse`, and the value must be one that a node may have. For new constraints: stored ones
    were checked by the rules of their time.
    """
    found = parse(text)
    words = VALUES.get(found.key, ())
    if words and found.value.casefold() not in words:
        expected = f"expected one of {', '.join(words)}{similar(found.value, words)}"
        raise _invalid(text, expected)
    return found


def parse_preference(text: str) -> str:
    """The key that a placement preference spreads over; the prefix `spread=` is optional. Raises
    InvalidArgument.
    """
    key = text.strip(" ").removeprefix("spread=").strip(" ")
    if not key.startswith((NODE_LABEL, ENGINE_LABEL)) or not _known(key):
        expected = f"expected spread={NODE_LABEL}NAME or spread={ENGINE_LABEL}NAME"
        raise invalid("--placement-pref", text, expected)
    return key


def _invalid(text: str, reason: str) -> InvalidArgument:
    return invalid("--constraint", text, reason)


def _known(key: str) -> bool:
    for prefix in (NODE_LABEL, ENGINE_LABEL):
        if key.startswith(prefix):
            return _LABEL.fullmatch(key[len(prefix) :]) is not None
    return key in _FIELDS or key == IP


@lru_cache(1024)
def network_of(text: str) -> IPv4Network | IPv6Network | None:
    """The network of a constraint on `node.ip`; None if the value is none."""
    try:
        return ip_network(text, strict=False)
    except ValueError:
        return None


def address_of(text: str) -> IPv4Address | IPv6Address | None:
    """A node's address, reported with or without a port; None if it is not an address."""
    host = text.rpartition(":")[0] if text.count(":") == 1 else text
    try:
        return ip_address(host)
    except ValueError:
        return None


def _within(text: str, network: IPv4Network | IPv6Network | None) -> bool:
    address = address_of(text)
    return network is not None and address is not None and address in network
