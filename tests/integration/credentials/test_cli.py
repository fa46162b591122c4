"""The command line against a TLS server: what is shown to it, and what an error explains."""

import socket
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import grpc
import pytest
from msgspec.structs import replace

from cli.context import store
from cli.context.material import half_life
from cli.context.model import Context, Material
from cli.main import run
from controller.identity.cluster import ServerIdentity
from pyswarm_core.aio.credentials import ClientCredentials
from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.clock import HOUR, Instant
from pyswarm_core.identity.tokens import UserToken, secret_of
from tests.fixtures.identity import LIFETIME, Pki, another, present
from tests.fixtures.servers import as_agent, plain_server, tls_server
from tests.fixtures.source import ROOT
from tests.unit.cli.conftest import Pyswarm, Ran
from tests.unit.cli.objects import service, services_reply
from tests.unit.cli.scripted import Script, add_script, serve


@pytest.fixture(scope="module")
def pki() -> Pki:
    return another()


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOST", "CONTEXT", "TOKEN", "CA"):
        monkeypatch.delenv(f"PYSWARM_{name}", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


class Seen(grpc.ServerInterceptor):  # type: ignore[type-arg]
    """Notes the authorization of each call."""

    def __init__(self) -> None:
        self.authorizations: list[str] = []

    def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """Note it, and let the call pass."""
        headers = dict(handler_call_details.invocation_metadata)
        self.authorizations.append(headers.get("authorization", ""))
        return continuation(handler_call_details)


def controller(
    pki: Pki, identity: ServerIdentity | None = None, seen: Seen | None = None
) -> AbstractContextManager[str]:
    """A server of the fleet that lists one service."""
    script = Script().on("ListServices", services_reply(service("web")))
    seen = seen or Seen()
    return tls_server(pki, lambda server: add_script(script, server), identity, (seen,))


def save(address: str, credentials: ClientCredentials) -> None:
    """Store the credentials as the current context."""
    material = Material(
        credentials.ca_pem.decode(), credentials.cert_pem.decode(), credentials.key_pem.decode()
    )
    context = Context(name="prod", host=address, material=material)
    store.activate(replace(context, renews_at=half_life(material.cert)))


def token_of(pki: Pki) -> str:
    """A user token of the fleet."""
    return str(UserToken(pki.digest, "0" * 25, secret_of(5)))


@pytest.fixture
def pyswarm(capsys: pytest.CaptureFixture[str]) -> Pyswarm:
    """Run `pyswarm ARGUMENTS` in this process."""

    def ran(*arguments: str) -> Ran:
        code = run(arguments)
        shown = capsys.readouterr()
        return Ran(code, shown.out, shown.err)

    return ran


def error(ran: Ran) -> str:
    """The one line of a command that failed."""
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("Error: ")
    assert len(ran.err.splitlines()) == 1
    return ran.err.removeprefix("Error: ").strip()


# ---- what works ----------------------------------------------------------------------------------


def test_a_client_certificate_is_shown(pki: Pki, pyswarm: Pyswarm) -> None:
    seen = Seen()
    with controller(pki, seen=seen) as address:
        save(address, pki.user("alice"))
        assert pyswarm("service", "ls", "--format", "{{.Name}}") == Ran(0, "web\n", "")
    assert seen.authorizations == [""]


def test_a_token_is_shown_with_the_guest_certificate(
    pki: Pki, pyswarm: Pyswarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Seen()
    with controller(pki, seen=seen) as address:
        pyswarm("context", "create", "ci", "--pyswarm", f"host={address},token={token_of(pki)}")
        assert pyswarm("-c", "ci", "service", "ls", "-q").code == 0
        monkeypatch.setenv("PYSWARM_HOST", address)
        monkeypatch.setenv("PYSWARM_TOKEN", token_of(pki))
        assert pyswarm("service", "ls", "-q").code == 0
    assert seen.authorizations == [f"Bearer {token_of(pki)}"] * 2


def test_an_admin_makes_a_context_for_a_user(pki: Pki, pyswarm: Pyswarm, tmp_path: Path) -> None:
    def issued(request: pb.IssueUserCertificateRequest) -> pb.IssueUserCertificateReply:
        chain = pki.of_request(request.csr, request.ref)
        return pb.IssueUserCertificateReply(chain=chain, user_id="u")

    socket = f"unix://{tmp_path}/api.sock"
    archive = str(tmp_path / "ann.tar")
    with controller(pki) as address:
        script = Script().on("IssueUserCertificate", issued)
        script.on("GetCa", pb.CaReply(certificate=pki.roots))
        script.on("GetInfo", pb.GetInfoReply(join_addr=address))
        with serve(script, socket):
            ran = pyswarm("-H", socket, "context", "create", "ann", "--user", "ann")
        assert (ran.code, ran.out) == (0, "ann\n"), ran.err
        assert pyswarm("context", "export", "ann", archive).code == 0
        assert pyswarm("context", "import", "copy", archive).code == 0
        assert pyswarm("-c", "copy", "service", "ls", "--format", "{{.Name}}").out == "web\n"
    assert [request.ref for request in script.requests("IssueUserCertificate")] == ["ann"]
    assert store.load("copy").host == address


# ---- what does not, and why ----------------------------------------------------------------------


def test_a_token_of_another_fleet_is_not_sent(pki: Pki, pyswarm: Pyswarm) -> None:
    other, seen = another(), Seen()
    with controller(other, seen=seen) as address:
        pyswarm("context", "create", "ci", "--pyswarm", f"host={address},token={token_of(pki)}")
        text = error(pyswarm("-c", "ci", "service", "ls"))
    assert (
        f"the controller at {address} does not have this fleet's CA (expected {pki.digest}" in text
    )
    assert "nothing was sent" in text
    assert secret_of(5) not in text
    assert seen.authorizations == []


def test_a_controller_of_another_ca_is_named(pki: Pki, pyswarm: Pyswarm) -> None:
    other = another()
    with controller(other) as address:
        save(address, pki.user("alice"))
        text = error(pyswarm("service", "ls"))
    assert text.startswith(f'the controller at {address} has another CA than context "prod"')
    assert f"(expected {pki.digest}, it has {other.digest})" in text


@pytest.mark.parametrize(
    ("issued", "reason"),
    [
        (-LIFETIME - HOUR, 'the certificate of context "prod" expired at 20'),
        (2 * HOUR, 'the certificate of context "prod" is not valid before 20'),
    ],
)
def test_a_certificate_of_another_time_is_named(
    pki: Pki, pyswarm: Pyswarm, issued: int, reason: str
) -> None:
    with controller(pki) as address:
        save(address, pki.user("alice", now=Instant(present() + issued)))
        text = error(pyswarm("service", "ls"))
    assert text.startswith(reason)
    assert "the clock of this host is at 20" in text
    assert "makes a new one with `pyswarm context create NAME --user USER`" in text


@pytest.mark.parametrize(
    ("issued", "reason"),
    [(-LIFETIME - HOUR, "expired at 20"), (2 * HOUR, "is not valid before 20")],
)
def test_a_controllers_certificate_of_another_time_is_named(
    pki: Pki, pyswarm: Pyswarm, issued: int, reason: str
) -> None:
    with controller(pki, pki.shown(Instant(present() + issued))) as address:
        save(address, pki.user("alice"))
        text = error(pyswarm("service", "ls"))
    assert text.startswith(f"a certificate of the controller at {address} {reason}")
    assert "the clock of this host is at 20" in text


def test_a_certificate_that_the_ca_did_not_issue_is_named(pki: Pki, pyswarm: Pyswarm) -> None:
    stranger = another().user("alice")
    with controller(pki) as address:
        save(address, ClientCredentials(pki.roots.encode(), stranger.cert_pem, stranger.key_pem))
        text = error(pyswarm("service", "ls"))
    assert text.startswith('the credentials of context "prod" are not valid: ca: it did not issue')


def test_a_key_of_another_certificate_is_named(pki: Pki, pyswarm: Pyswarm) -> None:
    with controller(pki) as address:
        save(address, replace(pki.user("alice"), key_pem=pki.user("alice").key_pem))
        assert "key: it is not the key of the certificate" in error(pyswarm("service", "ls"))


def test_a_controller_without_tls_is_named(pki: Pki, pyswarm: Pyswarm) -> None:
    with plain_server() as address:
        save(address, pki.user("alice"))
        text = error(pyswarm("service", "ls"))
        assert text.startswith(f"pyswarm at {address} does not use TLS: check the port")
        store.save(Context(name="ci", host=address, material=Material(token=token_of(pki))))
        assert error(pyswarm("-c", "ci", "service", "ls")) == text


def test_a_certificate_for_another_name_has_no_explanation_but_the_log(
    pki: Pki, pyswarm: Pyswarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.calls.connection.RESTART_TIMEOUT_S", 0.1)
    with controller(pki, as_agent(pki)) as address:
        save(address, pki.user("alice"))
        text = error(pyswarm("service", "ls"))
    assert text.startswith(f"the controller at {address} closed the connection: it restarts, or")


def test_a_controller_that_does_not_run_is_unreachable(
    pki: Pki, pyswarm: Pyswarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.calls.connection.RESTART_TIMEOUT_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    save(address, pki.user("alice"))
    assert error(pyswarm("service", "ls")).startswith(f"cannot reach a controller at {address}")
    store.save(Context(name="ci", host=address, material=Material(token=token_of(pki))))
    text = error(pyswarm("-c", "ci", "service", "ls"))
    assert text.startswith(f"cannot reach a controller at {address} (cannot connect")


def test_a_stream_explains_its_errors_too(pki: Pki, pyswarm: Pyswarm) -> None:
    with controller(another()) as address:
        save(address, pki.user("alice"))
        assert "has another CA" in error(pyswarm("events", "--until", "0s"))


# ---- speed ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("credentials", ["certificate", "token"])
def test_a_call_imports_no_cryptography(pki: Pki, credentials: str) -> None:
    """It takes 50 ms, a fifth of what `service ls` may take."""
    with controller(pki) as address:
        save(address, pki.user("alice"))
        if credentials == "token":
            material = Material(token=token_of(pki))
            store.activate(Context(name="ci", host=address, material=material))
        code = (
            "import sys; from cli.main import run; assert run(['service', 'ls', '-q']) == 0;"
            "print([name for name in sys.modules if name.startswith('cryptography')])"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.stdout.splitlines()[1:] == ["[]"], done.stderr
