"""Pulls from real registries that work, break, hang or lie."""

import asyncio
import fcntl
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
import pytest

from agent.images.base import (
    Credentials,
    DiskFull,
    ImageConfig,
    ImageNotFound,
    Images,
    InvalidImage,
    PullProgress,
    RegistryUnavailable,
)
from agent.images.settings import ImageSettings
from agent.images.store import open_images
from agent.runtime.procs import find_by_argument, is_alive
from tests.integration.images.conftest import HASTY
from tests.integration.images.dam import held_back
from tests.integration.images.registry import Registry, running_registry

PLAIN = ImageConfig()
PATIENCE_S = 120.0 * float(os.environ.get("PYSWARM_TIMEOUT_FACTOR", "1"))


def ran(command: list[str], env: Mapping[str, str] = os.environ) -> bytes:
    """What it printed; it must succeed."""
    return subprocess.run(command, check=True, capture_output=True, env=dict(env)).stdout


def contents(layer: str) -> set[str]:
    return {path.name for path in Path(layer).iterdir()}


async def test_layers_come_top_first_and_mount_as_the_image_meant(
    images: Images, registry: Registry, tmp_path: Path
) -> None:
    layers = [
        {"base": b"1", "gone": b"1", "both": b"old", "dir/hidden": b"1"},
        {".wh.gone": b"", "both": b"new", "dir/.wh..wh..opq": b"", "dir/seen": b"1"},
        {"top": b"3"},
    ]
    registry.push("web:1", layers, PLAIN)
    image = await images.resolve(f"{registry.address}/web:1")
    assert contents(image.layers[0]) == {"top"}
    assert "base" in contents(image.layers[2])
    merged = tmp_path / "merged"
    script = (
        f"mount -t overlay overlay -o ro,lowerdir={':'.join(image.layers)} {merged} && cd {merged}"
        " && find . -type f | sort && cat both"
    )
    merged.mkdir()
    seen = ran(["unshare", "--mount", "sh", "-c", script]).decode()
    assert seen.split() == ["./base", "./both", "./dir/seen", "./top", "new"]


async def test_the_files_say_what_the_storages_own_command_says(
    images: Images, registry: Registry, settings: ImageSettings
) -> None:
    registry.push("web:1", [{"a": b"1"}, {"b": b"22"}], ImageConfig(user="7"))
    image = await images.resolve(f"{registry.address}/web:1")
    env = {**os.environ, "CONTAINERS_STORAGE_CONF": str(settings.storage_conf)}

    def ask(*command: str) -> bytes:
        return ran(["containers-storage", *command], env)

    (record,) = json.loads(ask("images", "--json"))
    layers = {layer["id"]: layer for layer in json.loads(ask("layers", "--json"))}
    config = json.loads(ask("get-image-data", image.id, f"sha256:{image.id}"))
    assert (record["id"], record["digest"]) == (image.id, image.digest)
    assert tuple(record["names"]) == image.names
    assert config["config"]["User"] == image.config.user
    chain = [Path(layer).resolve().parent.name for layer in image.layers]
    assert chain == [record["layer"], layers[record["layer"]]["parent"]]


async def test_a_corrupted_layer_is_refused_and_leaves_no_image(
    images: Images, registry: Registry
) -> None:
    digest = registry.push("web:1", [{"a": os.urandom(100_000)}], PLAIN)
    manifest = json.loads(registry.blob(digest).read_bytes())
    blob = registry.blob(manifest["layers"][0]["digest"])
    damaged = bytearray(blob.read_bytes())
    damaged[5000] ^= 0xFF
    blob.write_bytes(damaged)
    with pytest.raises(InvalidImage, match="web:1") as caught:
        await images.resolve(f"{registry.address}/web:1")
    assert not caught.value.temporary
    assert (await images.stored()).images == ()


async def test_hung_registries_hold_up_nobody_else(
    images: Images, registry: Registry, tmp_path: Path
) -> None:
    registry.push("web:1", [{"a": b"1"}], PLAIN)
    with running_registry(tmp_path / "hung") as hung:
        hung.go_silent()
        async with asyncio.TaskGroup() as group:
            waiting = [
                group.create_task(images.resolve(f"{hung.address}/web:{tag}")) for tag in range(4)
            ]
            await images.resolve(f"{registry.address}/web:1")
            assert not any(call.done() for call in waiting)
            for call in waiting:
                call.cancel()


@HASTY
async def test_a_hung_registry_is_named(images: Images, registry: Registry) -> None:
    registry.go_silent()
    with pytest.raises(RegistryUnavailable, match="did not answer for 2 s"):
        await images.resolve(f"{registry.address}/web:1")


async def test_nobody_at_the_address_is_said_at_once(images: Images, registry: Registry) -> None:
    registry.stop()
    with pytest.raises(RegistryUnavailable, match="connection refused"):
        await images.resolve(f"{registry.address}/web:1")


