"""What nodes find in the fleet's registry, and what it survives."""

import asyncio
import hashlib
import json
import os
import signal
import socket
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from agent.images.base import ImageError, ImageNotFound, RegistryUnavailable
from agent.images.settings import ImageSettings
from agent.images.store import StoredImages, open_images
from cli.image.transfer.sources import MANIFESTS
from cli.registry.opening import Endpoint
from controller.identity.rotation import begun
from controller.registry import upkeep
from controller.registry.process import RegistryProcess
from controller.registry.settings import NODES_USER, RegistrySettings, nodes_password
from pyswarm_core.clock import HOUR
from pyswarm_core.errors import Unavailable
from pyswarm_core.identity.users import Role
from tests.fixtures.ports import free_port
from tests.integration.registry.conftest import Rig, needing, running


@asynccontextmanager
async def node(rig: Rig, *addresses: str) -> AsyncIterator[StoredImages]:
    """A node's images, with what the controller sends."""
    folder = rig.folder / "node"
    given = ImageSettings(
        root=folder / "root", run_root=folder / "run", work=folder / "work", stall_s=10.0
    )
    async with open_images(given) as images:
        assert isinstance(images, StoredImages)
        cluster = rig.fleet.cluster
        roots = "".join((cluster.ca.certificate, *cluster.former_roots))
        images.fleet_changed(addresses or rig.registry.addresses, nodes_password(cluster), roots)
        yield images


async def status(rig: Rig, method: str, password: str) -> int:
    """The status of a node's request with that password."""
    host, port = rig.settings.listen.split(":")
    context = ssl.create_default_context(cadata=rig.fleet.cluster.ca.certificate)
    reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
    shown = b64encode(f"{NODES_USER}:{password}".encode()).decode()
    head = f"{method} /v2/docker.io/library/web/manifests/1 HTTP/1.1\r\nHost: x\r\n"
    head += "Accept: application/vnd.oci.image.manifest.v1+json\r\n"
    writer.write(f"{head}Authorization: Basic {shown}\r\nContent-Length: 0\r\n\r\n".encode())
    answer = await reader.readline()
    writer.transport.abort()
    return int(answer.split()[1])


def pid(process: RegistryProcess) -> int:
    found = process.running()
    return found[0] if found else 0


async def until_another(process: RegistryProcess, former: int) -> None:
    async with asyncio.timeout(60):
        while pid(process) in (0, former):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_a_node_runs_what_a_user_pushed(rig: Rig) -> None:
    client = await rig.client("ops", Role.OPERATOR)
    digest = await rig.push(client, "registry.example:5000/team/web:1")
    async with node(rig) as images:
        name = "registry.example:5000/team/web"
        assert await images.resolve_digest(f"{name}:1") == digest
        assert (await images.configuration(f"{name}:1")).cmd == ("/x",)
        image = await images.resolve(f"{name}:1@{digest}")
        assert image.digest == digest
        assert image.names == (f"{name}@{digest}",)


async def test_all_tags_are_those_of_the_fleets_registry_too(rig: Rig) -> None:
    client = await rig.client("ops", Role.OPERATOR)
    await rig.push(client, "registry.invalid:5000/team/web:1")
    await rig.push(client, "registry.invalid:5000/team/web:2")
    async with node(rig) as images:
        assert await images.tags("registry.invalid:5000/team/web") == ("1", "2")
        with pytest.raises(ImageError):
            await images.tags("registry.invalid:5000/team/none")


async def test_nodes_only_read_and_need_the_password(rig: Rig) -> None:
    client = await rig.client("ops", Role.OPERATOR)
    await rig.push(client, "web:1")
    password = nodes_password(rig.fleet.cluster)
    assert await status(rig, "GET", password) == 200
    assert await status(rig, "PUT", password) == 405
    assert await status(rig, "DELETE", password) == 405
    assert await status(rig, "GET", "wrong") == 401


