"""A client takes no agent, which has a server's certificate of the same CA, for a controller."""

from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from controller.identity import ca
from pyswarm_core.aio.credentials import ClientCredentials, channel
from pyswarm_core.aio.system import SystemClock
from pyswarm_core.clock import HOUR
from pyswarm_core.identity.trust import AGENT_NAME, ETCD_NAME, SERVER_NAME


@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        (SERVER_NAME, grpc.StatusCode.UNIMPLEMENTED),
        (AGENT_NAME, grpc.StatusCode.UNAVAILABLE),
        (ETCD_NAME, grpc.StatusCode.UNAVAILABLE),
        ("", grpc.StatusCode.UNAVAILABLE),
    ],
)
def test_only_the_name_of_controllers_is_accepted(name: str, outcome: grpc.StatusCode) -> None:
    now = SystemClock().now()
    authority = ca.new_authority("fleet", now)
    key = ca.new_key()
    subject = ca.Subject(ca.Unit.WORKER, "node", "fleet")
    issued = ca.Issuer(authority).certify(key.public_key(), subject, HOUR, now, serves=name)
    pair = (ca.key_pem(key), issued.pem)
    root = authority.certificate.encode()
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_secure_port(
        "127.0.0.1:0", grpc.ssl_server_credentials([pair], root, require_client_auth=True)
    )
    server.start()
    try:
        credentials = ClientCredentials(root, issued.pem, ca.key_pem(key))
        with channel(f"127.0.0.1:{port}", credentials, aio=False) as dialed:
            call = dialed.unary_unary("/pyswarm.v1.Control/GetInfo", bytes, bytes)
            with pytest.raises(grpc.RpcError) as refused:
                call(b"", timeout=20)
        assert refused.value.code() is outcome
    finally:
        server.stop(None).wait()
