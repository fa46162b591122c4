"""What is read of a controller before anything is sent to it."""

import socket
import threading

import pytest
from cryptography import x509
from msgspec.structs import replace

from pyswarm_core.aio.handshake import fetch_chain, peer_chain
from pyswarm_core.clock import HOUR, Instant
from pyswarm_core.errors import PermissionDenied, Unavailable
from tests.fixtures.identity import LIFETIME, Pki, another, present
from tests.fixtures.servers import listener, plain_server, tls_server

END = b"-----END CERTIFICATE-----\n"


@pytest.fixture(scope="module")
def pki() -> Pki:
    return another()


def test_the_chain_is_read_with_units_and_dates(pki: Pki) -> None:
    with tls_server(pki) as address:
        leaf, root, guest = peer_chain(address)
    assert [leaf.unit, root.unit, guest.unit] == ["manager", "root", "guest"]
    assert leaf.issuer == root.subject == root.issuer == guest.issuer
    own = x509.load_pem_x509_certificate(pki.roots.encode())
    assert root.not_after == int(own.not_valid_after_utc.timestamp())
    assert root.not_before == int(own.not_valid_before_utc.timestamp())


def test_another_ca_is_refused_by_its_digest(pki: Pki) -> None:
    other = another()
    with tls_server(other) as address, pytest.raises(PermissionDenied) as caught:
        fetch_chain(address, pki.digest)
    assert str(caught.value) == (
        f"the controller at {address} does not have this fleet's CA (expected {pki.digest}, it has"
        f" {other.digest}): the CA was rotated since the token was made, the token is of another"
        " fleet, or somebody answers in its place; nothing was sent"
    )


def test_nothing_is_sent_but_a_clients_hello(pki: Pki) -> None:
    """The server reads all that the client sends, and nothing of the fleet is in it."""
    received = bytearray()

    def read(connection: socket.socket) -> None:
        connection.settimeout(10)
        received.extend(connection.recv(65536))

    with listener(read) as address, pytest.raises(Unavailable, match="closed the connection"):
        fetch_chain(address, pki.digest)
    assert received[:2] == b"\x16\x03"
    assert pki.digest.encode() not in received


def test_a_controller_without_tls_is_named_as_such(pki: Pki) -> None:
    with plain_server() as address, pytest.raises(Unavailable) as caught:
        fetch_chain(address, pki.digest)
    assert f"pyswarm at {address} does not use TLS" in str(caught.value)


def test_a_server_that_never_answers_times_out(pki: Pki) -> None:
    done = threading.Event()
    with listener(lambda _: (done.wait(30), None)[1]) as address:
        with pytest.raises(Unavailable, match=r"no answer from .* within 0\.2 s"):
            fetch_chain(address, pki.digest, timeout_s=0.2)
        done.set()


def test_a_closed_port_is_a_refused_connection(pki: Pki) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(
        Unavailable, match=f"cannot connect to 127.0.0.1:{port}: connection refused"
    ):
        fetch_chain(f"127.0.0.1:{port}", pki.digest)


@pytest.mark.parametrize(
    ("issued", "text"),
    [
        (2 * HOUR, "is not valid before"),
        (-LIFETIME - HOUR, "expired at"),
    ],
)
def test_certificates_of_another_time_name_both_clocks(pki: Pki, issued: int, text: str) -> None:
    identity = pki.shown(Instant(present() + issued))
    with tls_server(pki, identity=identity) as address, pytest.raises(Unavailable) as caught:
        fetch_chain(address, pki.digest)
    assert text in str(caught.value)
    assert "the clock of this host is at 20" in str(caught.value)
    assert "check both" in str(caught.value)


def test_a_chain_without_a_guest_certificate_is_refused(pki: Pki) -> None:
    shown = pki.shown()
    own, root, _ = shown.chain.split(END)[:-1]
    identity = replace(shown, chain=own + END + root + END)
    with (
        tls_server(pki, identity=identity) as address,
        pytest.raises(Unavailable, match="sent no guest certificate"),
    ):
        fetch_chain(address, pki.digest)
