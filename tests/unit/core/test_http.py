"""The servers of metrics and health: what they answer, to whom, and what bounds them."""

import asyncio
import gzip
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from prometheus_client import CollectorRegistry, Counter, Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_families
from prometheus_client.parser import text_string_to_metric_families as plain_families

from controller.identity import ca
from pyswarm_core.aio.http import server as http_server
from pyswarm_core.aio.http.health import serve_health
from pyswarm_core.aio.http.server import serving
from pyswarm_core.aio.metrics import ScrapeSecurity, digest_of_token, is_loopback, serve_metrics
from pyswarm_core.aio.system import SystemClock
from pyswarm_core.clock import HOUR
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.identity.certificates import CertificateAuthority
from pyswarm_core.identity.trust import AGENT_NAME
from pyswarm_core.limits import HTTP_CONNECTIONS, HTTP_REQUEST_BYTES, HTTP_TIMEOUT

TOKEN = "PYSWS-1-secret"
NOBODY = ScrapeSecurity(bytes, bytes)
ANYWHERE = "0.0.0.0:0"
CLOSED = (ConnectionError, ssl.SSLError, http.client.HTTPException)


def registry() -> CollectorRegistry:
    found = CollectorRegistry()
    Counter("things", "Things.", registry=found).inc(3)
    return found


def new_authority() -> CertificateAuthority:
    return ca.new_authority("cluster", SystemClock().now())


def identity(authority: CertificateAuthority) -> bytes:
    """An agent's certificate and key."""
    key = ca.new_key()
    subject = ca.Subject(ca.Unit.WORKER, "node", "cluster")
    now = SystemClock().now()
    issued = ca.Issuer(authority).certify(key.public_key(), subject, HOUR, now, serves=AGENT_NAME)
    return issued.pem + ca.key_pem(key)


def client(authority: CertificateAuthority) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=authority.certificate)