@contextmanager
def silent() -> Iterator[str]:
    """An address that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


async def test_a_silent_registry_is_passed_over_and_judges_no_image(rig: Rig) -> None:
    client = await rig.client("ops", Role.OPERATOR)
    digest = await rig.push(client, "web:1")
    with silent() as address:
        async with node(rig, address, rig.settings.advertised) as images:
            assert await images.resolve_digest("web:1") == digest
        async with node(rig, address) as images:
            with pytest.raises(RegistryUnavailable, match="did not answer within 2 s"):
                await images.resolve("127.0.0.1:1/web:1")
    async with node(rig) as images:
        with pytest.raises(RegistryUnavailable):  # its own registry refuses connections
            await images.resolve("127.0.0.1:1/web:1")


async def test_an_image_that_only_its_own_registry_lacks_is_missing(rig: Rig) -> None:
    registry = rig.another()
    async with node(rig, registry.state.address) as images:
        with pytest.raises((ImageNotFound, RegistryUnavailable)) as raised:
            await images.resolve_digest("127.0.0.1:1/web:1")
        assert "fleet's registry" not in str(raised.value)


async def test_killed_processes_come_back(rig: Rig) -> None:
    client = await rig.client("ops", Role.OPERATOR)
    digest = await rig.push(client, "web:1")
    former = pid(rig.registry._nodes)
    for process in (rig.registry._nodes, rig.registry._users):
        os.kill(pid(process), signal.SIGKILL)
    await until_another(rig.registry._nodes, former)
    await rig.serving()
    async with node(rig) as images:
        assert await images.resolve_digest("web:1") == digest
    await rig.push(client, "web:2", b"two")


async def test_a_restarted_controller_adopts_both(rig: Rig) -> None:
    client = await rig.client("ops", Role.OPERATOR)
    await rig.push(client, "web:1")
    before = pid(rig.registry._nodes), pid(rig.registry._users)
    again = rig.another()
    keeping = asyncio.create_task(again.run())
    async with asyncio.timeout(60):
        while again.state.problem:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    ends = await again.connect()
    ends.writer.close()
    assert (pid(again._nodes), pid(again._users)) == before
    keeping.cancel()


async def test_a_rotation_of_the_ca_replaces_certificate_and_password(rig: Rig) -> None:
    client = await rig.client("ops", Role.OPERATOR)
    digest = await rig.push(client, "web:1")
    former, password = pid(rig.registry._nodes), nodes_password(rig.fleet.cluster)
    rig.fleet.cluster = begun(rig.fleet.cluster, rig.clock.now())
    await until_another(rig.registry._nodes, former)
    await rig.serving()
    async with node(rig) as images:
        assert await images.resolve_digest("web:1") == digest
    assert nodes_password(rig.fleet.cluster) != password
    assert await status(rig, "GET", password) == 401


async def test_a_node_that_was_removed_by_force_reads_nothing(rig: Rig) -> None:
    client = await rig.client("ops", Role.OPERATOR)
    digest = await rig.push(client, "web:1")
    former, process = nodes_password(rig.fleet.cluster), pid(rig.registry._nodes)
    rig.fleet.cluster = replace(rig.fleet.cluster, nodes_evicted=1)
    async with asyncio.timeout(60):
        while await status(rig, "GET", former) != 401:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    async with node(rig) as images:
        assert await images.resolve_digest("web:1") == digest
    assert pid(rig.registry._nodes) == process, "pulls of other nodes go on"


async def test_a_port_in_use_is_named_and_taken_when_it_is_free(
    tmp_path: Path, settings: RegistrySettings
) -> None:
    port = int(settings.listen.rpartition(":")[2])
    with socket.create_server(("127.0.0.1", port)):
        async with running(tmp_path, settings) as rig:
            async with asyncio.timeout(60):
                while "--registry-addr" not in rig.registry.state.problem:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            assert rig.registry.addresses == ()
    async with running(tmp_path, settings) as rig:
        await rig.serving()


async def test_without_the_program_there_is_a_reason(
    tmp_path: Path, settings: RegistrySettings
) -> None:
    async with running(tmp_path, replace(settings, binary="no-such-registry")) as rig:
        async with asyncio.timeout(60):
            while "is not installed" not in rig.registry.state.problem:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        client = await rig.client("ops", Role.OPERATOR)
        with pytest.raises(Unavailable, match="no-such-registry is not installed"):
            await rig.push(client, "web:1")


async def test_images_of_before_are_there(tmp_path: Path, settings: RegistrySettings) -> None:
    async with running(tmp_path, settings) as rig:
        await rig.serving()
        digest = await rig.push(await rig.client("ops", Role.OPERATOR), "web:1")
    address = f"127.0.0.1:{free_port()}"
    moved = replace(settings, folder=tmp_path / "other", listen=address, advertised=address)
    async with running(tmp_path, moved) as rig:
        await rig.serving()
        async with node(rig) as images:
            assert await images.resolve_digest("web:1") == digest


async def test_garbage_is_collected_and_nothing_that_is_needed(rig: Rig) -> None:
    client = await rig.client("ops", Role.OPERATOR)
    old, rolled, new = [await rig.push(client, "web:1", os.urandom(300_000)) for _ in range(3)]
    keeper = rig.registry.upkeep
    assert await keeper.collect(needing()) == 0, "what is young stays"
    rig.clock.by = 2 * HOUR
    before = await keeper.usage(frozenset({rolled}))
    assert (before.images, before.reclaimable > 300_000) == (1, True)
    async with node(rig) as images:
        assert await keeper.collect(needing(rolled)) == before.reclaimable
        after = await keeper.usage(frozenset({rolled}))
        assert (after.images, after.reclaimable) == (1, 0)
        assert after.size == before.size - before.reclaimable
        assert (await images.resolve(f"web@{rolled}")).digest == rolled
        assert await images.resolve_digest("web:1") == new
        with pytest.raises(RegistryUnavailable):  # nobody else has it here
            await images.resolve(f"127.0.0.1:1/web@{old}")
    await rig.push(client, "web:2", b"again")


async def test_a_collection_waits_for_those_who_push_and_they_for_it(rig: Rig) -> None:
    client = await rig.client("ops", Role.OPERATOR)
    await rig.push(client, "web:1")
    keeper = rig.registry.upkeep
    async with keeper.writing():
        collecting = asyncio.create_task(keeper.collect(needing()))
        pushing = asyncio.create_task(rig.push(client, "web:2", b"two"))
        done, _ = await asyncio.wait({collecting, pushing}, timeout=1.0)
        assert not done
    assert await collecting == 0
    await pushing


async def test_an_upload_that_is_idle_keeps_no_collection_away(rig: Rig, monkeypatch: Any) -> None:
    monkeypatch.setattr(upkeep, "IDLE_S", 0.2)
    client = await rig.client("ops", Role.OPERATOR)
    await rig.push(client, "web:1")
    loop = asyncio.get_running_loop()

    content = b"a layer without a manifest"
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFESTS[2],
        "config": {"mediaType": "application/json", "size": len(content), "digest": digest},
        "layers": [],
    }

    def half(endpoint: Endpoint) -> tuple[int, bytes]:
        where = "/v2/docker.io/library/web"
        begun, other = (endpoint.ask("POST", f"{where}/blobs/uploads/") for _ in range(2))
        to = f"{other.headers['location']}&digest={digest}"
        assert endpoint.ask("PUT", to, body=content).status == 201
        collecting = rig.registry.upkeep.collect(needing())
        freed = asyncio.run_coroutine_threadsafe(collecting, loop).result(60)
        assert endpoint.ask("PATCH", begun.headers["location"], body=b"later").status == 202
        kind = {"Content-Type": MANIFESTS[2]}
        body = json.dumps(manifest).encode()
        return freed, endpoint.ask("PUT", f"{where}/manifests/2", kind, body).content

    freed, refused = await rig.with_registry(client, half)
    assert (freed, b"blob unknown" in refused) == (len(content), True)
    await rig.push(client, "web:2")
