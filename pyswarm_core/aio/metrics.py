"""Serves /metrics over HTTP, from threads. SHELL.

On a loopback address plain. On every other address with TLS 1.3, the daemon's own certificate, and
only for callers with the fleet's scrape token.
"""

import hashlib
import hmac
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import TYPE_CHECKING, Protocol

import msgspec
from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder, gzip_accepted

from pyswarm_core.aio.http.server import serving

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment


_OPENMETRICS = "application/openmetrics-text"
_EOF = b"# EOF\n"
_GZIP = 31
"""The window of zlib that writes gzip's header."""


class More(Protocol):
    """Metrics that are no registry's, as text in either format, without its end, in parts."""

    def __call__(self, *, openmetrics: bool) -> list[bytes]: ...


class ScrapeSecurity(msgspec.Struct, frozen=True):
    """What protects the metrics of a daemon. Both functions are called from threads."""

    identity: Callable[[], bytes]
    """Certificate chain and key, PEM; empty while there are none: nobody is served."""
    token_digest: Callable[[], bytes]
    """SHA-256 of the scrape token; empty while it is not known: nobody is served."""


@contextmanager
def serve_metrics(
    address: str,
    registry: CollectorRegistry,
    security: ScrapeSecurity,
    more: "More | None" = None,
    sent: Callable[[], None] = lambda: None,
) -> Iterator[int]:
    """Serve `registry` and `more` at `host:port` while the block runs; yields the port (with port
    0, the chosen one). `sent` is called after each answer.

    An empty address serves nothing. Raises InvalidArgument if the address cannot be used.
    """
    if not address:
        yield 0
        return
    ProcessCollector(registry=registry)
    GCCollector(registry=registry)
    pages = _only_metrics(_page(registry, more, sent))
    if is_loopback(address):
        with serving("--metrics-addr", address, pages) as port:
            yield port
        return
    # Imported here: a daemon without TLS for HTTP does without the memory.
    from pyswarm_core.aio.http.tls import Contexts

    contexts = Contexts(security.identity)
    guarded = _guarded(pages, security.token_digest)
    with serving("--metrics-addr", address, guarded, contexts.current) as port:
        yield port


def is_loopback(address: str) -> bool:
    """Whether only this host reaches `host:port`."""
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def digest_of_token(token: str) -> bytes:
    """What a daemon has to know of a scrape token; empty for none."""
    return hashlib.sha256(token.encode()).digest() if token else b""


def _guarded(pages: "WSGIApplication", digest: Callable[[], bytes]) -> "WSGIApplication":
    def answer(environ: "WSGIEnvironment", start: "StartResponse") -> Iterable[bytes]:
        scheme, _, token = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        # WSGI decodes headers as Latin-1.
        given = hashlib.sha256(token.strip().encode("latin-1")).digest()
        if scheme.lower() == "bearer" and hmac.compare_digest(given, digest()):
            return pages(environ, start)
        start("401 Unauthorized", [("WWW-Authenticate", "Bearer"), ("Content-Length", "0")])
        return []

    return answer


class _Parts(list[bytes]):
    """The parts of an answer, which its server closes once it is sent."""

    def __init__(self, parts: Iterable[bytes], sent: Callable[[], None]) -> None:
        super().__init__(parts)
        self._sent = sent

    def close(self) -> None:
        """See PEP 3333."""
        self.clear()
        self._sent()


def _page(
    registry: CollectorRegistry, more: "More | None", sent: Callable[[], None]
) -> "WSGIApplication":
    """As `make_wsgi_app`, with more; and without a choice of names, which is of no use here."""

    def answer(environ: "WSGIEnvironment", start: "StartResponse") -> Iterable[bytes]:
        encode, content_type = choose_encoder(environ.get("HTTP_ACCEPT", ""))
        openmetrics = content_type.startswith(_OPENMETRICS)
        parts = [encode(registry).removesuffix(_EOF)]
        parts += more(openmetrics=openmetrics) if more else []
        parts += [_EOF] if openmetrics else []
        headers = [("Content-Type", content_type)]
        if gzip_accepted(environ.get("HTTP_ACCEPT_ENCODING", "")):
            # The fastest level takes a tenth of the default's time.
            packing = zlib.compressobj(1, wbits=_GZIP)
            parts = [*map(packing.compress, parts), packing.flush()]
            headers.append(("Content-Encoding", "gzip"))
        start("200 OK", [*headers, ("Content-Length", str(sum(map(len, parts))))])
        return _Parts(parts, sent)

    return answer


def _only_metrics(pages: "WSGIApplication") -> "WSGIApplication":
    def answer(environ: "WSGIEnvironment", start: "StartResponse") -> Iterable[bytes]:
        if environ.get("PATH_INFO") == "/metrics":
            return pages(environ, start)
        text = b"expected /metrics\n"
        start("404 Not Found", [("Content-Type", "text/plain"), ("Content-Length", str(len(text)))])
        return [text]

    return answer
