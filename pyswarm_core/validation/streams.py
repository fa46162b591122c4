"""Validation of the requests that open byte streams. PURE."""

from collections.abc import Iterable

from pyswarm_core.streams.limits import COPY_PATH_BYTES, EXEC_BYTES
from pyswarm_core.streams.requests import (
    CopyInRequest,
    CopyOutRequest,
    ExecRequest,
    PortForwardRequest,
    StreamRequest,
)
from pyswarm_core.validation.problem import Problem, within
from pyswarm_core.validation.text import (
    argument_problems,
    directory_problems,
    env_problems,
    user_problems,
)

_PORT_MAX = 65_535


def stream_problems(request: StreamRequest) -> Iterable[Problem]:
    """What is not valid in the request."""
    match request:
        case ExecRequest():
            yield from _exec_problems(request)
        case PortForwardRequest():
            yield from within("PORT", request.port, 1, _PORT_MAX)
        case CopyOutRequest():
            yield from _path_problems("SRC_PATH", request.path)
        case CopyInRequest():
            yield from _path_problems("DEST_PATH", request.path)
            yield from _path_problems("SRC_PATH", request.name)
        case _:
            pass


def _path_problems(field: str, path: str) -> Iterable[Problem]:
    size = len(path.encode())
    if size > COPY_PATH_BYTES:
        yield Problem(field, size, f"expected at most {COPY_PATH_BYTES} bytes", "size")


def _exec_problems(request: ExecRequest) -> Iterable[Problem]:
    size = sum(len(text.encode()) + 1 for text in (*request.args, *request.env))
    if size > EXEC_BYTES:
        expected = f"expected at most {EXEC_BYTES} bytes of arguments and environment"
        yield Problem("COMMAND and --env", size, expected, "size")
        return
    if not request.args or not request.args[0]:
        yield Problem("COMMAND", "", "expected the name of a program")
    yield from argument_problems("COMMAND", request.args)
    yield from env_problems(request.env)
    yield from directory_problems("--workdir", request.workdir)
    yield from user_problems(request.user, ())
