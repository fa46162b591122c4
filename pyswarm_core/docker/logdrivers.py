"""Docker's log drivers and their options: text -> settings, attributes and tags of lines. PURE.

`OPTIONS` has a row per option with its drivers and its parser. An option that Docker has and
pyswarm does not is a row too, whose parser names what would be valid.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from pyswarm_core.docker.units import parse_integer, parse_size
from pyswarm_core.errors import InvalidArgument, quoted, unfit
from pyswarm_core.logs.patterns import Pattern, pattern
from pyswarm_core.specs import LogDriver

JSON_FILE, LOCAL, NONE, JOURNALD, SYSLOG = "json-file", "local", "none", "journald", "syslog"
DRIVERS = (JSON_FILE, LOCAL, NONE, JOURNALD, SYSLOG)
FORWARDED = frozenset({JOURNALD, SYSLOG})
"""Their lines are sent to a program of the host or a server, from the log's files."""
UNREADABLE = "configured logging driver does not support reading"
"""Docker's answer to `logs` of a container whose lines are not stored."""

FILE_SIZE, FILES = 20 << 20, 5
"""Of `local` and of the files behind `journald` and `syslog`: Docker's defaults."""
FILES_MAX = 100
"""Readers open all files of a log at once, and each rotation renames them."""
SYSLOG_PORT = 514
HOST_SYSLOG = "/dev/log"
DAEMON_NAME = "pyswarm"
TAG = "{{.ID}}"
"""Docker's default tag of journald and syslog."""
_TAG_LENGTH_MAX = 512
_TAG_RENDERED_MAX = 1_024
"""Of the characters of a tag with its fields filled in, and of each field: the rest is cut."""
_TAG_FIELDS = "ID FullID Name ImageName ImageID ImageFullID Command DaemonName".split()
_TAG_FIELD = re.compile(rf"\{{\{{ *\.({'|'.join(_TAG_FIELDS)}) *\}}\}}")
_ACTION_SHOWN_MAX = 40
_HOST_LENGTH_MAX = 253
"""Of DNS names."""
_HOST_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_REGEX_LENGTH_MAX = 128
_KEY_LENGTH_MAX = 128
_REGEX_PROGRAM_MAX = 256
"""Instructions of RE2, each of which takes up to 3 ns per character of a key."""

FACILITIES = (
    "kern user mail daemon auth syslog lpr news uucp cron authpriv ftp ntp audit alert clock"
    " local0 local1 local2 local3 local4 local5 local6 local7"
).split()
"""Names of RFC 5424's facilities, by number."""
FORMATS = ("rfc3164", "rfc5424", "rfc5424micro")


class Address(msgspec.Struct, frozen=True):
    """The address of a syslog server: `kind` is udp, tcp, unix or unixgram; `path` is of the last
    two.
    """

    kind: str = ""
    host: str = ""
    port: int = 0
    path: str = ""


class LogSettings(msgspec.Struct, frozen=True, kw_only=True):
    """A driver and its options, with their defaults. 0 in `max_size`: the agent's own limits."""

    driver: str = JSON_FILE
    max_size: int = 0
    max_file: int = 0
    tag: str = ""
    address: Address = Address()
    facility: int = FACILITIES.index("daemon")
    format: str = ""
    """One of FORMATS; empty: that of the C library's syslog()."""


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """The container that lines come from, as templates of tags name it."""

    full_id: str
    name: str
    image_name: str = ""
    image_id: str = ""
    command: str = ""


def _size(text: str) -> int:
    if (size := parse_size(text)) <= 0:
        raise unfit("expected a size of more than 0, as in 10m")
    return size


def _files(text: str) -> int:
    expected = f"expected a number of files, 1 to {FILES_MAX}"
    try:
        number = parse_integer(text)
    except InvalidArgument:
        raise unfit(expected) from None
    if not 1 <= number <= FILES_MAX:
        raise unfit(expected)
    return number


def _one_of(words: Sequence[str], reason: str, text: str) -> str:
    if text not in words:
        shown = f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else words[0]
        raise unfit(f"expected {shown}{reason and ': '}{reason}")
    return text


def _refused(reason: str, text: str) -> str:
    raise unfit(reason)


def _names(text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.split(",")))


def _pattern(text: str) -> Pattern:
    if len(text) > _REGEX_LENGTH_MAX:
        raise unfit(f"expected at most {_REGEX_LENGTH_MAX} characters")
    return pattern("", text, _REGEX_PROGRAM_MAX)


