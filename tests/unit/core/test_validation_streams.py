"""Requests that open byte streams."""

import pytest

from pyswarm_core.streams.requests import (
    AttachRequest,
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
    ],
)
def test_what_is_not(request_: StreamRequest, said: str) -> None:
    (problem,) = stream_problems(request_)
    assert problem.field == said
