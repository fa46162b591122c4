"""Requests that open byte streams."""

import pytest

from pyswarm_core.streams.limits import BUILD_REQUEST_BYTES, COPY_PATH_BYTES, EXEC_BYTES
from pyswarm_core.streams.requests import (
    AttachRequest,
    BuildImageRequest,
    BuildSecret,
    CopyInRequest,
    CopyOutRequest,
    ExecRequest,
    PortForwardRequest,
    StreamRequest,
)
from pyswarm_core.validation.streams import stream_problems


@pytest.mark.parametrize(
    "request_",
    [
        ExecRequest(
            ref="web", args=("sh", "-c", "a\nb"), env=("A=", "B=c"), user="1:2", workdir="/"
        ),
        AttachRequest(ref="web"),
        PortForwardRequest(ref="web", port=65_535),
        BuildImageRequest(
            ref="n1",
            dockerfile=b"FROM a",
            tags=("web:1", "r:5000/web"),
            platform="linux/arm64",
            network="none",
            secrets=(BuildSecret(id="a.b-c_1", data=b"\0"),),
        ),
    ],
)
def test_what_is_valid(request_: StreamRequest) -> None:
    assert list(stream_problems(request_)) == []


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (ExecRequest(ref="web"), "COMMAND"),
        (ExecRequest(ref="web", args=("",)), "COMMAND"),
        (ExecRequest(ref="web", args=("a\0b",)), "COMMAND"),
        (ExecRequest(ref="web", args=("a",), env=("A",)), "--env"),
        (ExecRequest(ref="web", args=("a",), env=("=b",)), "--env"),
        (ExecRequest(ref="web", args=("a",), user="a b"), "--user"),
        (ExecRequest(ref="web", args=("a",), workdir="srv"), "--workdir"),
        (PortForwardRequest(ref="web", port=0), "PORT"),
        (PortForwardRequest(ref="web", port=65_536), "PORT"),
        (BuildImageRequest(ref="n1", dockerfile=b""), "Dockerfile"),
        (BuildImageRequest(ref="n1", dockerfile=b"x", network="container:x"), "--network"),
        (BuildImageRequest(ref="n1", dockerfile=b"x", labels=("a=\0",)), "build"),
        (BuildImageRequest(ref="n1", dockerfile=b"x", tags=("A",)), "--tag"),
        (BuildImageRequest(ref="n1", dockerfile=b"x", platform="windows"), "--platform"),
        (
            BuildImageRequest(
                ref="n1", dockerfile=b"x", secrets=(BuildSecret(id="a,src=/b", data=b""),)
            ),
            "--secret",
        ),
    ],
)
def test_what_is_not(request_: StreamRequest, said: str) -> None:
    (problem,) = stream_problems(request_)
    assert problem.field == said


def test_a_command_is_bounded() -> None:
    env = ("A=" + "é" * 1000,)
    most = EXEC_BYTES - len(env[0].encode()) - 2  # each ends with a NUL
    assert list(stream_problems(ExecRequest(ref="web", args=("x" * most,), env=env))) == []
    too_long = ExecRequest(ref="web", args=("x" * (most + 1),), env=env)
    too_many = ExecRequest(ref="web", args=("sh", *[""] * EXEC_BYTES))
    for request in (too_long, too_many):
        (problem,) = stream_problems(request)
        assert problem.field == "COMMAND and --env"
        assert f"expected at most {EXEC_BYTES} bytes" in str(problem)


def test_the_paths_of_a_copy_are_bounded() -> None:
    most = "é" * (COPY_PATH_BYTES // 2)
    assert list(stream_problems(CopyOutRequest(ref="web", path=most))) == []
    assert list(stream_problems(CopyInRequest(ref="web", path=most, name=most))) == []
    for field, request in (
        ("SRC_PATH", CopyOutRequest(ref="web", path=most + "x")),
        ("DEST_PATH", CopyInRequest(ref="web", path=most + "x")),
        ("SRC_PATH", CopyInRequest(ref="web", path="/", name=most + "x")),
    ):
        (problem,) = stream_problems(request)
        assert problem.field == field
        assert str(problem).endswith(f"expected at most {COPY_PATH_BYTES} bytes")


def test_a_build_is_bounded() -> None:
    secret = BuildSecret(id="a", data=b"x" * 1000)
    texts = len("Dockerfile") + 6 + len("a") + 1  # each text ends with a NUL
    most = BUILD_REQUEST_BYTES - 1000 - texts + 1
    fits = BuildImageRequest(ref="n1", dockerfile=b"x" * most, secrets=(secret,))
    assert list(stream_problems(fits)) == []
    (problem,) = stream_problems(
        BuildImageRequest(ref="n1", dockerfile=b"x" * (most + 1), secrets=(secret,))
    )
    assert problem.field == "build"
    assert "expected at most 393216 bytes of Dockerfile, secrets, arguments" in str(problem)
