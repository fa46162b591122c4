"""A fleet of a version without certificates, over a real etcd: its data is refused with commands,
which a controller and the hosts then run.
"""

import asyncio
import re
import shlex
import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from agent.session.identity import Identity
from cli.main import run
from controller.identity.keyring import Keyring
from controller.store.base import Put, Txn
from controller.store.etcd import EtcdStore
from controller.store.etcd_endpoints import EtcdSettings
from pyswarm_core.api.v1 import control_pb2
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.identity.certificates import CertificateAuthority, NodeCertificate
from pyswarm_core.keys import Keys
from pyswarm_core.kinds import CLUSTER, NODE, encode
from tests.fixtures.etcd import EtcdProcess
from tests.integration.controller.fleet import WAIT_S, web
from tests.integration.controller.processes import (
    ControllerProcess,
    api,
    created,
    info,
    join_token,
    running,
)
from tests.integration.controller.test_rotation import Host

HOSTS = ("host1", "host2")


@pytest.fixture
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdProcess]:
    process = EtcdProcess(tmp_path_factory.mktemp("etcd"))
    process.start()
    yield process
    process.kill()


@pytest.fixture
def controller(tmp_path: Path, etcd: EtcdProcess) -> Iterator[ControllerProcess]:
    process = ControllerProcess(tmp_path, etcd, heartbeat="200ms")  # nodes go down
    process.start()
    yield process
    process.end(signal.SIGKILL)


async def made_by_a_version_without_certificates(folder: Path, etcd: EtcdProcess) -> None:
    """Change the stored data to what that version wrote: no CA, no certificates, nothing sealed."""
    key_file = folder / "encryption.key"
    envelope, keys = Keyring(key_file).envelope(is_new=False), Keys(f"/{folder.name}")
    async with EtcdStore(EtcdSettings((etcd.endpoint,))) as store:
        found = await store.get(keys.cluster)
        assert found
        cluster = envelope.decode(CLUSTER, found.value)
        old = replace(cluster, ca=CertificateAuthority(), worker_token="t", scrape_token="")
        puts = [Put(keys.cluster, encode(old))]
        for item in (await store.read(keys.objects(NODE))).items:
            node = envelope.decode(NODE, item.value)
            puts.append(Put(item.key, encode(replace(node, certificate=NodeCertificate()))))
        assert len(puts) == 1 + len(HOSTS)
        await store.commit(Txn((), tuple(puts)))
    key_file.unlink()


def of_that_version(host: Host, state_dir: Path, cluster_id: str) -> None:
    """Its identity is what that version wrote, in the place of a host's agent."""
    host.path.unlink()
    host.path = state_dir / "agent" / "identity.json"
    host.path.parent.mkdir(parents=True)
    host.path.write_text(f'{{"node_id": "{host.node_id}", "cluster_id": "{cluster_id}"}}')


def refused(controller: ControllerProcess) -> tuple[str, str]:
    """The flag and the command that the error of a start names."""
    controller.start()
    assert controller.exited() == 2
    told = controller.log.splitlines()[-1]
    words = re.search(r"start the controller once with (--\w+), then run `pyswarm (.+?)` on", told)
    assert words, told
    return words[1], words[2]


async def states(stub: Any) -> dict[str, str]:
    """The state of each node, by its id."""
    parts = [part async for part in stub.ListNodes(control_pb2.ListRequest(), timeout=60)]
    return {one.node.id: one.node.status.state for part in parts for one in part.nodes}


async def reached(stub: Any, host: Host, state: str) -> None:
    """Return when its node has the state."""
    async with asyncio.timeout(WAIT_S):
        while (await states(stub))[host.node_id] != state:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_a_fleet_without_certificates_is_refused_converted_and_back(
    controller: ControllerProcess,
    etcd: EtcdProcess,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    hosts = [Host(name) for name in HOSTS]
    async with api(controller.socket) as stub, AsyncExitStack() as agents:
        token = await join_token(stub)
        cluster_id = (await info(stub)).cluster.id
        for host in hosts:
            await host.enlist(tmp_path, controller.address, token)
            await agents.enter_async_context(host.up(controller.address))
        await created(stub, web(4))
        await running(stub, 4)
    controller.end(signal.SIGKILL)
    await made_by_a_version_without_certificates(tmp_path, etcd)
    for host in hosts:
        of_that_version(host, tmp_path / host.hostname, cluster_id)
        with pytest.raises(InvalidArgument, match="run `pyswarm swarm rejoin`"):
            Identity.load(host.path)

    flag, command = refused(controller)
    assert not (tmp_path / "encryption.key").exists()
    controller.start(flag)
    async with api(controller.socket) as stub:
        token = await join_token(stub)
        for host in hosts:
            await reached(stub, host, "down")
            line = command.replace("TOKEN", token).replace("HOST:2377", controller.address)
            place = f"--state-dir={tmp_path / host.hostname}"
            assert await asyncio.to_thread(run, (*shlex.split(line), place)) == 0
        controller.end(signal.SIGKILL)
        controller.start()  # once is enough
        async with AsyncExitStack() as agents:
            for host in hosts:
                found = Identity.load(host.path)
                assert found
                host.use(found)
                await agents.enter_async_context(host.up(controller.address))
            async with asyncio.timeout(WAIT_S):
                while (await info(stub)).tasks_running != 4:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            for host in hosts:
                await reached(stub, host, "ready")
        assert await join_token(stub) == token
