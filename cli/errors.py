"""Errors of the CLI's own, beside those that the controller tells. PURE."""

from pyswarm_core.errors import PyswarmError, Unavailable


class NoAnswer(Unavailable):
    """The controller took the request but did not answer in time."""


class Unreachable(Unavailable):
    """No controller answers there."""


class NotConverged(PyswarmError):
    """The wait ended before what was asked for was there; the service goes on."""


class GoalUnreachable(PyswarmError):
    """The wait ended because the service will not become what was asked."""
