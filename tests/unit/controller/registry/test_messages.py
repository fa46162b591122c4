"""Heads of HTTP messages: what is passed on has one meaning."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.registry.messages import (
    Framing,
    Malformed,
    chunk_size,
    parse_answer,
    parse_request,
    refusal,
    request_head,
)

PUT = b"PUT /v2/a/b HTTP/1.1\r\n"


def test_a_request_is_written_anew_without_what_is_about_its_connection() -> None:
    raw = (
        b"PATCH /v2/docker.io/library/web/blobs/uploads/1?_state=x%3D HTTP/1.1\r\n"
        b"host: 127.0.0.1:1\r\nAuthorization: Basic eA==\r\nTransfer-Encoding: chunked\r\n"
        b"Connection: keep-alive\r\nExpect: 100-continue\r\nX-A:  b \r\n\r\n"
    )
    request = parse_request(raw)
    assert request.body is Framing.CHUNKED
    assert request_head(request) == (
        b"PATCH /v2/docker.io/library/web/blobs/uploads/1?_state=x%3D HTTP/1.1\r\n"
        b"host: 127.0.0.1:1\r\nX-A: b\r\nTransfer-Encoding: chunked\r\n\r\n"
    )


def test_a_write_without_a_body_says_so() -> None:
    request = parse_request(b"POST /v2/a/blobs/uploads/ HTTP/1.1\r\nHost: x\r\n\r\n")
    assert request_head(request).endswith(b"\r\nContent-Length: 0\r\n\r\n")


@pytest.mark.parametrize(
    "raw",
    [
        PUT + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        PUT + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\n",
        PUT + b"Content-Length: 1, 1\r\n\r\n",
        PUT + b"Content-Length: +1\r\n\r\n",
        PUT + b"Content-Length: 0x1\r\n\r\n",
        PUT + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
        PUT + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n",
        PUT + b"Transfer-Encoding : chunked\r\n\r\n",
        PUT + b"A: b\r\n Content-Length: 5\r\n\r\n",
        PUT + b"A: b\nContent-Length: 5\r\n\r\n",
        PUT + b"A: b\rContent-Length: 5\r\n\r\n",
        PUT + b"A: b\x00\r\n\r\n",
        PUT + b"Host: a\r\nHost: b\r\n\r\n",
        b"PUT /v2/a HTTP/1.1 \r\n\r\n",
        b"PUT  /v2/a HTTP/1.1\r\n\r\n",
        b"PUT /v2/\xff HTTP/1.1\r\n\r\n",
        b"PUT http://x/v2/ HTTP/1.1\r\n\r\n",
        b"PUT /v2/a HTTP/2.0\r\n\r\n",
        b"put /v2/a HTTP/1.1\r\n\r\n",
        b"PUT /v2/a\nGET /v2/b HTTP/1.1\r\n\r\n",
        b"\r\n\r\n",
    ],
)
def test_a_request_that_two_programs_may_read_differently_is_refused(raw: bytes) -> None:
    with pytest.raises(Malformed):
        parse_request(raw)


def test_a_head_full_of_blanks_is_refused_and_holds_nobody_up() -> None:
    """It took cubic time: 4,000 blanks minutes, and the controller serves nobody meanwhile."""
    with pytest.raises(Malformed, match="a header is malformed"):
        parse_request(PUT + b"A:" + b" \t" * 30_000 + b"\x01\r\n\r\n")


@given(st.binary(max_size=200))
def test_any_head_is_read_or_refused(head: bytes) -> None:
    raw = PUT + head.replace(b"\r\n\r\n", b"") + b"\r\n\r\n"
    try:
        request = parse_request(raw)
    except Malformed:
        return
    again = parse_request(request_head(request))
    assert (again.method, again.target, again.body) == ("PUT", "/v2/a/b", request.body)
    assert request_head(again) == request_head(request)
    assert request_head(request).count(b"\r\n\r\n") == 1


@pytest.mark.parametrize(
    ("raw", "method", "body", "closes"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "GET", 5, False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "HEAD", 0, False),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "DELETE", 0, False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "GET", Framing.CHUNKED, False),
        (b"HTTP/1.1 200 OK\r\n\r\n", "GET", Framing.UNTIL_CLOSE, True),
        (b"HTTP/1.1 400 Bad\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", "GET", 0, True),
    ],
)
def test_the_body_of_a_response(raw: bytes, method: str, body: object, closes: bool) -> None:
    answer = parse_answer(raw, method)
    assert (answer.body, answer.closes) == (body, closes)


@pytest.mark.parametrize(
    "line", [b"g\r\n", b"\r\n", b"-1\r\n", b"1", b"0x1\r\n", b"1" * 16 + b"\r\n"]
)
def test_a_chunk_has_a_size(line: bytes) -> None:
    with pytest.raises(Malformed):
        chunk_size(line)


def test_sizes_of_chunks_are_hexadecimal() -> None:
    assert [chunk_size(line) for line in (b"0\r\n", b"fF\r\n", b"10;a=b\r\n")] == [0, 255, 16]


def test_a_refusal_is_a_whole_response_in_the_registrys_format() -> None:
    found = refusal(403, "Forbidden", "DENIED", 'user "ci" may not push')
    assert found.startswith(b"HTTP/1.1 403 Forbidden\r\n")
    assert found.endswith(
        b'{"errors":[{"code":"DENIED","message":"user \\"ci\\" may not push","detail":null}]}'
    )
    assert b"\r\nConnection: close\r\n" in found
