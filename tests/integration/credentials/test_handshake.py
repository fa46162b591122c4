"""What is read of a controller before anything is sent to it."""

import socket
import threading
from datetime import timedelta

import pytest

from pyswarm_core.aio.handshake import fetch_chain, peer_chain
from pyswarm_core.errors import PermissionDenied, Unavailable
from tests.fixtures.fleet_ca import HOUR, FleetCa, listener, plain_server, tls_server

DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def ca() -> FleetCa:
    return FleetCa()


def test_the_chain_is_read_with_units_and_dates(ca: FleetCa) -> None:
    with tls_server(ca) as address:
        leaf, root, guest = peer_chain(address)
    assert [leaf.unit, root.unit, guest.unit] == ["manager", "ca", "guest"]
    assert leaf.issuer == root.subject == root.issuer == guest.issuer
    assert root.not_after == int(ca.root.not_valid_after_utc.timestamp())
    assert root.not_before == int(ca.root.not_valid_before_utc.timestamp())


def test_another_ca_is_refused_by_its_digest(ca: FleetCa) -> None:
    other = FleetCa()
    with tls_server(other) as address, pytest.raises(PermissionDenied) as caught:
        fetch_chain(address, ca.digest)
    assert str(caught.value) == (
        f"the controller at {address} does not have this fleet's CA (expected {ca.digest}, it has"
        f" {other.digest}): the CA was rotated since the token was made, the token is of another"
        " fleet, or somebody answers in its place; nothing was sent"
    )


def test_nothing_is_sent_but_a_clients_hello(ca: FleetCa) -> None:
    """The server reads all that the client sends, and nothing of the fleet is in it."""
    received = bytearray()

    def read(connection: socket.socket) -> None:
        connection.settimeout(10)
        received.extend(connection.recv(65536))

    with listener(read) as address, pytest.raises(Unavailable, match="closed the connection"):
        fetch_chain(address, ca.digest)
    assert received[:2] == b"\x16\x03"
    assert ca.digest.encode() not in received


def test_a_controller_without_tls_is_named_as_such(ca: FleetCa) -> None:
    with plain_server() as address, pytest.raises(Unavailable) as caught:
        fetch_chain(address, ca.digest)
    assert f"pyswarm at {address} does not use TLS" in str(caught.value)


def test_a_server_that_never_answers_times_out(ca: FleetCa) -> None:
    done = threading.Event()
    with listener(lambda _: (done.wait(30), None)[1]) as address:
        with pytest.raises(Unavailable, match=r"no answer from .* within 0\.2 s"):
            fetch_chain(address, ca.digest, timeout_s=0.2)
        done.set()


def test_a_closed_port_is_a_refused_connection(ca: FleetCa) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(
        Unavailable, match=f"cannot connect to 127.0.0.1:{port}: connection refused"
    ):
        fetch_chain(f"127.0.0.1:{port}", ca.digest)


@pytest.mark.parametrize(
    ("starts", "ends", "text"),
    [
        (HOUR, DAY, "is not valid before"),
        (-DAY, -HOUR, "expired at"),
    ],
)
def test_certificates_of_another_time_name_both_clocks(
    ca: FleetCa, starts: timedelta, ends: timedelta, text: str
) -> None:
    identity = ca.server(starts, ends)
    with tls_server(ca, identity=identity) as address, pytest.raises(Unavailable) as caught:
        fetch_chain(address, ca.digest)
    assert text in str(caught.value)
    assert "the clock of this host is at 20" in str(caught.value)
    assert "check both" in str(caught.value)


def test_a_chain_without_a_guest_certificate_is_refused(ca: FleetCa) -> None:
    identity = ca.server(guests=False)
    with (
        tls_server(ca, identity=identity) as address,
        pytest.raises(Unavailable, match="sent no guest certificate"),
    ):
        fetch_chain(address, ca.digest)
