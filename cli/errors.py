"""Errors that the CLI itself raises, beside those that the controller returns. PURE."""

from pyswarm_core.errors import PyswarmError, Unavailable


class NoAnswer(Unavailable):
    """The controller accepted the request but did not answer in time."""


class Unreachable(Unavailable):
    """No controller answers at the address."""


class NotConverged(PyswarmError):
    """The wait ended before the change was complete; the change continues."""


class ConvergenceFailed(PyswarmError):
    """The wait ended because the service cannot converge: its tasks fail."""
