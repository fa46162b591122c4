"""Values of service flags: text -> parts of a spec. PURE."""

import re
import shlex
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from pyswarm_core.constraints import VALUES, parse_preference
from pyswarm_core.docker.units import INT64_MAX, parse_integer, parse_size
from pyswarm_core.errors import InvalidArgument, invalid, unfit
from pyswarm_core.plaintext import is_utf8, split_lines
from pyswarm_core.resources import ThrottleDevice, WeightDevice
from pyswarm_core.specs import NetworkAttachment, Ulimit
from pyswarm_core.validation.text import is_word

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_ULIMIT = re.compile(r"(?P<name>[^=]+)=(?P<soft>-?[0-9]{1,28})(?::(?P<hard>-?[0-9]{1,28}))?")
_BLANKS = " \t"


class Entry(NamedTuple):
    """A part of the environment and its source: `--env`, `--env-file 'FILE' line 3`."""

    source: str
    text: str


def labels(flag: str, texts: Iterable[str]) -> dict[str, str]:
    """`KEY=VALUE`; a KEY alone has the empty value, as in Docker. Raises InvalidArgument."""
    found = {}
    for text in texts:
        key, _, value = text.partition("=")
        if not key:
            raise invalid(flag, text, "expected KEY=VALUE")
        found[key] = value
    return found


def environment(entries: Iterable[Entry], own: Mapping[str, str]) -> tuple[str, ...]:
    """`NAME=VALUE` of the entries; of equal names the last one wins.

    A NAME alone takes its value from `own`, and is left out if it has none there, as in Docker.
    Raises InvalidArgument.
    """
    found: dict[str, str] = {}
    for source, text in entries:
        name, equals, value = text.partition("=")
        if not (is_word(name) if equals else _VARIABLE.fullmatch(name)):
            expected = (
                "expected NAME=VALUE, the name without spaces,"
                " or the NAME of a variable of this environment"
            )
            raise invalid(source, text, expected)
        if not equals and not is_utf8(own.get(name, "")):
            raise invalid(
                source, name, "expected UTF-8 in its value in this environment", "variable"
            )
        if equals:
            found[name] = value
        elif name in own:
            found[name] = own[name]
    return tuple(f"{name}={value}" for name, value in found.items())


def env_lines(source: str, content: bytes) -> list[Entry]:
    """The lines of an env file without its comments. Raises InvalidArgument if it is not UTF-8.

    Docker's rules: blanks before a line are ignored, quotes are part of the value.
    """
    try:
        text = content.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InvalidArgument(f"{source} cannot be read: line {line} is not UTF-8") from None
    numbered = enumerate((line.lstrip(_BLANKS) for line in split_lines(text)), 1)
    return [
        Entry(f"{source} line {number}", line)
        for number, line in numbered
        if line and not line.startswith("#")
    ]


def preferences(texts: Iterable[str]) -> tuple[str, ...]:
    """`spread=node.labels.zone`. Raises InvalidArgument."""
    for text in texts:
        if not text.startswith("spread="):
            raise invalid("--placement-pref", text, "expected spread=node.labels.NAME")
    return tuple(map(parse_preference, texts))


_NOT_OF_NETWORKS = {
    "ip6": "the IPv6 address follows from the IPv4 address; use ip=ADDRESS",
    "link-local-ip": "networks assign one address per IP version; use ip=ADDRESS",
    "mac-address": "use --mac-address, which is of the first network",
    "driver-opt": "options are of the network; use `network create --opt`",
    "gw-priority": "the default route is by the first network that is not internal; name it first",
}
"""Docker's keys of `--network`, and what to use instead."""


def network(text: str) -> NetworkAttachment:
    """`NAME`, or `name=NAME,alias=A,alias=B,ip=ADDRESS`. Raises InvalidArgument."""
    if "=" not in text:
        return NetworkAttachment(target=text)
    target, aliases, ip = "", [], ""
    for part in text.split(","):
        key, _, value = part.partition("=")
        if key == "name" and value and not target:
            target = value
        elif key == "alias" and value:
            aliases.append(value)
        elif key == "ip" and value and not ip:
            ip = value
        elif (instead := _NOT_OF_NETWORKS.get(key)) is not None:
            raise invalid("--network", text, f"{key} is not supported: {instead}")
        else:
            raise invalid("--network", text, "expected NAME or name=NAME,alias=ALIAS,ip=ADDRESS")
    if not target:
        raise invalid("--network", text, "expected name=NAME")
    return NetworkAttachment(target=target, aliases=tuple(aliases), ip=ip)


def host(text: str) -> str:
    """`NAME:IP` (or `NAME=IP`) as a line of /etc/hosts: `IP NAME`. Raises InvalidArgument."""
    name, _, address = text.replace("=", ":", 1).partition(":")
    if not name or not address:
        raise invalid("--host", text, "expected NAME:IP")
    return f"{address.strip('[]')} {name}"


def ulimit(text: str) -> Ulimit:
    """`nofile=1024:2048` or `nofile=1024`. Raises InvalidArgument."""
    found = _ULIMIT.fullmatch(text)
    if found is None:
        raise invalid("--ulimit", text, "expected NAME=SOFT[:HARD], as in nofile=1024:2048")
    soft = int(found["soft"])
    hard = int(found["hard"] or soft)
    if not all(-1 <= limit <= INT64_MAX for limit in (soft, hard)):
        raise invalid("--ulimit", text, f"expected -1 for unlimited, or 0 to {INT64_MAX}")
    return Ulimit(name=found["name"], soft=soft, hard=hard)


def weight_device(text: str) -> WeightDevice:
    """`/dev/sda:500`. Raises InvalidArgument."""
    path, _, number = text.rpartition(":")
    try:
        return WeightDevice(path=path, weight=_uint32(number))
    except InvalidArgument:
        expected = "expected DEVICE:WEIGHT, as in /dev/sda:500"
        raise invalid("--blkio-weight-device", text, expected) from None


def bytes_rate(flag: str, text: str) -> ThrottleDevice:
    """`/dev/sda:10mb`: bytes a second. Raises InvalidArgument."""
    path, _, number = text.rpartition(":")
    try:
        return ThrottleDevice(path=path, rate=parse_size(number))
    except InvalidArgument:
        raise invalid(flag, text, "expected DEVICE:RATE, as in /dev/sda:10mb") from None


def operations_rate(flag: str, text: str) -> ThrottleDevice:
    """`/dev/sda:1000`: operations a second. Raises InvalidArgument."""
    path, _, number = text.rpartition(":")
    try:
        return ThrottleDevice(path=path, rate=_uint32(number))
    except InvalidArgument:
        raise invalid(flag, text, "expected DEVICE:RATE, as in /dev/sda:1000") from None


def _uint32(text: str) -> int:
    number = parse_integer(text)
    if not 0 <= number < 2**32:
        raise InvalidArgument(f"expected 0 to {2**32 - 1}")
    return number


def command(text: str) -> tuple[str, ...]:
    """A command line as a shell would split it. Raises InvalidArgument."""
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise invalid("command", text, str(error).lower()) from None


def platform(text: str) -> tuple[str, ...]:
    """`OS[/ARCH[/VARIANT]]` as constraints of the node's platform. Raises InvalidArgument."""
    system, slash, architecture = text.partition("/")
    systems = VALUES["node.platform.os"]
    if system not in systems or (slash and not architecture):
        raise unfit(f"expected OS/ARCH, as in linux/amd64, OS one of {', '.join(systems)}")
    found = (f"node.platform.os=={system}",)
    if not architecture:
        return found
    return (*found, f"node.platform.arch=={architecture.partition('/')[0]}")
