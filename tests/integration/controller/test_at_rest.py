"""Encryption at rest over a real etcd: nothing sensitive is in its data, and no controller leads
without the key.
"""

import asyncio
import signal
import subprocess
import sys
from base64 import b64encode
from pathlib import Path

from controller.identity.keyring import Keyring
from controller.leader.persistence.loading import load
from controller.store.etcd import EtcdStore
from controller.store.etcd_endpoints import EtcdSettings
from pyswarm_core.api.v1 import control_pb2, specs_pb2
from pyswarm_core.clock import Instant
from pyswarm_core.keys import Keys
from pyswarm_core.kinds import SECRET
from pyswarm_core.objects import Cluster
from tests.fixtures.etcd import EtcdProcess
from tests.integration.controller.fleet import config, leading, serving, until, user, web
from tests.integration.controller.processes import ControllerProcess, api, created, join_token

UNUSED = "encryption.former_keys_unused"
PASSWORD = "hidden-pass-7c1f0e93"
HIDDEN = "hidden-secret-51d20ac8"


def forms(secret: bytes) -> list[bytes]:
    """The secret as it may be written: raw, in base64 at any offset, in hexadecimal."""
    shifted = [b64encode(b" " * shift + secret)[4:-4] for shift in range(3)]
    return [secret, secret.hex().encode(), secret.hex().upper().encode(), *shifted]


def found_in(content: bytes, secrets: list[bytes]) -> list[bytes]:
    return [form for secret in secrets for form in forms(secret) if form in content]


async def test_nothing_sensitive_is_in_etcd(tmp_path: Path, etcd: EtcdProcess) -> None:
    settings = config(tmp_path / "one")
    async with EtcdStore(EtcdSettings((etcd.endpoint,))) as store:
        async with serving(settings, store) as controller, user(settings) as stub:
            await leading(controller)
            login = specs_pb2.RegistryLogin(registry="docker.io", username="ann", password=PASSWORD)
            request = web(1)
            request.registry_login.CopyFrom(login)
            await stub.CreateService(request)
            stored = (await stub.GetService(control_pb2.RefRequest(ref="web"))).service
            update = control_pb2.UpdateServiceRequest(
                ref="web", version=stored.version, spec=web(2).spec
            )
            await stub.UpdateService(update)
            spec = specs_pb2.NetworkSpec(name="closed", driver="overlay", encrypted=True)
            await stub.CreateNetwork(control_pb2.CreateNetworkRequest(spec=spec))
            payload = specs_pb2.PayloadSpec(name="db")
            data = HIDDEN.encode()
            await stub.CreateSecret(control_pb2.CreatePayloadRequest(spec=payload, data=data))
            loop = controller.current()
            await until(lambda: loop.state.cluster.encryption_keys, "there is a key")
            await loop.wait_saved()
            cluster, services = loop.state.cluster, loop.state.services
        secrets = [PASSWORD.encode(), HIDDEN.encode(), cluster.worker_token.encode()]
        secrets += [key.secret for key in cluster.encryption_keys]
        values = (await store.read(Keys().root)).items
        assert not found_in(b"\n".join(item.value for item in values), secrets)
        logged = b"".join(file.read_bytes() for file in etcd.folder.rglob("*") if file.is_file())
        assert len(logged) > 10_000
        assert not found_in(logged, secrets)  # nor in etcd's history and log
        envelope = Keyring(settings.key_file).envelope(is_new=False)
        loaded = await load(store, Keys(), envelope, lambda: Cluster(id=""), Instant(0))
        assert (loaded.state.cluster, loaded.state.services) == (cluster, services)
        (service,) = loaded.state.services.values()
        assert service.registry_login is not None
        assert service.registry_login.password == PASSWORD
        (secret,) = loaded.state.of(SECRET).values()
        assert secret.data == HIDDEN.encode()


def started(folder: Path, etcd: EtcdProcess, prefix: str, *flags: str) -> subprocess.Popen[str]:
    """`python -m controller`."""
    command = [
        *(sys.executable, "-m", "controller", f"--state-dir={folder}"),
        *(f"--listen=unix:{folder}.sock", "--advertise-addr=127.0.0.1:1", "--metrics-addr="),
        *("--health-addr=", "--no-registry"),
        *(f"--etcd-endpoints={etcd.endpoint}", f"--etcd-prefix={prefix}", *flags),
    ]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


async def test_a_second_controller_needs_a_copy_of_the_key(
    tmp_path: Path, etcd: EtcdProcess
) -> None:
    first = started(tmp_path / "one", etcd, "/second")
    key = tmp_path / "one" / "encryption.key"
    try:
        async with EtcdStore(EtcdSettings((etcd.endpoint,))) as store:
            async with asyncio.timeout(60):
                while await store.get(Keys("/second").cluster) is None:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        assert key.stat().st_mode & 0o777 == 0o600
        refused = started(tmp_path / "two", etcd, "/second")
        _, told = await asyncio.to_thread(refused.communicate, timeout=60)
        assert refused.returncode == 2
        assert "copy the file encryption.key from the state directory of a controller" in told
        assert f"to {tmp_path}/two/encryption.key (mode 0600)" in told
    finally:
        first.kill()
        first.communicate()
    other = tmp_path / "other.key"
    other.write_text(b64encode(bytes(32)).decode())
    other.chmod(0o600)
    wrong = started(tmp_path / "two", etcd, "/second", f"--encryption-key={other}")
    _, told = await asyncio.to_thread(wrong.communicate, timeout=60)
    assert wrong.returncode in (1, 2)
    assert "and name it with --encryption-key" in told
    assert "state.loaded" in await _log_of(
        started(tmp_path / "two", etcd, "/second", f"--encryption-key={key}"), "state.loaded"
    )


async def _log_of(process: subprocess.Popen[str], until: str) -> str:
    """The log of the controller up to the line with that text."""

    def read() -> str:
        assert process.stderr is not None
        lines = ""
        for line in process.stderr:
            lines += line
            if until in line:
                return lines
        return lines

    try:
        async with asyncio.timeout(60):
            return await asyncio.to_thread(read)
    finally:
        process.kill()
        process.communicate()


async def test_a_new_key_replaces_the_former_one(
    controller: ControllerProcess, tmp_path: Path
) -> None:
    file = tmp_path / "encryption.key"
    async with api(controller.socket) as stub:
        token = await join_token(stub)
        request = web(1)
        login = specs_pb2.RegistryLogin(registry="docker.io", username="ann", password=PASSWORD)
        request.registry_login.CopyFrom(login)
        await created(stub, request)
        former, fresh = file.read_text(), b64encode(bytes(range(32))).decode() + "\n"
        for number, text in enumerate((fresh + former, fresh)):
            controller.end(signal.SIGKILL)
            file.write_text(text)
            controller.start()
            assert await join_token(stub) == token
            if number == 0:
                await until(lambda: UNUSED in controller.log, "all is sealed with the new key")
        assert "unreadable" not in controller.log
        found = (await stub.GetService(control_pb2.RefRequest(ref="web"))).service
        assert found.spec.name == "web"
        controller.end(signal.SIGKILL)
        file.write_text(former)
        controller.start()
        await until(lambda: "sealed with encryption key" in controller.log, "it does not lead")
