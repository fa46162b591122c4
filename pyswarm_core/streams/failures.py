"""Errors of copies as the exits of their streams. PURE.

An error that ended the call instead could be lost: a write that is under way when a call ends hides
the call's status (grpc.aio).
"""

from pyswarm_core import errors
from pyswarm_core.errors import PyswarmError
from pyswarm_core.streams.frames import Exit

_CODES: tuple[type[PyswarmError], ...] = (
    errors.Unavailable,
    errors.InvalidArgument,
    errors.NotFound,
    errors.Conflict,
    errors.Exhausted,
)
"""An exit code is the place in this order, from 1."""


def exit_of(error: PyswarmError) -> Exit:
    """The exit of a copy that ended with this error."""
    kinds = (cls for cls in type(error).__mro__ if cls in _CODES)
    return Exit(_CODES.index(next(kinds, errors.Unavailable)) + 1, str(error))


def error_in(ended: Exit) -> PyswarmError | None:
    """The error of an exit; None if the copy is complete."""
    if not ended.code:
        return None
    known = 0 < ended.code <= len(_CODES)
    return (_CODES[ended.code - 1] if known else errors.Unavailable)(ended.message)
