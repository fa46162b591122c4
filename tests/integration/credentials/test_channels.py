"""Channels of the credentials factory against real TLS servers."""

import socket
import ssl
from pathlib import Path

import grpc
import msgspec
import pytest

from pyswarm_core.aio.credentials import ClientCredentials, channel, guest
from pyswarm_core.aio.handshake import fetch_chain
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.identity.trust import SERVER_NAME
from tests.fixtures.identity import Pki, another
from tests.fixtures.servers import Call, as_agent, listener, plain_server, tls_server

METHOD = "/a/b"
TIMEOUT_S = 60.0


def raw(message: bytes) -> bytes:
    """The message as it is on the wire."""
    return message


def call(address: str, credentials: ClientCredentials) -> Call:
    with channel(address, credentials, aio=False) as opened:
        reply = opened.unary_unary(METHOD, raw, raw)(b"", timeout=TIMEOUT_S)
    return msgspec.json.decode(reply, type=Call)


def refusal(address: str, credentials: ClientCredentials) -> str:
    with pytest.raises(grpc.RpcError) as caught:
        call(address, credentials)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    return str(caught.value.details())


@pytest.fixture(scope="module")
def pki() -> Pki:
    return another()


def test_a_client_certificate_names_the_caller(pki: Pki) -> None:
    with tls_server(pki) as address:
        seen = call(address, pki.user("alice"))
    assert seen == Call(f"CN=alice,OU=user,O={pki.cluster.id}", "TLSv1.3", "")


async def test_an_asyncio_channel_does_the_same(pki: Pki) -> None:
    with tls_server(pki) as address:
        credentials = msgspec.structs.replace(pki.node("n1"), token="T")
        async with channel(address, credentials, aio=True) as opened:
            reply = await opened.unary_unary(METHOD, raw, raw)(b"", timeout=TIMEOUT_S)
    assert msgspec.json.decode(reply, type=Call) == Call(
        f"CN=n1,OU=worker,O={pki.cluster.id}", "TLSv1.3", "Bearer T"
    )


def test_the_guests_key_is_accepted_without_its_public_part(pki: Pki) -> None:
    with tls_server(pki) as address:
        trust = fetch_chain(address, pki.digest)
        assert trust.root_pem.strip() == pki.roots.encode().strip()
        seen = call(address, guest(trust, "PYSWU-1-a-b-c"))
    assert seen == Call(f"CN=guest,OU=guest,O={pki.cluster.id}", "TLSv1.3", "Bearer PYSWU-1-a-b-c")


def test_a_certificate_of_another_ca_is_refused(pki: Pki) -> None:
    stranger = msgspec.structs.replace(another().user("alice"), ca_pem=pki.roots.encode())
    with tls_server(pki) as address:
        refusal(address, stranger)


def test_a_controller_of_another_ca_is_refused(pki: Pki) -> None:
    """It would accept the client's certificate; the client does not accept its."""
    with tls_server(pki, identity=another().shown()) as address:
        assert "Tls handshake failed" in refusal(address, pki.user("alice"))


def test_a_certificate_for_another_name_is_not_a_controllers(pki: Pki) -> None:
    with tls_server(pki, identity=as_agent(pki)) as address:
        assert "Hostname Verification Check failed" in refusal(address, pki.user("alice"))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_1_2_is_refused(pki: Pki, tmp_path: Path, version: ssl.TLSVersion) -> None:
    credentials = pki.user("alice")
    pair = tmp_path / "pair.pem"
    pair.write_bytes(credentials.cert_pem + credentials.key_pem)
    context = ssl.create_default_context(cadata=pki.roots)
    context.load_cert_chain(pair)
    context.set_alpn_protocols(["h2"])
    context.maximum_version = version
    with tls_server(pki) as address:
        name, port = address.split(":")
        with socket.create_connection((name, int(port)), TIMEOUT_S) as connection:
            if version is ssl.TLSVersion.TLSv1_2:
                with pytest.raises(ssl.SSLEOFError):
                    context.wrap_socket(connection, server_hostname=SERVER_NAME)
            else:
                with context.wrap_socket(connection, server_hostname=SERVER_NAME) as tls:
                    assert tls.version() == "TLSv1.3"


def test_a_controller_with_tls_1_2_is_refused(pki: Pki, tmp_path: Path) -> None:
    shown = pki.shown()
    pair = tmp_path / "pair.pem"
    pair.write_bytes(shown.chain + shown.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair)
    context.set_alpn_protocols(["h2"])
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    refusals = []

    def accept(connection: socket.socket) -> None:
        try:
            context.wrap_socket(connection, server_side=True).close()
        except ssl.SSLError as error:
            refusals.append(error.reason)

    with listener(accept) as address:
        refusal(address, pki.user("alice"))
    assert refusals == ["NO_SHARED_CIPHER"]


def test_a_channel_over_the_network_needs_credentials() -> None:
    with pytest.raises(InvalidArgument, match=r"no credentials for 192\.0\.2\.1:2377"):
        channel("192.0.2.1:2377", None, aio=False)


def test_no_call_leaves_without_tls(pki: Pki) -> None:
    credentials = msgspec.structs.replace(pki.user("alice"), token="T")
    with plain_server() as address:
        assert "Tls handshake failed" in refusal(address, credentials)


def test_a_unix_socket_needs_no_credentials(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("s") / "api.sock"
    with plain_server(f"unix://{path}") as address, channel(address, None, aio=False) as opened:
        reply = opened.unary_unary(METHOD, raw, raw)(b"", timeout=TIMEOUT_S)
    assert msgspec.json.decode(reply, type=Call) == Call("", "", "")


def test_credentials_do_not_print_their_secrets(pki: Pki) -> None:
    credentials = msgspec.structs.replace(pki.user("alice"), token="SECRET")
    assert "SECRET" not in repr(credentials)
    assert "PRIVATE" not in f"{credentials}"