def _tag(text: str) -> str:
    *fields, last = (f"{{{{.{name}}}}}" for name in _TAG_FIELDS)
    expected = f"expected text with {', '.join(fields)} or {last}"
    if len(text) > _TAG_LENGTH_MAX or not text.isprintable():
        raise unfit(f"{expected}, at most {_TAG_LENGTH_MAX} printable characters")
    for piece in _TAG_FIELD.split(text)[::2]:  # others: the fields' names
        _, braces, action = piece.partition("{{")
        if braces:
            inside, end, _ = action.partition("}}")
            shown = quoted(f"{{{{{inside}{end}"[:_ACTION_SHOWN_MAX])
            raise unfit(f"{shown} is no field: {expected}")
    return text


def _address(text: str) -> Address:
    expected = "expected udp://HOST[:PORT], tcp://HOST[:PORT], unixgram://PATH or unix://PATH"
    from urllib.parse import urlsplit  # costs commands that need it alone

    try:
        url = urlsplit(text)
        port = SYSLOG_PORT if url.port is None else url.port
    except ValueError:
        raise unfit(expected) from None
    if url.scheme == "tcp+tls":
        raise unfit(f"{expected}; TLS is not supported")
    rest = url.query or url.fragment or url.username
    if url.scheme in ("unix", "unixgram") and url.path.startswith("/") and not (url.netloc or rest):
        if len(url.path.encode()) > 107:
            raise unfit("expected a path of at most 107 bytes")
        return Address(url.scheme, path=url.path)
    if url.scheme in ("udp", "tcp") and url.hostname and url.path in ("", "/") and not rest:
        if not 0 < port < 65536:
            raise unfit(expected)
        _require_host(url.hostname)
        return Address(url.scheme, url.hostname, port)
    raise unfit(expected)


def _require_host(host: str) -> None:
    """Raises InvalidArgument for what `socket.getaddrinfo` would refuse whatever DNS answers."""
    import ipaddress  # costs commands that need it alone

    try:
        ipaddress.ip_address(host)
    except ValueError:
        name = host.removesuffix(".")
        if len(name) > _HOST_LENGTH_MAX or not all(map(_HOST_LABEL.fullmatch, name.split("."))):
            raise unfit(
                "expected as HOST an IP address, or a name of labels of 1 to 63 letters, digits,"
                " - and _, separated by dots"
            ) from None


def _facility(text: str) -> int:
    if text in FACILITIES:
        return FACILITIES.index(text)
    if text.isascii() and text.isdigit() and int(text[:4]) < len(FACILITIES):
        return int(text)
    raise unfit(f"expected 0 to {len(FACILITIES) - 1}, or one of {', '.join(FACILITIES)}")


class _Option(msgspec.Struct, frozen=True):
    """An option: the drivers that have it, and the parser of its text."""

    drivers: frozenset[str]
    read: Callable[[str], Any]
    is_refused: bool = False
    """No text of it is valid: `read` says what to use instead."""


_FILE = frozenset({JSON_FILE, LOCAL})
_BOTH = _FILE | FORWARDED
_UNCOMPRESSED = partial(_one_of, ("false",), "rotated files are not compressed")
_BUFFER = "the log's files are the buffer: expected {}max-size and {}max-file in place of it"
_NO_TLS = partial(_refused, "TLS is not supported: expected a syslog-address of udp:// or tcp://")


OPTIONS: Mapping[str, Sequence[_Option]] = {
    "max-size": [_Option(_FILE, _size)],
    "max-file": [_Option(_FILE, _files)],
    "compress": [_Option(_FILE, _UNCOMPRESSED)],
    "labels": [_Option(_BOTH, _names)],
    "labels-regex": [_Option(_BOTH, _pattern)],
    "env": [_Option(_BOTH, _names)],
    "env-regex": [_Option(_BOTH, _pattern)],
    "tag": [_Option(_BOTH, _tag)],
    "mode": [
        _Option(_FILE, partial(_one_of, ("blocking",), "each line is written before the next")),
        _Option(FORWARDED, partial(_one_of, ("non-blocking",), "lines are sent from files")),
    ],
    "max-buffer-size": [
        _Option(_FILE, partial(_refused, _BUFFER.format("", "")), True),
        _Option(FORWARDED, partial(_refused, _BUFFER.format("cache-", "cache-")), True),
    ],
    "cache-disabled": [
        _Option(FORWARDED, partial(_one_of, ("false",), "lines are sent from these files"))
    ],
    "cache-max-size": [_Option(FORWARDED, _size)],
    "cache-max-file": [_Option(FORWARDED, _files)],
    "cache-compress": [_Option(FORWARDED, _UNCOMPRESSED)],
    "syslog-address": [_Option(frozenset({SYSLOG}), _address)],
    "syslog-facility": [_Option(frozenset({SYSLOG}), _facility)],
    "syslog-format": [_Option(frozenset({SYSLOG}), partial(_one_of, FORMATS, ""))],
    **{
        f"syslog-tls-{name}": [_Option(frozenset({SYSLOG}), _NO_TLS, True)]
        for name in ("ca-cert", "cert", "key", "skip-verify")
    },
}


