"""Garbage collection in a real storage: what is listed, deleted, and left."""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from agent.images.base import ImageError, Images
from agent.images.gc import ages, disk
from agent.images.gc.collector import Collector
from agent.images.gc.plan import Policy
from agent.images.settings import ImageSettings
from agent.images.store import open_images
from agent.session.needed import needed
from agent.tasks.record import Record
from pyswarm_core.clock import HOUR
from pyswarm_core.docker.reference import parse_reference
from pyswarm_core.images.disk import image_key
from tests.fixtures.agent_parts import DeafCounter
from tests.fixtures.hostile import HostileRegistry, hostile_registry, tar
from tests.unit.agent.session.test_needed import RECORD

MB = 1_000_000


@pytest.fixture
def registry() -> Iterator[HostileRegistry]:
    """An empty registry."""
    with hostile_registry() as found:
        yield found


async def test_sizes_say_what_a_removal_frees(images: Images, registry: HostileRegistry) -> None:
    base, own = tar({"base": bytes(50_000)}), tar({"own": bytes(20_000)})
    registry.image("base", [base])
    registry.image("app", [base, own])
    app = await images.resolve(f"{registry.address}/web:app")
    await images.resolve(f"{registry.address}/web:base")
    stored = await images.stored()
    sizes = {image.id: (image.size_bytes, image.unique_bytes) for image in stored.images}
    assert sizes[app.id] == (len(base) + len(own), len(own))
    assert stored.bytes == len(base) + len(own)
    assert stored.loose == ()
    await images.delete(app.id)
    stored = await images.stored()
    assert stored.bytes == len(base)
    assert [image.unique_bytes for image in stored.images] == [len(base)]


async def test_an_image_that_a_tag_left_is_listed_without_a_name_and_deleted(
    images: Images, registry: HostileRegistry
) -> None:
    registry.image("1", [tar({"a": b"1"})])
    old = await images.pull(f"{registry.address}/web:1")
    registry.image("1", [tar({"a": b"2"})])
    await images.pull(f"{registry.address}/web:1")
    nameless = [image.id for image in (await images.stored()).images if not image.names]
    assert nameless == [old.id]
    await images.delete(old.id)
    assert len((await images.stored()).images) == 1
    with pytest.raises(ImageError):
        await images.delete(old.id)


async def test_layers_without_an_image_are_listed_children_first_and_deleted(
    settings: ImageSettings, images: Images, registry: HostileRegistry
) -> None:
    """As a pull that was killed leaves them."""
    registry.image("1", [tar({"a": b"1"}), tar({"b": b"2"})])
    image = await images.resolve(f"{registry.address}/web:1")
    storage = ["containers-storage", "delete", image.id]  # the command without safety checks
    env = {**os.environ, "CONTAINERS_STORAGE_CONF": str(settings.storage_conf)}
    await asyncio.to_thread(subprocess.run, storage, env=env, check=True, capture_output=True)
    loose = (await images.stored()).loose
    assert len(loose) == 2
    for layer in loose:
        await images.delete_layer(layer.id)
    assert (await images.stored()).bytes == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 100 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


async def test_a_disk_that_fills_up_loses_what_was_unused_longest_and_nothing_needed(
    settings: ImageSettings, registry: HostileRegistry, small_disk: Path
) -> None:
    for name in ("web", "old", "older"):
        registry.image(name, [tar({name: os.urandom(30 * MB)})], pack=lambda tar: tar,
                       layer_media="application/vnd.oci.image.layer.v1.tar")  # fmt: skip
    there = msgspec.structs.replace(settings, root=small_disk / "root")
    async with open_images(there) as images:
        found = {
            name: await images.resolve(f"{registry.address}/web:{name}")
            for name in ("older", "old", "web")
        }
        ages.save(
            small_disk / "image-ages.json",
            {found["older"].id: 9 * HOUR, found["old"].id: 8 * HOUR, found["web"].id: 99 * HOUR},
        )
        record: Record = msgspec.structs.replace(RECORD, image_id=found["web"].id, kept_images=())
        collector = Collector(
            images,
            Policy(high=85, low=70),
            small_disk,
            lambda: needed([record]),
            observer=DeafCounter(),
            measure=lambda: disk.measured(small_disk / "root"),
        )
        await collector.collect()
        left = {image.id for image in (await images.stored()).images}
        assert left == {found["web"].id, found["old"].id}
        assert collector.disk.reason == ""
        # With the rest of the disk used by others, nothing that is left helps.
        (small_disk / "others").write_bytes(bytes(35 * MB))
        await collector.collect()
        left = {image.id for image in (await images.stored()).images}
        assert left == {found["web"].id}
        (small_disk / "more").write_bytes(bytes(25 * MB))
        await collector.collect()
        assert "the disk of its images is" in collector.disk.reason
        reference = f"{registry.address}/web:web"
        assert collector.disk.has(image_key(parse_reference(reference).canonical))
