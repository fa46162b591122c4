"""The numbers that specs may have, by the flag that sets them. PURE.

One table for the parser of the CLI and the validation of the API: an error names the same bounds,
whether a value is too low, too high or no number.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import msgspec

from pyswarm_core.clock import HOUR, MILLISECOND, SECOND
from pyswarm_core.docker.units import (
    NANO_CPUS,
    format_bitrate,
    format_cpus,
    format_duration,
    format_lifetime,
    human_size,
    parse_bitrate,
    parse_cpus,
    parse_duration,
    parse_integer,
    parse_lifetime,
    parse_ratio,
    parse_size,
    parse_swap,
)
from pyswarm_core.errors import InvalidArgument, invalid
from pyswarm_core.limits import NODE_CPUS_MAX, NODE_MEMORY_MAX, REPLICAS_MAX
from pyswarm_core.validation.problem import Problem

DURATION_MAX = 365 * 24 * HOUR
"""A year: longer than any use, and no sum of an instant and a few of them exceeds an int64."""
CHECK_DURATION_MIN = MILLISECOND
"""Docker's minimum."""
RETRIES_MAX = 1_000_000
ATTEMPTS_MAX = 1_000_000
LIMIT_CPUS_MIN = NANO_CPUS // 100
"""The kernel's smallest quota: 1 ms of every 100 ms."""
RESERVE_CPUS_MIN = NANO_CPUS // 1000
CPUS_MAX = NODE_CPUS_MAX * NANO_CPUS
LIMIT_MEMORY_MIN = 6 << 20
"""Docker's minimum: with less, a runtime cannot start the process."""
RESERVE_MEMORY_MIN = 4 << 20
"""Swarm's minimum."""
PIDS_MAX = 4_194_304
"""The kernel's PID_MAX_LIMIT."""
CPU_SHARES_MAX = 262_144
"""The kernel's MAX_SHARES; it raises smaller weights than 2, and lowers larger ones."""
CPU_PERIOD_MAX = 1_000_000
CPU_QUOTA_MAX = NODE_CPUS_MAX * CPU_PERIOD_MAX
BLKIO_WEIGHT_MIN, BLKIO_WEIGHT_MAX = 10, 1000
"""Docker's bounds."""
BITRATE_MIN, BITRATE_MAX = 8_000, 1_000_000_000_000
"""With less, a full packet of 1,500 bytes takes longer than a second and a half."""


class Quantity(msgspec.Struct, frozen=True):
    """A kind of numbers in flags."""

    parse: Callable[[str], Any]
    """Raises InvalidArgument."""
    bound: Callable[[Any], str] = str
    """A bound of the range, for people."""
    exact: Callable[[Any], object] = int
    """A value of a spec, in an error."""
    form: str = "an integer of {}"
    """What a text that is no such number should have been; {} is the range."""


def _plain_duration(duration: int) -> str:
    return format_duration(duration).replace("µ", "u")


