"""Timestamps in flags. SHELL: a timestamp without a time zone is in this host's zone."""

import datetime

from pyswarm_core.aio.system import SystemClock
from pyswarm_core.clock import Instant
from pyswarm_core.docker.units import parse_time


def instant(text: str) -> Instant:
    """Parse `2026-01-31T08:00:00`, seconds since 1970, or `10m` (ago). Raises InvalidArgument."""
    zone = datetime.datetime.now().astimezone().tzinfo
    return parse_time(text, SystemClock().now(), zone or datetime.UTC)
