"""The certificate of a context is renewed at the end of a command, and no command fails for it."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from cli.context import material, store
from cli.context.model import Context, Material
from cli.main import run
from pyswarm_core.aio.credentials import ClientCredentials
from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.clock import HOUR, Instant
from pyswarm_core.errors import PermissionDenied, Unavailable
from tests.fixtures.identity import Pki, another, present
from tests.fixtures.servers import tls_server
from tests.fixtures.source import ROOT
from tests.unit.cli.objects import service, services_reply
from tests.unit.cli.scripted import Script, add_script


def aged(pki: Pki) -> ClientCredentials:
    """With a certificate that has had more than half of its life."""
    now = Instant(present() - 2 * HOUR)
    return pki.user("alice", now=now, lifetime=5 * HOUR // 2)


@pytest.fixture(scope="module")
def pki() -> Pki:
    return another()


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOST", "CONTEXT", "TOKEN", "CA"):
        monkeypatch.delenv(f"PYSWARM_{name}", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


@contextmanager
def fleet(pki: Pki, credentials: ClientCredentials, **more: object) -> Iterator[Script]:
    """A controller that renews; the credentials are the current context's."""
    script = Script().on("ListServices", services_reply(service("web")))
    script.on("IssueUserCertificate", lambda request: _issued(pki, request))
    script.on("GetCa", pb.CaReply(certificate=pki.roots, is_finished=True))
    with tls_server(pki, lambda server: add_script(script, server)) as address:
        found = Material(
            credentials.ca_pem.decode(), credentials.cert_pem.decode(), credentials.key_pem.decode()
        )
        context = Context(name="prod", host=address, material=found)
        store.activate(replace(context, **more))
        yield script


def _issued(pki: Pki, request: pb.IssueUserCertificateRequest) -> pb.IssueUserCertificateReply:
    return pb.IssueUserCertificateReply(chain=pki.of_request(request.csr, "alice"), user_id="u")


def _ls(capsys: pytest.CaptureFixture[str]) -> None:
    """A command that works and prints nothing of a renewal."""
    code, shown = run(["service", "ls", "--format", "{{.Name}}"]), capsys.readouterr()
    assert (code, shown.out, shown.err) == (0, "web\n", "")


def test_a_certificate_past_half_of_its_life_is_renewed_once(
    pki: Pki, capsys: pytest.CaptureFixture[str]
) -> None:
    with fleet(pki, aged(pki)) as script:
        before = store.load("prod")
        _ls(capsys)
        after = store.load("prod")
        assert after.material.cert != before.material.cert
        assert after.material.key != before.material.key
        assert after.material.ca == before.material.ca
        assert material.unrelated(after.material) == ""
        assert after.renews_at == material.half_life(after.material.cert)
        _ls(capsys)
        assert store.load("prod") == after
        assert [request.ref for request in script.requests("IssueUserCertificate")] == [""]


def test_a_younger_certificate_is_not_renewed(pki: Pki, capsys: pytest.CaptureFixture[str]) -> None:
    with fleet(pki, pki.user("alice")) as script:
        before = store.load("prod")
        _ls(capsys)
        after = store.load("prod")
        assert after == replace(before, renews_at=material.half_life(before.material.cert))
        assert script.requests("IssueUserCertificate") == []


def test_a_command_whose_certificate_is_not_due_imports_no_cryptography(
    pki: Pki,
) -> None:
    with fleet(pki, pki.user("alice"), renews_at=1 << 40):
        code = "import sys; from cli.main import run; run(['service', 'ls', '-q'])"
        check = "sys.exit(3 * any(name.startswith('cryptography') for name in sys.modules))"
        done = subprocess.run([sys.executable, "-c", f"{code}; {check}"], check=False, cwd=ROOT)
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("rpc", "answer"),
    [
        ("IssueUserCertificate", PermissionDenied("an older controller")),
        ("IssueUserCertificate", pb.IssueUserCertificateReply(chain="junk")),
        ("IssueUserCertificate", pb.IssueUserCertificateReply(chain="")),
        ("GetCa", Unavailable("it restarts")),
        ("GetCa", pb.CaReply(certificate=another().roots, is_finished=True)),
    ],
)
def test_no_command_fails_for_a_renewal(
    pki: Pki, capsys: pytest.CaptureFixture[str], rpc: str, answer: object
) -> None:
    with fleet(pki, aged(pki)) as script:
        script.on(rpc, answer)
        before = store.load("prod")
        _ls(capsys)
        assert store.load("prod") == before
        assert script.requests("IssueUserCertificate")


def test_a_context_that_cannot_be_written_fails_no_command(
    pki: Pki, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with fleet(pki, aged(pki)) as script:
        before = store.load("prod")

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(store, "_write", full)
            _ls(capsys)
        assert store.load("prod") == before
        assert script.requests("IssueUserCertificate")


def test_a_context_that_another_command_changed_is_left_alone(
    pki: Pki, capsys: pytest.CaptureFixture[str]
) -> None:
    with fleet(pki, aged(pki)) as script:
        other = replace(store.load("prod"), material=Material(token="t"))

        def changed(_: object) -> pb.ListServicesReply:
            store.save(other)
            return services_reply(service("web"))

        script.on("ListServices", changed)
        _ls(capsys)
        assert store.load("prod") == other
        assert script.requests("IssueUserCertificate") == []


def test_both_roots_are_trusted_until_the_rotation_has_ended(
    pki: Pki, capsys: pytest.CaptureFixture[str]
) -> None:
    former = another().roots
    root = pki.roots
    with fleet(pki, aged(pki)) as script:
        context = store.load("prod")
        store.save(replace(context, material=replace(context.material, ca=root + former)))
        script.on("GetCa", pb.CaReply(certificate=root, is_finished=False))
        _ls(capsys)
        _ls(capsys)
        assert store.load("prod").material.ca == root + former
        assert len(script.requests("IssueUserCertificate")) == 1
        script.on("GetCa", pb.CaReply(certificate=root, is_finished=True))
        _ls(capsys)
        assert store.load("prod").material.ca == root
        assert len(script.requests("IssueUserCertificate")) == 1