async def test_a_mirror_is_asked_first_and_serves_docker_io(
    settings: ImageSettings, registry: Registry
) -> None:
    registry.push("library/web:1", [{"a": b"1"}], PLAIN)
    mirrored = msgspec.structs.replace(settings, mirrors=(f"http://{registry.address}",))
    async with open_images(mirrored) as images:
        image = await images.resolve("web:1")
    assert image.names == ("docker.io/library/web:1",)


async def test_a_pull_shows_how_far_it_is(images: Images, registry: Registry) -> None:
    registry.push("web:1", [{"a": os.urandom(9_000_000)}, {"b": b"1"}], PLAIN)
    heard: list[PullProgress] = []
    await images.resolve(f"{registry.address}/web:1", progress=heard.append)
    assert [progress.blobs for progress in heard] == sorted(progress.blobs for progress in heard)
    assert heard[-1].blobs == 2


async def test_a_local_image_starts_no_process_and_reads_no_index(
    images: Images, registry: Registry, settings: ImageSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.push("web:1", [{"a": b"1"}], PLAIN)
    image = await images.resolve(f"{registry.address}/web:1")
    monkeypatch.setenv("PATH", "/nonexistent")
    (settings.root / "overlay-layers" / "layers.json").unlink()
    assert await images.resolve(f"{registry.address}/web:1") == image


async def test_a_login_is_on_no_command_line(
    settings: ImageSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = tmp_path / "seen"
    fake = tmp_path / "bin"
    fake.mkdir()
    (fake / "skopeo").write_text(f'#!/bin/sh\necho "$@" >>{seen}\nenv >>{seen}\nexit 1\n')
    (fake / "skopeo").chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake}:{os.environ['PATH']}")
    login = Credentials(username="ann", password="the-password")
    async with open_images(settings) as images:
        with pytest.raises(RegistryUnavailable):
            await images.resolve("127.0.0.1:1/web:1", login)
    text = seen.read_text()
    assert "docker://127.0.0.1:1/web:1" in text
    assert "the-password" not in text
    assert "the-password" not in repr(login)


@pytest.mark.parametrize("stall_s", [4.0], ids=[""])
async def test_waiting_for_the_storages_lock_is_no_silence(
    images: Images, registry: Registry, settings: ImageSettings
) -> None:
    registry.push("web:1", [{"a": b"1"}], PLAIN)
    await images.resolve(f"{registry.address}/web:1")
    registry.push("other:1", [{"b": b"1"}], PLAIN)
    with (settings.root / "overlay-layers" / "layers.lock").open("r+") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        async with asyncio.TaskGroup() as group:
            other = group.create_task(images.resolve(f"{registry.address}/other:1"))
            await asyncio.sleep(settings.stall_s * 1.5)
            assert not other.done()
            assert (await images.resolve(f"{registry.address}/web:1")).layers
            fcntl.lockf(lock, fcntl.LOCK_UN)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8M", "small", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("part", ["root", "work"])
async def test_a_full_disk_is_said_and_another_image_still_fits(
    settings: ImageSettings, registry: Registry, small_disk: Path, part: str
) -> None:
    registry.push("big:1", [{"a": os.urandom(16_000_000)}], PLAIN)
    registry.push("web:1", [{"a": b"1"}], PLAIN)
    full = msgspec.structs.replace(settings, **{part: small_disk / part})
    async with open_images(full) as images:
        with pytest.raises(DiskFull, match="no space left on this host"):
            await images.resolve(f"{registry.address}/big:1")
        await images.resolve(f"{registry.address}/web:1")
        assert len((await images.stored()).images) == 1


async def test_a_disk_that_is_full_asks_no_other_registry(
    settings: ImageSettings, registry: Registry, small_disk: Path
) -> None:
    registry.push("library/big:1", [{"a": os.urandom(16_000_000)}], PLAIN)
    full = msgspec.structs.replace(
        settings, root=small_disk / "root", mirrors=(f"http://{registry.address}",)
    )
    async with open_images(full) as images:
        with pytest.raises(DiskFull) as caught:
            await images.resolve("big:1")
    assert "docker.io" not in str(caught.value)
    assert "this host has " in str(caught.value)


async def test_an_agent_returns_to_a_full_disk(settings: ImageSettings, small_disk: Path) -> None:
    there = msgspec.structs.replace(settings, root=small_disk / "root", work=small_disk / "work")
    async with open_images(there):
        (there.work / "pull-1").mkdir()
    before = _written(there)
    with (small_disk / "fat").open("wb", buffering=0) as fat, suppress(OSError):
        while True:
            fat.write(bytes(4096))
    async with open_images(there) as images:
        assert (await images.stored()).images == ()
    assert list(there.work.iterdir()) == []
    assert _written(there) == before


def _written(settings: ImageSettings) -> tuple[int, int]:
    """What changes if the storage's configuration, or the folder of pulls, is made again."""
    return settings.storage_conf.stat().st_mtime_ns, settings.work.stat().st_ino


async def test_a_trial_mount_of_a_killed_tool_is_undone(settings: ImageSettings) -> None:
    trial = settings.root / "overlay" / "compat1"
    (trial / "lower").mkdir(parents=True)
    (trial / "mapped").mkdir()
    ran(["mount", "--bind", str(trial / "lower"), str(trial / "mapped")])
    async with open_images(settings):
        assert not trial.exists()
    assert str(trial) not in Path("/proc/self/mountinfo").read_text()


@pytest.mark.parametrize("moment", ["arriving", "unpacked", "stored"])
async def test_an_agent_killed_in_a_pull_leaves_nothing_half_made(
    settings: ImageSettings, registry: Registry, moment: str
) -> None:
    """Killed when a layer has arrived by half, as its unpacking shows, or before the next came."""
    digest = registry.push("web:1", [{"a": os.urandom(20_000_000)}, {"b": b"1"}], PLAIN)
    manifest = json.loads(registry.blob(digest).read_bytes())
    base, top = (layer["digest"] for layer in manifest["layers"])
    held, after = (base, 10_000_000) if moment == "arriving" else (top, 0)
    async with held_back(registry.port, held, after) as dam, asyncio.timeout(PATIENCE_S):
        with _pulling_agent(settings, f"{dam.address}/web:1"):
            await dam.reached.wait()
            while not _has_come_to(moment, settings):  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            skopeo = find_by_argument("skopeo", f"docker://{dam.address}/web:1")
            assert is_alive(skopeo)
        while is_alive(skopeo):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    async with open_images(settings) as images:
        assert list(settings.work.iterdir()) == []
        assert (await images.stored()).images == ()
        image = await images.resolve(f"{registry.address}/web:1")
    folders = (settings.root / "overlay").glob("*/diff")
    layers = {Path(layer).resolve() for layer in image.layers}
    assert set(folders) == layers


def _has_come_to(moment: str, settings: ImageSettings) -> bool:
    match moment:
        case "unpacked":
            return any(settings.root.glob("overlay/*/diff/a"))
        case "stored":
            return any(not layer.get("flags") for layer in _read_layers(settings))
        case _:
            return True


def _read_layers(settings: ImageSettings) -> list[dict[str, object]]:
    index = settings.root / "overlay-layers" / "layers.json"
    layers: list[dict[str, object]] = json.loads(index.read_bytes()) if index.exists() else []
    return layers


@contextmanager
def _pulling_agent(settings: ImageSettings, reference: str) -> Iterator[None]:
    """An agent in the middle of a pull, killed at the end of the block."""
    program = textwrap.dedent("""
        import asyncio, sys
        from pathlib import Path
        from agent.images.settings import ImageSettings
        from agent.images.store import open_images
        async def main():
            root, run, work = map(Path, sys.argv[1:4])
            async with open_images(ImageSettings(root=root, run_root=run, work=work)) as images:
                await images.resolve(sys.argv[4])
        asyncio.run(main())
    """)
    folders = (str(settings.root), str(settings.run_root), str(settings.work))
    with subprocess.Popen([sys.executable, "-c", program, *folders, reference]) as agent:
        try:
            yield
            assert agent.poll() is None
        finally:
            agent.kill()


async def test_the_example_image_is_built_pushed_and_pulled(
    images: Images, registry: Registry, tmp_path: Path
) -> None:
    conf = tmp_path / "build.conf"
    root, run = tmp_path / "build" / "root", tmp_path / "build" / "run"
    settings = ImageSettings(root=root, run_root=run, work=tmp_path / "build")
    conf.write_text(settings.storage_conf_text)
    env = {**os.environ, "CONTAINERS_STORAGE_CONF": str(conf)}
    ran(["examples/web/build.sh", "localhost/web:1"], env)
    target = f"{registry.address}/web:1"
    copy = ["skopeo", "copy", "-q", "--dest-tls-verify=false", "containers-storage:localhost/web:1"]
    ran([*copy, f"docker://{target}"], env)
    image = await images.resolve(target)
    assert image.config.entrypoint == ("/bin/sh", "/server")
    assert image.config.exposed_ports == ("80/tcp",)
    assert {"bin", "server", "www"} <= contents(image.layers[0])


async def test_a_tag_that_is_gone_is_not_found_though_its_neighbour_is_here(
    images: Images, registry: Registry
) -> None:
    registry.push("web:1", [{"a": b"1"}], PLAIN)
    await images.resolve(f"{registry.address}/web:1")
    with pytest.raises(ImageNotFound, match="web:2"):
        await images.resolve(f"{registry.address}/web:2")