INTEGER = Quantity(parse_integer)
DURATION = Quantity(
    parse_duration, format_duration, _plain_duration, "{}, as in 10s, 500ms or 1h30m"
)
SECONDS = Quantity(
    lambda text: parse_integer(text) * SECOND,
    lambda duration: str(duration // SECOND),
    _plain_duration,
    "an integer of {}",
)
LIFETIME = Quantity(
    partial(parse_lifetime, ""), format_lifetime, format_lifetime, "{}, as in 90d, 12h or 30m"
)
CPUS = Quantity(
    parse_cpus, format_cpus, format_cpus, "{}, with at most nine decimals, as in 0.5 or 2"
)
SIZE = Quantity(parse_size, human_size, form="{}, as in 64M, 1.5g or 512k")
BITRATE = Quantity(parse_bitrate, format_bitrate, form="{}, as in 10mbit, 1.5gbit or 800kbit")
SWAP = Quantity(parse_swap, human_size, form="{}, as in 64M, 1.5g or 512k")
RATIO = Quantity(parse_ratio, str, "{:g}".format, "{}, as in 0.25")


class Range(msgspec.Struct, frozen=True):
    """The bounds of a number; `also` is a value with a meaning of its own, outside of them."""

    quantity: Quantity
    low: int
    high: int
    also: int | None = None
    also_text: str = "0"

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high or value == self.also

    def __str__(self) -> str:
        """`0, or 6MiB to 256TiB`."""
        bounds = f"{self.quantity.bound(self.low)} to {self.quantity.bound(self.high)}"
        return bounds if self.also is None else f"{self.also_text}, or {bounds}"

    def read(self, field: str, text: str) -> Any:
        """The number of the text. Raises InvalidArgument."""
        try:
            value = self.quantity.parse(text)
        except InvalidArgument:
            expected = self.quantity.form.format(self)
            raise invalid(field, text, f"expected {expected}") from None
        if value not in self:
            raise invalid(field, text, f"expected {self}")
        return value

    def problems(self, field: str, value: float) -> Iterable[Problem]:
        """A problem if the value is not in the range."""
        if value not in self:
            yield Problem(field, self.quantity.exact(value), f"expected {self}")


def _parse_quota(text: str) -> int:
    """Docker's -1 is no quota."""
    return 0 if text == "-1" else parse_integer(text)


QUOTA = Quantity(_parse_quota)
_BITRATES = Range(BITRATE, BITRATE_MIN, BITRATE_MAX, also=0)
_DURATION = Range(DURATION, 0, DURATION_MAX)
_CHECK_DURATION = Range(DURATION, CHECK_DURATION_MIN, DURATION_MAX, also=0, also_text="0s")
_TASKS = Range(INTEGER, 0, REPLICAS_MAX)

RANGES: Mapping[str, Range] = {
    "--replicas": _TASKS,
    "--replicas-max-per-node": _TASKS,
    "--limit-cpu": Range(CPUS, LIMIT_CPUS_MIN, CPUS_MAX, also=0),
    "--limit-memory": Range(SIZE, LIMIT_MEMORY_MIN, NODE_MEMORY_MAX, also=0),
    "--limit-pids": Range(INTEGER, 0, PIDS_MAX),
    "--reserve-cpu": Range(CPUS, RESERVE_CPUS_MIN, CPUS_MAX, also=0),
    "--reserve-memory": Range(SIZE, RESERVE_MEMORY_MIN, NODE_MEMORY_MAX, also=0),
    "--memory-swap": Range(SWAP, 0, NODE_MEMORY_MAX, also=-1, also_text="-1 for unlimited"),
    "--memory-swappiness": Range(INTEGER, -1, 100),
    "--memory-reservation": Range(SIZE, LIMIT_MEMORY_MIN, NODE_MEMORY_MAX, also=0),
    "--cpu-shares": Range(INTEGER, 2, CPU_SHARES_MAX, also=0),
    "--cpu-period": Range(INTEGER, 1000, CPU_PERIOD_MAX, also=0),
    "--cpu-quota": Range(QUOTA, 1000, CPU_QUOTA_MAX, also=0),
    "--blkio-weight": Range(INTEGER, BLKIO_WEIGHT_MIN, BLKIO_WEIGHT_MAX, also=0),
    "--net-egress": _BITRATES,
    "--net-ingress": _BITRATES,
    "--oom-score-adj": Range(INTEGER, -1000, 1000),
    "--stop-grace-period": _DURATION,
    "--stop-timeout": Range(SECONDS, 0, DURATION_MAX),
    "--shm-size": Range(SIZE, 4096, NODE_MEMORY_MAX, also=0),
    "--restart-delay": _DURATION,
    "--restart-max-attempts": Range(INTEGER, 0, ATTEMPTS_MAX),
    "--restart-max-delay": _DURATION,
    "--restart-window": _DURATION,
    **{
        f"--{check}-{duration}": _CHECK_DURATION
        for check in ("health", "ready")
        for duration in ("interval", "timeout", "start-period", "start-interval")
    },
    "--health-retries": Range(INTEGER, 0, RETRIES_MAX),
    "--ready-retries": Range(INTEGER, 0, RETRIES_MAX),
    **{
        f"--{change}-{setting}": allowed
        for change in ("update", "rollback")
        for setting, allowed in (
            ("parallelism", _TASKS),
            ("delay", _DURATION),
            ("monitor", _DURATION),
            ("max-failure-ratio", Range(RATIO, 0, 1)),
        )
    },
}
"""Flag -> what its number may be."""


def range_problems(field: str, value: float) -> Iterable[Problem]:
    """A problem if the value is not in the field's range."""
    yield from RANGES[field].problems(field, value)
