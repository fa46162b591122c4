"""Durations, sizes, CPUs and times in Docker's syntax. PURE.

Own code because maintained libraries have another syntax (`64M` as 64 million bytes, durations cut
to microseconds, days and spaces that Docker refuses) and cost every command 14-40 ms of import.
Parsing is exact: no value goes through a float. Every parser raises InvalidArgument with the text
and what is expected.
"""

import datetime
import re
from decimal import Decimal

from pyswarm_core.clock import HOUR, MICROSECOND, MILLISECOND, MINUTE, SECOND, Instant
from pyswarm_core.errors import InvalidArgument, invalid
from pyswarm_core.limits import NODE_CPUS_MAX, NODE_MEMORY_MAX

INT64_MAX = 2**63 - 1
NANO_CPUS = 1_000_000_000

_LENGTH_MAX = 28
"""Decimal keeps 28 digits; no valid value is longer."""
_UNITS = {
    "ns": 1,
    "us": MICROSECOND,
    "µs": MICROSECOND,
    "μs": MICROSECOND,
    "ms": MILLISECOND,
    "s": SECOND,
    "m": MINUTE,
    "h": HOUR,
}
_NUMBER = r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+"
_DURATION_PART = re.compile(rf"({_NUMBER})(ns|us|µs|μs|ms|s|m|h)")
_DURATION = re.compile(rf"(?:{_DURATION_PART.pattern})+")
_DAYS = re.compile(r"([0-9]{1,6})d", re.ASCII)
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([kmgtp]?)(?:i?b)?", re.IGNORECASE | re.ASCII)
_SIZE_POWERS = " kmgtp"
_BIT_UNITS = ("bit", "Kbit", "Mbit", "Gbit")
_SET = re.compile(r"[0-9]{1,4}(?:-[0-9]{1,4})?(?:,[0-9]{1,4}(?:-[0-9]{1,4})?)*", re.ASCII)
_SET_LENGTH_MAX = 4096
_SET_MAX = 8191
"""The kernel's NR_CPUS is at most 8192."""
_BITRATE = re.compile(r"([0-9]+(?:\.[0-9]+)?)([kmgt]?)bit", re.IGNORECASE | re.ASCII)
_CPUS = re.compile(_NUMBER)
_INTEGER = re.compile(r"[+-]?[0-9]+", re.ASCII)
_RATIO = re.compile(r"[0-9]{1,9}(?:\.[0-9]{0,18})?|\.[0-9]{1,18}")
_SECONDS = re.compile(r"([0-9]{1,11})(?:\.([0-9]{1,9}))?")
_CALENDAR = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:T([0-9]{2}(?::[0-9]{2}(?::[0-9]{2})?)?)(?:\.([0-9]{1,9}))?)?(Z|[+-][0-9]{2}:[0-9]{2})?"
)
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def parse_integer(text: str) -> int:
    """An integer in ASCII digits; `int` also accepts `1_0`, ` 3` and other scripts."""
    if len(text) > _LENGTH_MAX or not _INTEGER.fullmatch(text):
        raise _invalid("number", text, "an integer")
    return int(text)


def parse_ratio(text: str) -> float:
    """`0.25`, `.25` or `1`."""
    if not _RATIO.fullmatch(text):
        raise _invalid("ratio", text, "a decimal, as in 0.25")
    return float(text)


def parse_duration(text: str) -> int:
    """Nanoseconds of `1h30m`, `10s`, `500ms`, `1.5h` or `0`. Never negative."""
    if text == "0":
        return 0
    if len(text) > _LENGTH_MAX or not _DURATION.fullmatch(text):
        raise _invalid("duration", text, "numbers with units, as in 10s, 500ms, 1h30m")
    total = sum(
        (Decimal(number) * _UNITS[unit] for number, unit in _DURATION_PART.findall(text)),
        Decimal(0),
    )
    if total > INT64_MAX:
        raise _invalid("duration", text, f"at most {INT64_MAX // HOUR}h")
    return int(total)


def parse_lifetime(field: str, text: str) -> int:
    """Nanoseconds of `90d` or of a duration; more than 0. Raises InvalidArgument with the field."""
    days = _DAYS.fullmatch(text)
    try:
        lifetime = int(days[1]) * 24 * HOUR if days else parse_duration(text)
    except InvalidArgument:
        lifetime = 0
    if not 0 < lifetime <= INT64_MAX:
        raise invalid(field, text, "expected days or a duration, as in 90d, 12h, 30m")
    return lifetime


