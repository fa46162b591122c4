"""The errors that cross a border. PURE.

    PyswarmError
    ├── InvalidArgument    the request is wrong: names field, value and what would be valid
    ├── NotFound           no object answers to that name or id (or several do)
    ├── AlreadyExists      the name is taken
    ├── Conflict           it changed since it was read, or is in use: read again, then retry
    ├── Unavailable        no leader, or the store is away: the same request may succeed later
    │   └── Exhausted      too much is under way: names the limit
    └── PermissionDenied   the token or role does not allow it

Expected outcomes inside pure code are values, not exceptions. A broken invariant is an
AssertionError: the object that it concerns is quarantined, or the term ends. `aio/status.py` maps
this tree to gRPC status codes, in one table.
"""

from collections.abc import Iterable, Iterator
from difflib import get_close_matches

_TEXT_MAX = 400
"""Characters kept of an error's text by `told`."""
_PLACES = 4
_QUOTED_MAX = 80
"""Characters of a user's value that an error quotes."""

NO_LEADER = "there is no leader now"
"""In the text of an Unavailable: nothing was done, and soon somebody will lead."""


def reason_of(error: OSError, path: str = "") -> str:
    """`no space left on device: /var/lib/x`; `path` stands in where the error names none."""
    if error.strerror is None:
        return str(error) or type(error).__name__
    name = error.filename if error.filename is not None else path
    text = error.strerror[:1].lower() + error.strerror[1:]
    shown = name.decode(errors="replace") if isinstance(name, bytes) else str(name)
    return f"{text}: {shown}" if shown else text


def causes(error: BaseException) -> Iterator[BaseException]:
    """The errors in groups of groups, one by one."""
    if isinstance(error, BaseExceptionGroup):
        for member in error.exceptions:
            yield from causes(member)
    else:
        yield error


def line_of(error: BaseException) -> str:
    """An error, or a group of them, for people; of what nobody foresaw, its place too."""
    return "; ".join(dict.fromkeys(_line_of(cause) for cause in causes(error)))


def _line_of(cause: BaseException) -> str:
    if isinstance(cause, PyswarmError):
        return str(cause)
    return reason_of(cause) if isinstance(cause, OSError) else told(cause)


class PyswarmError(Exception):
    """Base of the tree; its text is one line for people."""


class InvalidArgument(PyswarmError):
    """The request is wrong and will stay wrong."""

    reason = ""
    """What is expected instead, of an error that `invalid` made."""


class NotFound(PyswarmError):
    """No such object, or the prefix is ambiguous."""


class AlreadyExists(PyswarmError):
    """Another object has that name."""


class Conflict(PyswarmError):
    """The object changed since it was read, or something still uses it."""


class Unavailable(PyswarmError):
    """Cannot be served now; retrying may help."""


class Exhausted(Unavailable):
    """A limit on what is under way is reached; retrying helps once there is less."""


class PermissionDenied(PyswarmError):
    """Not with this token or role."""


def quoted(value: object) -> str:
    """The value in printable ASCII, at most 80 characters of it; strings in double quotes."""
    if isinstance(value, str):
        cut = value if len(value) <= _QUOTED_MAX else value[:_QUOTED_MAX] + "..."
        return '"' + cut.encode("unicode_escape").decode("ascii").replace('"', '\\"') + '"'
    text = ascii(value)
    return text if len(text) <= _QUOTED_MAX else text[:_QUOTED_MAX] + "..."


def not_valid(field: str, value: object, reason: str, what: str = "value") -> str:
    """`--replicas: value "5x" is not valid: expected an integer of at least 0`."""
    return f"{field}: {what} {quoted(value)} is not valid: {reason}"


def invalid(field: str, value: object, reason: str, what: str = "value") -> InvalidArgument:
    """The error of one field of a request: `reason` says what is expected instead."""
    error = InvalidArgument(not_valid(field, value, reason, what))
    error.reason = reason
    return error


def told(error: BaseException) -> str:
    """The error in one line: its type, its text, and the innermost places it came through."""
    places = []
    trace = error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename.rpartition("/")[2]
        places.append(f"{file}:{trace.tb_lineno}")
        trace = trace.tb_next
    text = " ".join(str(error).split())[:_TEXT_MAX]
    where = " > ".join(places[-_PLACES:])
    return f"{type(error).__name__}: {text} ({where})"


def similar(word: str, words: Iterable[str]) -> str:
    """`; did you mean manager?`, to follow the list of what is valid; empty if nothing is close."""
    close = get_close_matches(word[:64].casefold(), list(words), n=1)
    return f"; did you mean {close[0]}?" if close else ""
