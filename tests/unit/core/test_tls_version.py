"""No program uses TLS 1.2, for which gRPC has to be configured before it is imported."""

import subprocess
import sys

import pytest

from tests.fixtures.source import ROOT

CONNECT = """
import importlib, sys
importlib.import_module(sys.argv[1])
import ssl, socket, threading, grpc
from controller.identity import ca
from pyswarm_core.aio.credentials import ClientCredentials, channel
from pyswarm_core.aio.system import SystemClock
from pyswarm_core.identity.trust import SERVER_NAME

now = SystemClock().now()
authority = ca.new_authority("c", now)
key = ca.new_key()
subject = ca.Subject(ca.Unit.MANAGER, "m", "c")
issued = ca.Issuer(authority).certify(key.public_key(), subject, 10**12, now, serves=SERVER_NAME)
with open(sys.argv[2], "wb") as file:
    file.write(ca.key_pem(key) + issued.pem)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.maximum_version = getattr(ssl.TLSVersion, sys.argv[3])
context.load_cert_chain(sys.argv[2])
context.set_alpn_protocols(["h2"])
listener = socket.create_server(("127.0.0.1", 0))
root = authority.certificate.encode()
dialed = channel(
    f"127.0.0.1:{listener.getsockname()[1]}",
    ClientCredentials(root, issued.pem, ca.key_pem(key)),
    aio=False,
)
ready = grpc.channel_ready_future(dialed)
try:
    print(context.wrap_socket(listener.accept()[0], server_side=True).version())
except ssl.SSLError as error:
    print(error.reason)
"""


@pytest.mark.parametrize("module", ["agent.app", "cli.client", "controller.app"])
@pytest.mark.parametrize(
    ("newest", "outcome"), [("TLSv1_2", "NO_SHARED_CIPHER"), ("TLSv1_3", "TLSv1.3")]
)
def test_a_server_of_tls_12_is_not_connected_to(
    module: str, newest: str, outcome: str, tmp_path: object
) -> None:
    words = [sys.executable, "-c", CONNECT, module, f"{tmp_path}/server.pem", newest]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == outcome, done.stderr