def format_duration(duration: int) -> str:
    """Nanoseconds as Go prints them: `1h30m0s`, `10s`, `1.5s`, `500ms`, `0s`."""
    if duration < 0:
        return "-" + format_duration(-duration)
    if duration < SECOND:
        for unit in ("ms", "µs", "ns"):
            if duration >= _UNITS[unit]:
                return f"{_decimal(Decimal(duration) / _UNITS[unit])}{unit}"
        return "0s"
    minutes, rest = divmod(duration, MINUTE)
    hours, minutes = divmod(minutes, 60)
    text = f"{_decimal(Decimal(rest) / SECOND)}s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text


def format_lifetime(lifetime: int) -> str:
    """Nanoseconds as `parse_lifetime` reads them: `90d` of whole days, else `12h0m0s`."""
    days, rest = divmod(lifetime, 24 * HOUR)
    return f"{days}d" if days and not rest else format_duration(lifetime)


def parse_size(text: str) -> int:
    """Bytes of `64M`, `1.5g`, `512k`, `64MiB` or `1024`: letters are powers of 1024."""
    match = _SIZE.fullmatch(text) if len(text) <= _LENGTH_MAX else None
    if match is None:
        raise _invalid("size", text, "a number with b, k, m, g, t or p, as in 64M, 1.5g, 512k")
    power = _SIZE_POWERS.index(match[2].lower() or " ")
    size = Decimal(match[1]) * 1024**power
    if size > NODE_MEMORY_MAX:
        raise _invalid("size", text, f"at most {human_size(NODE_MEMORY_MAX)}")
    return int(size)


def parse_swap(text: str) -> int:
    """A size; -1: unlimited."""
    return -1 if text.strip() == "-1" else parse_size(text)


