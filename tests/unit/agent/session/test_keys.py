"""Keys and signatures of the real openssl."""

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from agent.session import keys
from agent.session.keys import new_request, sign
from controller.identity import ca
from controller.identity.ca import Subject, Unit
from controller.identity.cluster import issuer_of
from pyswarm_core.clock import HOUR
from pyswarm_core.errors import PermissionDenied, Unavailable
from tests.fixtures.build import NOW
from tests.fixtures.identity import FLEET
from tests.fixtures.source import ROOT


async def test_each_request_is_signed_by_a_new_key_of_the_one_kind() -> None:
    first, second = await asyncio.gather(new_request(), new_request())
    assert first.key != second.key
    for request in (first, second):
        key = serialization.load_pem_private_key(request.key, None)
        assert key.public_key() == ca.public_key_of(request.csr)
        assert request.key.startswith(b"-----BEGIN PRIVATE KEY-----\n")


async def test_a_signature_proves_the_key() -> None:
    request, text = await new_request(), os.urandom(500)
    subject = Subject(Unit.WORKER, "n1", FLEET.cluster.id)
    pem = issuer_of(FLEET.cluster.ca).issue(request.csr, subject, HOUR, NOW).pem
    ca.require_proof(pem, text, await sign(request.key, text))
    with pytest.raises(PermissionDenied):
        ca.require_proof(pem, text, await sign((await new_request()).key, text))


async def test_a_key_is_in_no_argument_and_in_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    request = await new_request()
    started: list[str] = []
    real = asyncio.create_subprocess_exec

    async def start(*words: str, **options: object) -> asyncio.subprocess.Process:
        started.extend(words)
        return await real(*words, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(keys.asyncio, "create_subprocess_exec", start)  # type: ignore[attr-defined]
    await sign(request.key, b"text")
    assert started[:4] == ["openssl", "dgst", "-sha256", "-sign"]
    assert started[4].startswith("/dev/fd/")
    assert "PRIVATE" not in repr(request)


def _descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def test_descriptors_are_closed_whatever_happens() -> None:
    before = _descriptors()
    request = await new_request()
    await sign(request.key, b"text")
    for _ in range(3):
        with pytest.raises(Unavailable, match="openssl failed: "):
            await sign(b"no key", b"text")
    assert _descriptors() <= before + 1  # the loop's child watcher


async def test_a_missing_openssl_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(Unavailable, match=r"openssl is not installed.*apt install openssl"):
        await new_request()


async def test_an_openssl_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "TIMEOUT_S", 0.05)
    with pytest.raises(Unavailable, match=r"did not end within 0\.05 s"):
        await keys._openssl(("sleep", "60"))


async def test_an_openssl_that_says_something_else_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keys, "_NEW_KEY", ("echo", "hello"))
    with pytest.raises(Unavailable, match="no key and no signing request"):
        await new_request()


def test_the_agent_never_imports_cryptography() -> None:
    """No module of it does, nor what these import; see docs/dependencies.md for its cost."""
    program = (
        "import importlib, pkgutil, sys, agent\n"
        "names = [one.name for one in pkgutil.walk_packages(agent.__path__, 'agent.')]\n"
        "for name in names: importlib.import_module(name)\n"
        "print(len(names) > 100, 'cryptography' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "True False\n"
    files = [path for part in ("agent", "pyswarm_core") for path in (ROOT / part).rglob("*.py")]
    imports = re.compile(r"^\s*(?:import|from) cryptography", re.MULTILINE)
    assert not [path for path in files if imports.search(path.read_text(encoding="utf-8"))]
