"""Errors that the CLI itself raises, beside those that the controller returns. PURE."""

from collections.abc import Callable
from typing import TypeVar

from pyswarm_core.errors import InvalidArgument, PyswarmError, Unavailable, invalid

T = TypeVar("T")


class NoAnswer(Unavailable):
    """The controller accepted the request but did not answer in time."""


class Unreachable(Unavailable):
    """No controller answers at the address."""


class Broken(PyswarmError):
    """A byte stream ended before what it was for: whether that is complete is not known."""


class NotConverged(PyswarmError):
    """The wait ended before the change was complete; the change continues."""


class Interrupted(NotConverged):
    """The wait was ended by Ctrl-C."""


class ConvergenceFailed(PyswarmError):
    """The wait ended because the service cannot converge: its tasks fail."""


class Unplaced(PyswarmError):
    """The wait ended because no node can take the tasks of a service; the change continues."""


def parsed(flag: str, parse: Callable[[str], T], text: str) -> T:
    """The value of a flag. Raises InvalidArgument, which names the flag."""
    try:
        return parse(text)
    except InvalidArgument as error:
        raise invalid(flag, text, error.reason) from None
