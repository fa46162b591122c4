"""The join token of this host: from its flag, or from a file; and the refusal of a join with it.
SHELL.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pyswarm_core.aio.logs import EventLog
from pyswarm_core.errors import PyswarmError, Unavailable, invalid, reason_of

_log = EventLog("agent.session.jointoken")

REFUSAL = "join-refused"
"""The file of the state directory with the error of a join that no retry changes."""
_KEPT = (errno.EROFS, errno.EBUSY)
"""Of files that somebody else mounts, such as a Secret of Kubernetes."""


def join_token(given: str, file: Path | None) -> str:
    """The token of `--join-token`, else of the file; empty without both. Raises InvalidArgument."""
    if given or file is None:
        return given
    expected = "expected a file with the token of `pyswarm swarm join-token worker`"
    try:
        token = file.read_text().strip()
    except OSError as error:
        reason = reason_of(error, named=str(file))
        raise invalid("--join-token-file", str(file), f"{reason}: {expected}") from None
    except UnicodeDecodeError:
        raise invalid("--join-token-file", str(file), f"it is no text: {expected}") from None
    if not token:
        raise invalid("--join-token-file", str(file), f"it is empty: {expected}")
    return token


def remove_token(file: Path | None) -> None:
    """Remove the file, which a host that has joined does not need. A mounted file stays; any other
    that cannot be removed is logged, because the token is valid for other hosts.
    """
    if file is None:
        return
    try:
        with suppress(FileNotFoundError):
            file.unlink()
    except OSError as error:
        if error.errno not in _KEPT:
            _log.warning("join_token.kept", file=file, error=reason_of(error))


@contextmanager
def refusal_recorded(state_dir: Path) -> Iterator[None]:
    """Record an error of the block for `swarm join`, which ends then: the agent itself is restarted
    and tries again. Errors that a retry may change are not recorded.
    """
    path = state_dir / REFUSAL
    try:
        yield
    except Unavailable:
        raise
    except PyswarmError as error:
        _log.error("node.join_refused", error=error)
        with suppress(OSError):
            fresh = path.with_suffix(".new")
            fresh.write_text(str(error))
            fresh.replace(path)
        raise
    with suppress(OSError):
        path.unlink(missing_ok=True)
