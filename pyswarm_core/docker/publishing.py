"""`--publish`, `--publish-add` and `--publish-rm`: Docker's short and long forms -> ports. PURE."""

import re
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from typing import TypeVar

from pyswarm_core.docker.ports import shown
from pyswarm_core.errors import invalid
from pyswarm_core.specs import PortConfig, Protocol, PublishMode

E = TypeVar("E", bound=StrEnum)

_RANGE = r"[0-9]{1,5}(?:-[0-9]{1,5})?"
_SHORT = re.compile(
    rf"(?:(?:(?P<ip>\[[^\]]*\]|[^:\[\]]*):)?(?P<published>{_RANGE})?:)?"
    rf"(?P<target>{_RANGE})(?:/(?P<protocol>[a-zA-Z]+))?"
)
_EXPECTED = (
    "expected [[IP:]PUBLISHED:]TARGET[/PROTOCOL] or published=,target=,protocol=,mode=,host_ip="
)
_KEYS = ("published", "target", "protocol", "mode", "host_ip")


def ports(texts: Iterable[str], flag: str = "--publish") -> tuple[PortConfig, ...]:
    """The ports of the flags. Raises InvalidArgument."""
    return tuple(port for text in texts for port in _ports(flag, text))


def published(
    old: Sequence[PortConfig], added: Iterable[str], removed: Iterable[str]
) -> tuple[PortConfig, ...]:
    """The ports after `--publish-add` and `--publish-rm`; an added port replaces one with the same
    published port. Raises InvalidArgument for a removal that matches no port, such as one that
    names a published port.
    """
    gone = [removal for text in removed for removal in _removals(text, old)]
    kept = [port for port in old if not any(_is(port, removal) for removal in gone)]
    found = {_place(port): port for port in kept}
    found.update((_place(port), port) for port in ports(added, "--publish-add"))
    return tuple(found.values())


def _place(port: PortConfig) -> tuple[object, ...]:
    if port.published_port:
        return (port.published_port, port.protocol, port.host_ip)
    return (0, port.protocol, port.target_port, port.publish_mode, port.host_ip)


def _removals(text: str, old: Sequence[PortConfig]) -> list[tuple[PortConfig, bool]]:
    """The ports to remove, and whether the mode was given: otherwise both modes match."""
    with_mode = "=" in text and "mode=" in text
    removals = [(port, with_mode) for port in _ports("--publish-rm", text)]
    if not any(_is(port, removal) for port in old for removal in removals):
        expected = f"expected a target port of {shown(old)}" if old else "no port is published"
        raise invalid("--publish-rm", text, expected)
    return removals


def _is(port: PortConfig, removal: tuple[PortConfig, bool]) -> bool:
    meant, with_mode = removal
    return (
        (port.target_port, port.protocol) == (meant.target_port, meant.protocol)
        and meant.published_port in (0, port.published_port)
        and meant.host_ip in ("", port.host_ip)
        and (not with_mode or port.publish_mode is meant.publish_mode)
    )


def _ports(flag: str, text: str) -> Iterator[PortConfig]:
    if "=" in text:
        yield _long(flag, text)
        return
    match = _SHORT.fullmatch(text)
    if match is None:
        raise invalid(flag, text, _EXPECTED)
    protocol = _word(flag, text, Protocol, (match["protocol"] or "tcp").lower())
    targets = _numbers(flag, text, match["target"])
    numbers = _numbers(flag, text, match["published"]) if match["published"] else [0] * len(targets)
    if len(targets) == 1:
        targets *= len(numbers)
    if len(targets) != len(numbers):
        raise invalid(flag, text, "expected ranges of the same length")
    for number, target in zip(numbers, targets, strict=True):
        yield PortConfig(
            target_port=target,
            protocol=protocol,
            published_port=number,
            host_ip=_unbracketed(match["ip"] or ""),
        )


def _long(flag: str, text: str) -> PortConfig:
    found = dict.fromkeys(_KEYS, "")
    for part in text.split(","):
        key, _, value = part.partition("=")
        key, value = key.strip(" ").lower().replace("host-ip", "host_ip"), value.strip(" ")
        if not value or found.get(key) != "":
            raise invalid(flag, text, f"{_EXPECTED}, each once")
        found[key] = value
    if not found["target"]:
        raise invalid(flag, text, "expected target=PORT")
    return PortConfig(
        target_port=_number(flag, text, found["target"]),
        protocol=_word(flag, text, Protocol, found["protocol"].lower() or "tcp"),
        published_port=_number(flag, text, found["published"] or "0"),
        publish_mode=_word(flag, text, PublishMode, found["mode"].lower() or "ingress"),
        host_ip=_unbracketed(found["host_ip"]),
    )


def _unbracketed(ip: str) -> str:
    return ip[1:-1] if ip.startswith("[") and ip.endswith("]") else ip


def _numbers(flag: str, text: str, span: str) -> list[int]:
    first, dash, last = span.partition("-")
    start = _number(flag, text, first)
    end = _number(flag, text, last) if dash else start
    if end < start:
        raise invalid(flag, text, f"range {span} ends before it begins")
    return list(range(start, end + 1))


def _number(flag: str, text: str, number: str) -> int:
    if not (number.isascii() and number.isdecimal() and int(number[:6]) <= 65535):
        raise invalid(flag, text, "expected ports of 1 to 65535")
    return int(number)


def _word(flag: str, text: str, words: type[E], word: str) -> E:
    try:
        return words(word)
    except ValueError:
        raise invalid(flag, text, f"expected one of {', '.join(words)}") from None
