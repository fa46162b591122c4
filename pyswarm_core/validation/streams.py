"""Validation of the requests that open byte streams. PURE."""

from collections.abc import Iterable

from pyswarm_core.streams.requests import ExecRequest, PortForwardRequest, StreamRequest
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
        case _:
            pass


def _exec_problems(request: ExecRequest) -> Iterable[Problem]:
    if not request.args or not request.args[0]:
        yield Problem("COMMAND", "", "expected the name of a program")
    yield from argument_problems("COMMAND", request.args)
    yield from env_problems(request.env)
    yield from directory_problems("--workdir", request.workdir)
    yield from user_problems(request.user, ())
