"""Start and end of a daemon: it checks its settings before it changes anything, and prints the
reason of a failed start as one line on stderr. The end of its work in threads and tasks. SHELL.
"""

import asyncio
import errno
import fcntl
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, ParamSpec, TypeVar

import click

from pyswarm_core.aio.ports import take_back
from pyswarm_core.errors import InvalidArgument, causes, invalid, line_of, reason_of

P = ParamSpec("P")
T = TypeVar("T")
FAILED = 1
WRONG = 2
"""The command line or one of its values is wrong."""
INTERRUPTED = 130
_SOCKET_PATH_MAX = 107
"""Longest path of a Unix socket on Linux."""


def run_daemon(command: click.Command) -> NoReturn:
    """Run a daemon's command line and exit: 0 if it was asked to stop."""
    try:
        command.main(standalone_mode=False)
    except click.exceptions.Exit as ending:
        sys.exit(ending.exit_code)
    except click.ClickException as error:
        _leave(error.format_message(), error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(INTERRUPTED)
    except Exception as error:
        wrong = any(isinstance(cause, InvalidArgument) for cause in causes(error))
        _leave(line_of(error), WRONG if wrong else FAILED)
    sys.exit(0)


@contextmanager
def until_stopped() -> Iterator[None]:
    """Run the block in this asyncio task until it ends, or until SIGTERM or SIGINT cancels it."""
    main = asyncio.current_task()
    assert main is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, main.cancel)
    try:
        yield
    except asyncio.CancelledError:
        return


def _leave(text: str, code: int) -> NoReturn:
    click.echo(f"Error: {' '.join(text.split())}", err=True)
    sys.exit(code)


@contextmanager
def own_folder(flag: str, folder: Path) -> Iterator[None]:
    """Create the folder if it is missing, and lock it while the block runs.

    Raises InvalidArgument if it cannot be written or another process has it.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        expected = "expected a directory that can be created and written"
        raise invalid(flag, str(folder), f"{reason_of(error)}: {expected}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        reason = "it is in use by another process: expected one of its own"
        raise invalid(flag, str(folder), reason) from None
    try:
        yield
    finally:
        os.close(lock)


def check_free(flag: str, address: str) -> None:
    """Raise InvalidArgument unless this process can listen on `host:port` or `unix:///path`. A task
    that listens on the port is killed: see `take_back`.
    """
    if address.startswith("unix:"):
        _check_socket(flag, address)
        return
    host, _, port = address.rpartition(":")
    host = host.strip("[]") or "0.0.0.0"
    try:
        family, kind, _, _, target = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0]
        try:
            _listen(family, kind, target)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not take_back(int(port)):
                raise
            _listen(family, kind, target)
    except (OSError, ValueError, OverflowError) as error:
        reason = reason_of(error) if isinstance(error, OSError) else str(error)
        expected = f"{reason}: expected a free HOST:PORT of this host"
        raise invalid(flag, address, expected) from None


def _listen(family: int, kind: int, target: tuple[object, ...]) -> None:
    with socket.socket(family, kind) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(target)
        probe.listen()


def _check_socket(flag: str, address: str) -> None:
    path = Path(address.removeprefix("unix:").removeprefix("//"))
    if not path.parent.is_dir() or len(os.fsencode(path)) > _SOCKET_PATH_MAX:
        form = f"a path of at most {_SOCKET_PATH_MAX} bytes in a directory that exists"
        raise invalid(flag, address, f"expected {form}")


async def to_its_end(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What the work returns, in a thread. A caller that is cancelled leaves once the work has
    ended: what follows, such as the removal of what it makes, never runs beside it.
    """
    loop = asyncio.get_running_loop()
    running = loop.run_in_executor(None, partial(work, *args, **kwargs))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        while not running.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait((running,))
        if not running.cancelled():
            running.exception()  # marks it as retrieved
        raise


async def apart(work: Coroutine[Any, Any, T]) -> T:
    """What the work returns, or raises, as a task of its own, which is cancelled with its caller.
    Until Python 3.13 a group of tasks may leave its task counted as cancelled: `was_cancelled` is
    true only for a caller whose groups run apart.
    """
    return await asyncio.create_task(work)  # noqa: TID251  # its owner awaits it here


def was_cancelled() -> bool:
    """Whether the running task was cancelled. A loop that handles errors of `apart` asks it after
    each: until Python 3.13 a group of tasks that is cancelled and has errors raises them instead of
    the cancellation. gRPC ends a stream in the same way as a task.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