def options_of(driver: str) -> tuple[str, ...]:
    """The options that a driver accepts with some value."""
    return tuple(
        name
        for name, rows in OPTIONS.items()
        if any(driver in row.drivers and not row.is_refused for row in rows)
    )


def read_option(driver: str, name: str, text: str) -> Any:
    """The value of an option. Raises InvalidArgument, whose reason says what would be valid."""
    for row in OPTIONS.get(name, ()):
        if driver in row.drivers:
            return row.read(text)
    known = options_of(driver)
    raise unfit(f"expected an option of {driver}: {', '.join(known) or 'it has none'}")


def driver_of(driver: LogDriver) -> str:
    """The driver's name, or that of the default."""
    return driver.name or JSON_FILE


def settings_of(driver: LogDriver) -> LogSettings:
    """The settings of a valid driver."""
    name = driver_of(driver)
    found = {key: read_option(name, key, text) for key, text in driver.options.items()}
    prefix = "cache-" if name in FORWARDED else ""
    size, files = found.get(f"{prefix}max-size", 0), found.get(f"{prefix}max-file", 0)
    if name not in (JSON_FILE, NONE):
        size, files = size or FILE_SIZE, files or FILES
    elif size:
        files = files or 1
    return LogSettings(
        driver=name,
        max_size=size,
        max_file=files,
        tag=found.get("tag") or (TAG if name in FORWARDED else ""),
        address=found.get("syslog-address", Address()),
        facility=found.get("syslog-facility", LogSettings().facility),
        format=found.get("syslog-format", ""),
    )


def attributes(
    driver: LogDriver, labels: Mapping[str, str], env: Iterable[str], origin: Origin | None = None
) -> dict[str, str]:
    """What `logs --details` shows of each line: the labels and variables that the options `labels`,
    `labels-regex`, `env` and `env-regex` select, and of files the tag, if there is one.

    `labels` and `env` (`NAME=value`) are the container's.
    """
    found = _selected(driver, "labels", labels)
    found |= _selected(driver, "env", dict(text.partition("=")[::2] for text in env))
    tag = driver.options.get("tag")
    if tag and origin is not None and driver_of(driver) in _FILE:
        found["tag"] = rendered_tag(tag, origin)
    return found


def _selected(driver: LogDriver, option: str, values: Mapping[str, str]) -> dict[str, str]:
    if not values:
        return {}
    names = _names(driver.options.get(option, ""))
    found = {name: values[name] for name in names if name in values}
    if text := driver.options.get(f"{option}-regex", ""):
        keys = list(values)
        matching = _pattern(text).matching([key[:_KEY_LENGTH_MAX].encode() for key in keys])
        found |= {keys[number]: values[keys[number]] for number in matching}
    return found


def rendered_tag(text: str, origin: Origin) -> str:
    """The valid tag of a container. It is no Go template: fields are replaced, nothing is
    evaluated, so that the leader may render what users wrote.
    """
    image_id = origin.image_id.removeprefix("sha256:")
    fields = {
        "ID": origin.full_id[:12],
        "FullID": origin.full_id,
        "Name": origin.name,
        "ImageName": origin.image_name,
        "ImageID": image_id[:12],
        "ImageFullID": image_id,
        "Command": origin.command,
        "DaemonName": DAEMON_NAME,
    }
    cut = {name: value[:_TAG_RENDERED_MAX] for name, value in fields.items()}
    return _TAG_FIELD.sub(lambda match: cut[match[1]], text)[:_TAG_RENDERED_MAX]
