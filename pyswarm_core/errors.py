"""The errors that cross a border. PURE.

    PyswarmError
    ├── InvalidArgument    the request is wrong: names field, value and what would be valid
    ├── NotFound           no object answers to that name or id (or several do)
    ├── AlreadyExists      the name is taken
    ├── Conflict           it changed since it was read, or is in use: read again, then retry
    ├── Unavailable        no leader, or the store is away: the same request may succeed later
    └── PermissionDenied   the token or role does not allow it

Expected outcomes inside pure code are values, not exceptions; broken invariants are AssertionError
and crash the loop. `aio/status.py` maps this tree to gRPC status codes, in one table.
"""

NO_LEADER = "there is no leader now"
"""In the text of an Unavailable: nothing was done, and soon somebody will lead."""


class PyswarmError(Exception):
    """Base of the tree; its text is one line for people."""


class InvalidArgument(PyswarmError):
    """The request is wrong and will stay wrong."""


class NotFound(PyswarmError):
    """No such object, or the prefix is ambiguous."""


class AlreadyExists(PyswarmError):
    """Another object has that name."""


class Conflict(PyswarmError):
    """The object changed since it was read, or something still uses it."""


class Unavailable(PyswarmError):
    """Cannot be served now; retrying may help."""


class PermissionDenied(PyswarmError):
    """Not with this token or role."""
