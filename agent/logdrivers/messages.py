"""Messages as journald and syslog servers read them. PURE.

Docker's fields and formats: [journald](https://docs.docker.com/engine/logging/drivers/journald/),
[syslog](https://docs.docker.com/engine/logging/drivers/syslog/).
"""

import re
from collections.abc import Callable
from functools import partial

from agent.logdrivers.plan import Forwarding
from agent.logdrivers.splitting import Message
from pyswarm_core.docker.logdrivers import JOURNALD

Render = Callable[[Message], bytes]

_MONTHS = b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
_ERROR, _INFORMATION = 3, 6
"""Severities of syslog: of stderr and of stdout."""
_APP_NAME_MAX, _MSGID_MAX, _HOSTNAME_MAX = 48, 32, 255
"""Of RFC 5424."""
_FIELD_NAME_MAX = 64
"""journald's."""
_STREAMS = ("tcp", "unix")


def rendering(forwarding: Forwarding, hostname: str, pid: int) -> Render:
    """How messages of this container are sent, one at a time."""
    if forwarding.settings.driver == JOURNALD:
        return partial(_journal_entry, journal_fields(forwarding))
    return _syslog(forwarding, hostname.encode(), str(pid).encode())


def journal_fields(forwarding: Forwarding) -> bytes:
    """The fields that all entries of a container have."""
    fields = {
        "CONTAINER_ID": forwarding.full_id[:12],
        "CONTAINER_ID_FULL": forwarding.full_id,
        "CONTAINER_NAME": forwarding.name,
        "CONTAINER_TAG": forwarding.tag,
        "IMAGE_NAME": forwarding.image,
        "SYSLOG_IDENTIFIER": forwarding.tag,
    }
    own = {_field_name(key): value for key, value in forwarding.attributes.items()}
    return b"".join(
        _field(name.encode(), value.encode()) for name, value in {**own, **fields}.items() if name
    )


def _field_name(key: str) -> str:
    """Docker's: capital letters, digits and underscores, the first one none of these."""
    return re.sub(r"[^A-Z0-9]", "_", key.upper()).lstrip("_")[:_FIELD_NAME_MAX]


def _field(name: bytes, value: bytes) -> bytes:
    if b"\n" not in value:
        return b"%b=%b\n" % (name, value)
    return b"%b\n%b%b\n" % (name, len(value).to_bytes(8, "little"), value)


def _journal_entry(fields: bytes, message: Message) -> bytes:
    entry = b"MESSAGE=%b\nPRIORITY=%d\nSYSLOG_TIMESTAMP=%b\n" % (
        message.text,
        _severity(message),
        message.time,
    )
    if message.partial:
        entry += b"CONTAINER_PARTIAL_MESSAGE=true\n"
    return entry + fields


def _syslog(forwarding: Forwarding, hostname: bytes, pid: bytes) -> Render:
    settings = forwarding.settings
    # A space ends the tag of a message.
    tag = re.sub(rb"[^\x21-\x7e]", b"_", forwarding.tag.encode()) or b"-"
    end = b"\n" if settings.address.kind in _STREAMS else b""
    facility = settings.facility * 8
    if settings.format in ("rfc5424", "rfc5424micro"):
        place = hostname[:_HOSTNAME_MAX], tag[:_APP_NAME_MAX], pid, tag[:_MSGID_MAX]
        digits = 26 if settings.format == "rfc5424micro" else 19
        head = b" %b %b %b %b - " % place

        def rfc5424(message: Message) -> bytes:
            time = message.time[:digits] + message.time[29:]
            return b"<%d>1 %b%b%b%b" % (
                facility + _severity(message),
                time,
                head,
                message.text,
                end,
            )

        return rfc5424
    own = b" %b %b[%b]: " % (hostname, tag, pid)
    head = own if settings.format == "rfc3164" else b" %b[%b]: " % (tag, pid)

    def rfc3164(message: Message) -> bytes:
        return b"<%d>%b%b%b%b" % (
            facility + _severity(message),
            _stamp(message.time),
            head,
            message.text,
            end,
        )

    return rfc3164


def _stamp(time: bytes) -> bytes:
    """`Jan  2 03:04:05`, in the host's time zone."""
    month = _MONTHS[(int(time[5:7]) - 1) % 12] if time[5:7].isdigit() else _MONTHS[0]
    day = time[8:10].lstrip(b"0").rjust(2)
    return b"%b %b %b" % (month, day, time[11:19])


def _severity(message: Message) -> int:
    return _ERROR if message.stream == b"stderr" else _INFORMATION