class Tls(http.client.HTTPConnection):
    """HTTPS to an address that is not the server's name."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        super().__init__("127.0.0.1", port, timeout=20)
        self._context = context

    def connect(self) -> None:
        super().connect()
        self.sock = self._context.wrap_socket(self.sock, server_hostname=AGENT_NAME)


def get(
    connection: http.client.HTTPConnection, path: str, token: str = "", scheme: str = "Bearer"
) -> tuple[int, str]:
    headers = {"Authorization": f"{scheme} {token}"} if token else {}
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def plain(port: int) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", port, timeout=20)


def more(*, openmetrics: bool) -> list[bytes]:
    described = "more" if openmetrics else "more_total"
    return [
        f"# HELP {described} More.\n".encode(),
        f"# TYPE {described} counter\nmore_total 5\n".encode(),
    ]


@pytest.mark.parametrize(
    ("accept", "parse"),
    [("text/plain", plain_families), ("application/openmetrics-text", open_families)],
)
@pytest.mark.parametrize("encoding", ["", "gzip"])
def test_metrics_of_no_registry_are_served_in_both_formats(
    accept: str, parse: Callable[[str], Iterator[Metric]], encoding: str
) -> None:
    with serve_metrics("127.0.0.1:0", registry(), NOBODY, more) as port:
        connection = plain(port)
        headers = {"Accept": accept, "Accept-Encoding": encoding}
        connection.request("GET", "/metrics", headers=headers)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
    assert answer.headers["Content-Type"].startswith(accept)
    assert answer.headers.get("Content-Encoding", "") == encoding
    text = (gzip.decompress(body) if encoding else body).decode()
    samples = [one for family in parse(text) for one in family.samples]
    found = {one.name: one.value for one in samples if one.name.endswith("s_total")}
    assert found["things_total"] == 3
    assert [one.value for one in samples if one.name == "more_total"] == [5]


def test_what_follows_an_answer_is_called_once_it_is_sent() -> None:
    sent = threading.Event()
    with serve_metrics("127.0.0.1:0", registry(), NOBODY, more, sent.set) as port:
        assert not sent.is_set()
        assert get(plain(port), "/metrics")[0] == 200
        assert sent.wait(60)


def test_metrics_on_loopback_are_plain() -> None:
    with serve_metrics("127.0.0.1:0", registry(), NOBODY) as port:
        status, text = get(plain(port), "/metrics")
        assert status == 200
        assert "things_total 3.0" in text
        assert get(plain(port), "/")[0] == 404


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:9323", True),
        ("127.3.2.1:9323", True),
        ("localhost:9323", True),
        ("[::1]:9323", True),
        ("0.0.0.0:9323", False),
        ("[::]:9323", False),
        (":9323", False),
        ("192.0.2.1:9323", False),
        ("host1:9323", False),
    ],
)
def test_only_loopback_addresses_are_plain(address: str, expected: bool) -> None:
    assert is_loopback(address) is expected


def test_metrics_elsewhere_need_the_token() -> None:
    authority = new_authority()
    own = identity(authority)
    security = ScrapeSecurity(lambda: own, lambda: digest_of_token(TOKEN))
    with serve_metrics(ANYWHERE, registry(), security) as port:
        status, text = get(Tls(port, client(authority)), "/metrics", TOKEN)
        assert status == 200
        assert "things_total 3.0" in text
        assert get(Tls(port, client(authority)), "/metrics", TOKEN, "bearer")[0] == 200
        assert get(Tls(port, client(authority)), "/metrics") == (401, "")
        assert get(Tls(port, client(authority)), "/metrics", f"{TOKEN}x") == (401, "")
        assert get(Tls(port, client(authority)), "/metrics", TOKEN, "Basic") == (401, "")
        assert get(Tls(port, client(authority)), "/other", "x") == (401, "")
        assert get(Tls(port, client(authority)), "/other", TOKEN)[0] == 404


def test_nobody_is_served_while_the_token_is_not_known() -> None:
    authority = new_authority()
    own = identity(authority)
    with serve_metrics(ANYWHERE, registry(), ScrapeSecurity(lambda: own, bytes)) as port:
        assert get(Tls(port, client(authority)), "/metrics", TOKEN) == (401, "")
        assert get(Tls(port, client(authority)), "/metrics") == (401, "")
    assert digest_of_token("") == b""


def test_a_connection_ends_while_there_is_no_certificate() -> None:
    authority = new_authority()
    with serve_metrics(ANYWHERE, registry(), NOBODY) as port, pytest.raises(CLOSED):
        get(Tls(port, client(authority)), "/metrics", TOKEN)


def test_plain_http_is_not_answered_elsewhere() -> None:
    own = identity(new_authority())
    security = ScrapeSecurity(lambda: own, lambda: digest_of_token(TOKEN))
    with serve_metrics(ANYWHERE, registry(), security) as port, pytest.raises(CLOSED):
        get(plain(port), "/metrics", TOKEN)


def test_tls_12_is_refused() -> None:
    authority = new_authority()
    own = identity(authority)
    context = client(authority)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    security = ScrapeSecurity(lambda: own, lambda: digest_of_token(TOKEN))
    with serve_metrics(ANYWHERE, registry(), security) as port, pytest.raises(ssl.SSLError):
        get(Tls(port, context), "/metrics", TOKEN)


def test_a_renewed_certificate_and_a_rotated_token_are_used_at_once() -> None:
    first, second = new_authority(), new_authority()
    own, token = identity(first), TOKEN
    security = ScrapeSecurity(lambda: own, lambda: digest_of_token(token))
    with serve_metrics(ANYWHERE, registry(), security) as port:
        assert get(Tls(port, client(first)), "/metrics", TOKEN)[0] == 200
        own, token = identity(second), "PYSWS-1-other"
        assert get(Tls(port, client(second)), "/metrics", "PYSWS-1-other")[0] == 200
        assert get(Tls(port, client(second)), "/metrics", TOKEN) == (401, "")
        with pytest.raises(ssl.SSLCertVerificationError):
            get(Tls(port, client(first)), "/metrics", "PYSWS-1-other")


def test_an_unusable_certificate_ends_connections_until_another_one_comes() -> None:
    authority = new_authority()
    own = b"nonsense"
    security = ScrapeSecurity(lambda: own, lambda: digest_of_token(TOKEN))
    with serve_metrics(ANYWHERE, registry(), security) as port:
        with pytest.raises(CLOSED):
            get(Tls(port, client(authority)), "/metrics", TOKEN)
        own = identity(authority)
        assert get(Tls(port, client(authority)), "/metrics", TOKEN)[0] == 200


def test_an_address_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(InvalidArgument, match="--metrics-addr"):
            serve_metrics(address, registry(), NOBODY).__enter__()


@contextmanager
def answering(timeout_s: float, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A server with another time limit, which answers `ok`."""
    monkeypatch.setattr(http_server, "TIMEOUT_S", timeout_s)

    def ok(_: object, start: Callable[[str, list[tuple[str, str]]], object]) -> list[bytes]:
        start("200 OK", [("Content-Length", "2")])
        return [b"ok"]

    with serving("--x", "127.0.0.1:0", ok) as port:
        yield port


