"""Validation of a host's description, as its agent reports it. PURE.

An agent is not trusted: its report appears on terminals, counts in the scheduler, and configures
the kernels of all other hosts.
"""

import re
from collections.abc import Iterable
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address

from pyswarm_core.controlplane import split_address, usable_address
from pyswarm_core.docker.units import human_size
from pyswarm_core.limits import (
    ENGINE_LABELS_BYTES_MAX,
    ENGINE_LABELS_MAX,
    LACKS_MAX,
    METRICS_ADDRS_MAX,
    NODE_CPUS_MAX,
    NODE_MEMORY_MAX,
    NODE_TASKS_LIMIT,
)
from pyswarm_core.objects import NodeDescription
from pyswarm_core.validation import text
from pyswarm_core.validation.network import UNICAST6
from pyswarm_core.validation.problem import Problem, at_most, within
from pyswarm_core.validation.resources import generic_problems

HOSTNAME_MAX = 253
LABEL_MAX = 63
"""RFC 1035: the length of a whole name, and of each label."""

_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+~-]{0,127}")
_UNUSABLE = (
    ("this network", IPv4Network("0.0.0.0/8")),
    ("loopback", IPv4Network("127.0.0.0/8")),
    ("link-local", IPv4Network("169.254.0.0/16")),
    ("multicast", IPv4Network("224.0.0.0/4")),
    ("reserved or broadcast", IPv4Network("240.0.0.0/4")),
)
"""Addresses that identify no host to other hosts (RFC 6890)."""


def description_problems(description: NodeDescription) -> list[Problem]:
    """The problems of an agent's description of its host."""
    resources = description.resources
    platform = description.platform
    return [
        *hostname_problems(description.hostname),
        *within("--cpus", resources.nano_cpus, 0, NODE_CPUS_MAX * 10**9),
        *within("--memory", resources.memory_bytes, 0, NODE_MEMORY_MAX),
        *generic_problems("--node-generic-resource", resources.generic_resources),
        *within("--max-tasks", description.max_tasks, 0, NODE_TASKS_LIMIT),
        *_word_problems("os", platform.os),
        *_word_problems("architecture", platform.architecture),
        *_version_problems(description.engine_version),
        *_engine_label_problems(description.engine_labels),
        *_lacks_problems(description.lacks),
        *_metrics_problems(description.metrics_addrs),
    ]


def hostname_problems(name: str) -> Iterable[Problem]:
    """A host name by RFC 1123."""
    fits = len(name) <= HOSTNAME_MAX and all(len(one) <= LABEL_MAX for one in name.split("."))
    if not fits or not text.HOSTNAME.fullmatch(name):
        expected = f"expected 1 to {HOSTNAME_MAX} letters, digits, - and . (RFC 1123)"
        yield Problem("--hostname", name, expected)


def address_problems(address: str) -> Iterable[Problem]:
    """The IPv4 address by which other hosts reach this one: the destination of VXLAN packets."""
    expected = "expected the host's own IPv4 address on the network between the hosts"
    try:
        found = IPv4Address(address)
    except AddressValueError:
        yield Problem("--advertise-addr", address, expected)
        return
    for kind, network in _UNUSABLE:
        if found in network:
            yield Problem("--advertise-addr", address, f"{expected}, not a {kind} address")


def usable6(addresses: Iterable[str]) -> tuple[str, ...]:
    """The IPv6 addresses of a host that identify it to others, each in its canonical form.

    Others, such as link-local ones, are left out. Raises ValueError for a text that is no address.
    """
    found = [IPv6Address(address) for address in addresses]
    usable = [a for a in found if not a.scope_id and any(a in network for network in UNICAST6)]
    return tuple(dict.fromkeys(map(str, usable)))


def _word_problems(field: str, word: str) -> Iterable[Problem]:
    if word and not _WORD.fullmatch(word):
        yield Problem(field, word, "expected at most 32 letters, digits, _ - and .")


def _version_problems(version: str) -> Iterable[Problem]:
    if version and not _VERSION.fullmatch(version):
        expected = "expected at most 128 letters, digits, _ - . + and ~"
        yield Problem("engine version", version, expected)


def _engine_label_problems(labels: dict[str, str]) -> Iterable[Problem]:
    size = sum(len(key.encode()) + len(value.encode()) for key, value in labels.items())
    if len(labels) > ENGINE_LABELS_MAX or size > ENGINE_LABELS_BYTES_MAX:
        most = human_size(ENGINE_LABELS_BYTES_MAX)
        expected = f"expected at most {ENGINE_LABELS_MAX} labels of {most} altogether"
        yield Problem("--label", f"{len(labels)} labels of {human_size(size)}", expected)
        return
    yield from text.label_problems("--label", labels)


def _lacks_problems(lacks: tuple[str, ...]) -> Iterable[Problem]:
    if len(lacks) > LACKS_MAX:
        yield from at_most("lacks", lacks, LACKS_MAX)
        return
    for word in lacks:
        if not _WORD.fullmatch(word):
            yield Problem("lacks", word, "expected words of at most 32 letters, digits, _ - and .")


def _metrics_problems(addresses: tuple[str, ...]) -> Iterable[Problem]:
    if len(addresses) > METRICS_ADDRS_MAX:
        yield from at_most("metrics_addrs", addresses, METRICS_ADDRS_MAX)
        return
    for address in addresses:
        if (parts := split_address(address)) is None or not usable_address(parts[0]):
            yield Problem("metrics_addrs", address, "expected ADDRESS:PORT that others reach")
