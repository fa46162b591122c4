"""The errors between modules. PURE.

    PyswarmError
    ├── InvalidArgument    the request is wrong: names field, value and what is expected
    ├── NotFound           no object has that name or id (or several do)
    ├── AlreadyExists      the name is taken
    ├── Conflict           it changed since it was read, or is in use: read again, then retry
    ├── Unavailable        no leader, or no store: the same request may succeed later
    │   └── Exhausted      too many requests: names the limit
    └── PermissionDenied   the token or role does not allow it

Expected outcomes in pure code are values, not exceptions. A broken invariant is an AssertionError:
the object that it concerns is quarantined, or the term ends. `aio/status.py` maps this tree to gRPC
status codes, in one table.
"""

from collections.abc import Callable, Iterable, Iterator

_TEXT_MAX = 400
"""Characters kept of an error's text by `with_place`."""
_PLACES = 4
_QUOTED_MAX = 80
"""Characters of a user's value that an error quotes."""

NO_LEADER = "there is no leader now"
"""In the text of an Unavailable: nothing was done, and a leader will be elected soon."""


def reason_of(error: OSError, path: str = "", *, named: str = "") -> str:
    """`no space left on device: /var/lib/x`; `path` is used if the error names none. The path is
    left out if it is `named`, that is, the text before has it.
    """
    if error.strerror is None:
        return str(error) or type(error).__name__
    name = error.filename if error.filename is not None else path
    text = error.strerror[:1].lower() + error.strerror[1:]
    shown = name.decode(errors="replace") if isinstance(name, bytes) else str(name)
    return f"{text}: {shown}" if shown not in ("", named) else text


def causes(error: BaseException) -> Iterator[BaseException]:
    """The errors in groups of groups, one by one."""
    if isinstance(error, BaseExceptionGroup):
        for member in error.exceptions:
            yield from causes(member)
    else:
        yield error


def line_of(error: BaseException) -> str:
    """The text of an error or a group of errors, in one line; an unexpected error has its place as
    well.
    """
    return "; ".join(dict.fromkeys(_line_of(cause) for cause in causes(error)))


def _line_of(cause: BaseException) -> str:
    if isinstance(cause, PyswarmError):
        return str(cause)
    return reason_of(cause) if isinstance(cause, OSError) else with_place(cause)


class PyswarmError(Exception):
    """Base of the tree; its text is one line."""


class InvalidArgument(PyswarmError):
    """The request is wrong, and a retry fails as well."""

    reason = ""
    """What is expected instead, of an error that `invalid` made."""


class NotFound(PyswarmError):
    """No such object, or the prefix is ambiguous."""


class AlreadyExists(PyswarmError):
    """Another object has that name."""


class Conflict(PyswarmError):
    """The object changed since it was read, or something still uses it."""


class Taken(Conflict):
    """Another object, of the id `holder`, has it already. `hidden` says so without that object, for
    callers that may not see it.
    """

    def __init__(self, text: str, holder: str, hidden: str) -> None:
        super().__init__(text)
        self.holder = holder
        self.hidden = hidden

    def among(self, sees: Callable[[str], bool]) -> Conflict:
        """The error for a caller that sees some of the objects only."""
        return self if sees(self.holder) else Conflict(self.hidden)

    def about(self, what: str) -> "Taken":
        """The error with what it is about in front."""
        return Taken(f"{what}: {self}", self.holder, f"{what}: {self.hidden}")


class Unavailable(PyswarmError):
    """The request cannot be served now; a retry may succeed."""


class Exhausted(Unavailable):
    """A limit on concurrent requests is reached; a retry succeeds when there are fewer."""


class PermissionDenied(PyswarmError):
    """The token or role does not allow it."""


def quoted(value: object) -> str:
    """The value in printable ASCII, at most 80 characters of it; strings in double quotes."""
    if isinstance(value, str):
        cut = value if len(value) <= _QUOTED_MAX else value[:_QUOTED_MAX] + "..."
        return '"' + cut.encode("unicode_escape").decode("ascii").replace('"', '\\"') + '"'
    text = ascii(value)
    return text if len(text) <= _QUOTED_MAX else text[:_QUOTED_MAX] + "..."


def shown(text: str) -> str:
    """A user's value as it is if it is short and printable, else `quoted`."""
    return text if text.isprintable() and 0 < len(text) <= _QUOTED_MAX else quoted(text)


def no_such_container(ref: str) -> NotFound:
    """Docker's words for a container that does not exist, and what lists those that do."""
    return NotFound(f"No such container: {shown(ref)}: `pyswarm ps --all` lists all containers")


def as_flag(name: str) -> str:
    """`--health-start-period` of `health_start_period`."""
    return "--" + name.replace("_", "-")


def not_valid(field: str, value: object, reason: str, what: str = "value") -> str:
    """`--replicas: value "5x" is not valid: expected an integer of 0 to 100000`."""
    return f"{field}: {what} {quoted(value)} is not valid: {reason}"


def invalid(field: str, value: object, reason: str, what: str = "value") -> InvalidArgument:
    """The error of one field of a request: `reason` says what is expected instead."""
    error = InvalidArgument(not_valid(field, value, reason, what))
    error.reason = reason
    return error


def with_place(error: BaseException) -> str:
    """The error in one line: its type, its text, and the innermost places of its traceback."""
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
    """`; did you mean manager?`, to follow the list of valid words; empty if none is close."""
    from difflib import get_close_matches  # daemons seldom need its memory

    known = {one.casefold(): one for one in words}
    close = get_close_matches(word[:64].casefold(), known, n=1)
    return f"; did you mean {known[close[0]]}?" if close else ""


def unfit(reason: str) -> InvalidArgument:
    """The error of a value whose field the caller names (`invalid`, `cli.errors.parsed`)."""
    error = InvalidArgument(reason)
    error.reason = reason
    return error