def ended(connection: socket.socket) -> bool:
    """Whether the server closes it; waits at most 20 s."""
    connection.settimeout(20)
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def test_a_request_that_trickles_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        answering(1.0, monkeypatch) as port,
        socket.create_connection(("127.0.0.1", port)) as slow,
    ):
        slow.settimeout(0.05)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                slow.sendall(b"G")
                if slow.recv(1) == b"":
                    break
            except TimeoutError:
                continue  # each byte comes in time, the request never
            except OSError:
                break
        else:
            pytest.fail("the connection goes on")


def test_a_handshake_that_is_not_made_is_cut(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_server, "TIMEOUT_S", 1.0)
    own = identity(new_authority())
    security = ScrapeSecurity(lambda: own, lambda: digest_of_token(TOKEN))
    with (
        serve_metrics(ANYWHERE, registry(), security) as port,
        socket.create_connection(("127.0.0.1", port)) as half_open,
    ):
        assert ended(half_open)


def test_further_connections_end_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(600.0, monkeypatch) as port:
        idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(HTTP_CONNECTIONS + 1)]
        try:
            assert ended(idle[0])
            assert get(plain(port), "/") == (200, "ok")
            idle[-1].sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert idle[-1].recv(12) == b"HTTP/1.0 200"
        finally:
            for one in idle:
                one.close()


@pytest.mark.parametrize("head", [b"GET /", b"GET / HTTP/1.0\r\nX: "])
def test_a_large_request_is_not_read_to_its_end(
    head: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        answering(600.0, monkeypatch) as port,
        socket.create_connection(("127.0.0.1", port)) as greedy,
    ):
        greedy.settimeout(20)
        try:
            for _ in range(10_000):
                greedy.sendall(head + b"x" * HTTP_REQUEST_BYTES)
        except OSError:
            return
        pytest.fail("160 MB were read")


def test_the_limits_are_these() -> None:
    assert (HTTP_CONNECTIONS, HTTP_REQUEST_BYTES) == (16, 16 * 1024)
    assert HTTP_TIMEOUT == 10_000_000_000


async def fetched(port: int, path: str) -> tuple[int, str]:
    return await asyncio.to_thread(get, plain(port), path)


async def test_health_is_answered_and_nothing_else() -> None:
    ready = False
    with serve_health("127.0.0.1:0", lambda: ready) as port:
        assert await fetched(port, "/healthz") == (200, "ok\n")
        assert (await fetched(port, "/readyz"))[0] == 503
        ready = True
        assert await fetched(port, "/readyz") == (200, "ok\n")
        for path in ("/", "/metrics", "/healthz/x", "/pyswarm.v1.Control/GetInfo"):
            assert (await fetched(port, path))[0] == 404


async def test_a_process_whose_event_loop_hangs_is_not_healthy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pyswarm_core.aio.http.health.PASS_TIMEOUT_S", 0.2)
    with serve_health("127.0.0.1:0", lambda: True) as port:
        assert get(plain(port), "/healthz")[0] == 503  # this call keeps the loop from running
        assert (await fetched(port, "/healthz"))[0] == 200


async def test_without_an_address_no_health_is_served() -> None:
    with serve_health("", lambda: True) as port:
        assert port == 0