def human_size(size: int) -> str:
    """Bytes in powers of 1024 with four digits, as Docker shows memory: `64MiB`, `1.5GiB`."""
    return _scaled(size, 1024, ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"), digits=4)


def decimal_size(size: int) -> str:
    """Bytes in powers of 1000 with three digits, as Docker shows images: `4.27MB`, `187MB`."""
    return _scaled(size, 1000, ("B", "kB", "MB", "GB", "TB", "PB", "EB"), digits=3)


def parse_set(text: str) -> frozenset[int]:
    """The numbers of `0-2,7`, as the kernel lists CPUs and NUMA nodes; none of an empty text."""
    if text and (len(text) > _SET_LENGTH_MAX or not _SET.fullmatch(text)):
        raise _invalid("set", text, "numbers and ranges, as in 0-2,7")
    bits = 0  # whatever the ranges, the cost is bounded by the length of the text
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        low, high = int(first), int(last or first)
        if not low <= high <= _SET_MAX:
            raise _invalid("set", text, f"ranges within 0 to {_SET_MAX}, the lower end first")
        bits |= ((1 << (high - low + 1)) - 1) << low
    return frozenset(number for number in range(bits.bit_length()) if bits >> number & 1)


def parse_bitrate(text: str) -> int:
    """Bits a second of `10mbit`, `1.5gbit` or `0`, as tc reads them: letters are powers of 1000."""
    if text == "0":
        return 0
    match = _BITRATE.fullmatch(text) if len(text) <= _LENGTH_MAX else None
    if match is None:
        raise _invalid("rate", text, "a number with kbit, mbit or gbit, as in 10mbit, 1.5gbit")
    return int(Decimal(match[1]) * 1000 ** _SIZE_POWERS.index(match[2].lower() or " "))


def format_bitrate(rate: int) -> str:
    """Bits a second as tc prints them: `10Mbit`, `1.5Gbit`, `800bit`."""
    power = 0
    while rate >= 1000 ** (power + 1) and power < len(_BIT_UNITS) - 1:
        power += 1
    return f"{_decimal(Decimal(rate) / 1000**power)}{_BIT_UNITS[power]}"


def parse_cpus(text: str) -> int:
    """Billionths of a CPU of `0.5`, `2` or `.25`; more than nine decimals are refused."""
    if len(text) > _LENGTH_MAX or not _CPUS.fullmatch(text):
        raise _invalid("cpus", text, "a number of CPUs, as in 0.5 or 2")
    nano_cpus = Decimal(text) * NANO_CPUS
    if nano_cpus != int(nano_cpus):
        raise _invalid("cpus", text, "at most nine decimals")
    if nano_cpus > NODE_CPUS_MAX * NANO_CPUS:
        raise _invalid("cpus", text, f"at most {NODE_CPUS_MAX}")
    return int(nano_cpus)


def format_cpus(nano_cpus: int) -> str:
    """Billionths of a CPU as a number of CPUs: `0.5`, `2`."""
    return _decimal(Decimal(nano_cpus) / NANO_CPUS)


def parse_time(text: str, now: Instant, zone: datetime.tzinfo = datetime.UTC) -> Instant:
    """An instant as `--since` takes it.

    RFC 3339 or the beginning of it (in `zone` if it names none), seconds since 1970, or a duration
    before `now`; as in Docker, a negative one is after it.
    """
    seconds = _SECONDS.fullmatch(text)
    if seconds:
        return Instant(int(seconds[1]) * SECOND + _nanoseconds(seconds[2]))
    calendar = _CALENDAR.fullmatch(text)
    if calendar:
        return _calendar_time(text, calendar, zone)
    try:
        sign = -1 if text.startswith("-") else 1
        return Instant(now - sign * parse_duration(text.removeprefix("-")))
    except InvalidArgument:
        raise _invalid(
            "time", text, "2026-01-31T08:00:00Z, seconds since 1970, or a duration such as 10m"
        ) from None


def format_time(at: Instant) -> str:
    """RFC 3339 in UTC with nine decimals, so that columns of them line up and sort."""
    whole, nanoseconds = divmod(at, SECOND)
    moment = _EPOCH + datetime.timedelta(seconds=whole)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{nanoseconds:09d}Z"


def pretty_time(at: Instant) -> str:
    """As Docker's `inspect --pretty` shows it: `2023-11-14 22:13:20.5 +0000 utc`."""
    day, _, clock = format_time(at).removesuffix("Z").partition("T")
    return f"{day} {clock.rstrip('0').rstrip('.')} +0000 utc"


def human_duration(duration: int) -> str:
    """Nanoseconds in one rough unit, as Docker shows them: `2 hours`, `About a minute`."""
    if duration < SECOND:
        return "Less than a second"
    if duration < MINUTE:
        return counted(duration // SECOND, "second")
    if duration < HOUR:
        minutes = duration // MINUTE
        return "About a minute" if minutes == 1 else f"{minutes} minutes"
    hours = (duration + HOUR // 2) // HOUR
    if hours == 1:
        return "About an hour"
    for below, unit, length in (
        (48, "hours", 1),
        (24 * 14, "days", 24),
        (24 * 60, "weeks", 24 * 7),
        (24 * 730, "months", 24 * 30),
    ):
        if hours < below:
            return f"{hours // length} {unit}"
    return f"{hours // (24 * 365)} years"


def counted(count: int, noun: str) -> str:
    """`1 task`, `2 tasks`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def ago(at: Instant, now: Instant) -> str:
    """The time since, for display: `2 hours ago`."""
    return f"{human_duration(max(0, now - at))} ago"


def _calendar_time(text: str, match: re.Match[str], zone: datetime.tzinfo) -> Instant:
    date, clock, fraction, offset = match.groups()
    try:
        moment = datetime.datetime.fromisoformat(f"{date}T{clock or '00:00'}{offset or ''}")
        since_epoch = (moment if offset else moment.replace(tzinfo=zone)) - _EPOCH
    except (ValueError, OverflowError):
        raise _invalid("time", text, "a day and time that exist") from None
    whole = since_epoch.days * 86_400 + since_epoch.seconds
    at = whole * SECOND + _nanoseconds(fraction)
    if not 0 <= at <= INT64_MAX:
        raise _invalid("time", text, "a time between 1970 and 2262")
    return Instant(at)


def _nanoseconds(fraction: str | None) -> int:
    return int(fraction.ljust(9, "0")) if fraction else 0


def _decimal(value: Decimal) -> str:
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _scaled(size: int, base: int, units: tuple[str, ...], digits: int) -> str:
    power = 0
    while size >= base ** (power + 1) and power < len(units) - 1:
        power += 1
    return f"{size / base**power:.{digits}g}{units[power]}"


def _invalid(field: str, text: str, expected: str) -> InvalidArgument:
    return invalid(field, text, f"expected {expected}")
