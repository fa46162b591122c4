"""Timestamps in flags. SHELL: a timestamp without a time zone is in this host's zone."""

import datetime

from cli.errors import parsed
from pyswarm_core.aio.system import SystemClock
from pyswarm_core.clock import Instant
from pyswarm_core.docker.units import parse_time


def instant(flag: str, text: str) -> Instant:
    """Parse `2026-01-31T08:00:00`, seconds since 1970, or `10m` (ago). Raises InvalidArgument."""
    zone = datetime.datetime.now().astimezone().tzinfo
    now = SystemClock().now()
    return parsed(flag, lambda value: parse_time(value, now, zone or datetime.UTC), text)
