"""Heads of HTTP/1.1 messages: parsed strictly, and written anew. PURE.

What is passed on is written from what was understood, so that the registry finds the same requests
in the bytes as the controller did: a caller cannot hide one in the body of another.
"""

import re
from collections.abc import Iterable
from enum import Enum

import msgspec

from pyswarm_core.errors import PyswarmError

HEAD_BYTES_MAX = 64 * 1024
"""A head has about 500 bytes."""
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([^\x00-\x08\x0a-\x1f\x7f]*)")
"""Blanks around the value are its own here: two parts that both match them take cubic time."""
_REQUEST = re.compile(r"([A-Z]{1,16}) (/[!-~]{0,8191}) HTTP/1\.[01]")
_STATUS = re.compile(r"HTTP/1\.1 ([1-5][0-9]{2})(?: [^\x00-\x08\x0a-\x1f\x7f]*)?")
_LENGTH = re.compile(r"[0-9]{1,18}")
_OF_CONNECTION = frozenset(
    "authorization connection content-length expect keep-alive proxy-authenticate"
    " proxy-authorization proxy-connection te trailer transfer-encoding upgrade".split()
)
"""Headers that are about one connection, or for the controller: they are not passed on."""


class Malformed(PyswarmError):
    """A message that is no HTTP/1.1, or of a form that nobody needs."""


class Framing(Enum):
    """How the end of a body is found, where it is no length."""

    CHUNKED = "chunked"
    UNTIL_CLOSE = "until close"


Body = int | Framing
"""The length of a body, or its framing."""


class Request(msgspec.Struct, frozen=True):
    """The head of a request."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: Body

    def header(self, name: str) -> str:
        """The value of a header; empty if there is none."""
        return next((value for key, value in self.headers if key.lower() == name), "")


class Answer(msgspec.Struct, frozen=True):
    """The head of a response."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: Body
    closes: bool
    """The connection ends with it."""


def parse_request(raw: bytes) -> Request:
    """The head of a request, with the empty line that ends it. Raises Malformed."""
    first, headers = _lines(raw)
    found = _REQUEST.fullmatch(first)
    if found is None:
        raise Malformed("this is no request of HTTP/1.1")
    hosts = [value for name, value in headers if name.lower() == "host"]
    if len(hosts) > 1:
        raise Malformed("the request has several Host headers")
    body = _body(headers)
    return Request(found[1], found[2], headers, 0 if body is None else body)


def parse_answer(raw: bytes, method: str) -> Answer:
    """The head of the response to a request with that method. Raises Malformed."""
    first, headers = _lines(raw)
    found = _STATUS.fullmatch(first)
    if found is None:
        raise Malformed("the registry sent no response of HTTP/1.1")
    status = int(found[1])
    body: Body | None = _body(headers)
    if method == "HEAD" or status < 200 or status in (204, 304):
        body = 0
    elif body is None:
        body = Framing.UNTIL_CLOSE
    closes = (
        body is Framing.UNTIL_CLOSE
        or status < 200
        or any(name.lower() == "connection" and value.lower() == "close" for name, value in headers)
    )
    return Answer(status, headers, body, closes)


def request_head(request: Request) -> bytes:
    """The head of the request as it is passed on."""
    kept = [one for one in request.headers if one[0].lower() not in _OF_CONNECTION]
    if request.body is Framing.CHUNKED:
        kept.append(("Transfer-Encoding", "chunked"))
    elif request.body or request.method in ("POST", "PUT", "PATCH"):
        kept.append(("Content-Length", str(request.body)))
    return _head(f"{request.method} {request.target} HTTP/1.1", kept)


def refusal(status: int, reason: str, code: str, message: str, challenge: str = "") -> bytes:
    """A whole response in the registry's format, after which the connection ends."""
    errors = {"errors": [{"code": code, "message": message, "detail": None}]}
    content = msgspec.json.encode(errors)
    headers = [
        ("Content-Type", "application/json; charset=utf-8"),
        ("Docker-Distribution-Api-Version", "registry/2.0"),
        ("Content-Length", str(len(content))),
        ("Connection", "close"),
    ]
    headers += [("WWW-Authenticate", challenge)] if challenge else []
    return _head(f"HTTP/1.1 {status} {reason}", headers) + content


def chunk_size(line: bytes) -> int:
    """The size of a chunk by its first line. Raises Malformed."""
    digits = line.removesuffix(b"\r\n").partition(b";")[0].strip()
    if not line.endswith(b"\r\n") or not re.fullmatch(rb"[0-9a-fA-F]{1,15}", digits):
        raise Malformed("the size of a chunk is no number")
    return int(digits, 16)


def _head(first: str, headers: Iterable[tuple[str, str]]) -> bytes:
    lines = (first, *(f"{name}: {value}" for name, value in headers), "", "")
    return "\r\n".join(lines).encode("latin-1")


def _lines(raw: bytes) -> tuple[str, tuple[tuple[str, str], ...]]:
    """The first line and the headers."""
    first, *lines = raw.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    headers = []
    for line in lines:
        found = _HEADER.fullmatch(line)
        if found is None:
            raise Malformed("a header is malformed")
        headers.append((found[1], found[2].strip(" \t")))
    return first, tuple(headers)


def _body(headers: Iterable[tuple[str, str]]) -> Body | None:
    """The body that the headers announce; None: they say nothing."""
    lengths = [value for name, value in headers if name.lower() == "content-length"]
    codings = [value for name, value in headers if name.lower() == "transfer-encoding"]
    if codings:
        if lengths or len(codings) > 1 or codings[0].lower() != "chunked":
            raise Malformed("the length of the body is not clear")
        return Framing.CHUNKED
    if not lengths:
        return None
    if len(lengths) > 1 or not _LENGTH.fullmatch(lengths[0]):
        raise Malformed("the length of the body is not clear")
    return int(lengths[0])
