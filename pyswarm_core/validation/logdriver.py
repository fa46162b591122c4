"""Validation of log drivers and their options. PURE."""

from collections.abc import Iterable

from pyswarm_core.docker.logdrivers import DRIVERS, driver_of, read_option
from pyswarm_core.errors import InvalidArgument, similar
from pyswarm_core.specs import LogDriver
from pyswarm_core.validation import text
from pyswarm_core.validation.problem import Problem


def log_driver_problems(driver: LogDriver) -> Iterable[Problem]:
    """The driver is one of pyswarm's, and has these options with these values."""
    name = driver_of(driver)
    if name not in DRIVERS:
        words = f"{', '.join(DRIVERS[:-1])} or {DRIVERS[-1]}"
        yield Problem("--log-driver", name, f"expected {words}{similar(name, DRIVERS)}")
        return
    for key, value in driver.options.items():
        shown = f"{key}={value}"
        if not text.is_text(value):
            yield Problem("--log-opt", shown, "expected no control characters")
            continue
        try:
            read_option(name, key, value)
        except InvalidArgument as error:
            yield Problem("--log-opt", shown, error.reason)
