"""Validation of the requests that open byte streams. PURE."""

from collections.abc import Iterable

from pyswarm_core.docker.building import recipe
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.streams.limits import BUILD_REQUEST_BYTES, COPY_PATH_BYTES, EXEC_BYTES
from pyswarm_core.streams.requests import (
    BuildImageRequest,
    CopyInRequest,
    CopyOutRequest,
    ExecRequest,
    PortForwardRequest,
    ReadVolumeRequest,
    StreamRequest,
    WriteVolumeRequest,
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
        case CopyOutRequest() | ReadVolumeRequest():
            yield from _path_problems("SRC_PATH", request.path)
        case CopyInRequest() | WriteVolumeRequest():
            yield from _path_problems("DEST_PATH", request.path)
            yield from _path_problems("SRC_PATH", request.name)
        case BuildImageRequest():
            yield from _build_problems(request)
        case _:
            pass


def _path_problems(field: str, path: str) -> Iterable[Problem]:
    size = len(path.encode())
    if size > COPY_PATH_BYTES:
        yield Problem(field, size, f"expected at most {COPY_PATH_BYTES} bytes", "size")


def _build_problems(request: BuildImageRequest) -> Iterable[Problem]:
    texts = (
        *(request.name, request.target, request.platform, request.cache_from, request.cache_to),
        *(*request.tags, *request.build_args, *request.labels, *request.add_hosts),
        *(one.id for one in request.secrets),
        *(text for one in request.logins for text in (one.registry, one.username, one.password)),
    )
    size = len(request.dockerfile) + sum(len(one.data) for one in request.secrets)
    size += sum(len(text.encode()) + 1 for text in texts)
    if size > BUILD_REQUEST_BYTES:
        expected = f"expected at most {BUILD_REQUEST_BYTES} bytes of Dockerfile, secrets, arguments"
        yield Problem("build", size, f"{expected} and logins", "size")
    if not request.dockerfile:
        yield Problem("Dockerfile", "", "expected instructions")
    if any("\0" in text for text in texts):
        yield Problem("build", "", "expected no NUL in an argument")
    if request.network not in recipe.NETWORKS:
        expected = f"expected one of {', '.join(filter(None, recipe.NETWORKS))}"
        yield Problem("--network", request.network, expected)
    for one in request.secrets:
        if not recipe.SECRET_ID.fullmatch(one.id):
            yield Problem("--secret", one.id, "expected an id of letters, digits and _.-", "id")
    for field, texts, parse in (
        ("--platform", (request.platform,), recipe.platform),
        ("--tag", request.tags, recipe.tag),
    ):
        for text in texts:
            try:
                parse(text)
            except InvalidArgument as error:
                yield Problem(field, text, error.reason)


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
