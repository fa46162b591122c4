"""Removals that users request of a host's images: what is loose, and what nothing needs."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
from msgspec.structs import replace

from agent.images.base import Image, ImageConfig, ImageError, LooseLayer, Stored
from agent.images.fake import FakeImages, FakeRegistry
from agent.images.gc import ages
from agent.images.gc.collector import Collector
from agent.images.gc.plan import Disk, Needed, Policy
from agent.session.images import HostImages
from agent.worker import Worker
from pyswarm_core.api.v1 import dispatcher_pb2, images_pb2
from pyswarm_core.clock import HOUR

USED, SPARE = "docker.io/library/used:1", "docker.io/library/spare:1"
OLD, YOUNG, BUSY = "old-layer", "young-layer", "layer-of-a-build"


class _Images(FakeImages):
    """With layers that no image has."""

    def __init__(self, registry: FakeRegistry, group: asyncio.TaskGroup) -> None:
        super().__init__(registry, group)
        self.loose = {OLD: 100, YOUNG: 10, BUSY: 1}

    async def stored(self) -> Stored:
        layers = tuple(LooseLayer(name, size) for name, size in self.loose.items())
        return replace(await super().stored(), loose=layers)

    async def delete_layer(self, layer_id: str) -> None:
        if layer_id == BUSY:
            raise ImageError("a build has it")
        del self.loose[layer_id]

    def build(self, name: str, parent: str) -> None:
        """As of a step of a build: an image without a name; with one, the result."""
        names = (f"docker.io/library/{name}:1",) if parent else ()
        image = Image(id=name, digest=f"sha256:{name}", names=names, layers=(),
                      config=ImageConfig(), parent=parent, size_bytes=5)  # fmt: skip
        self._nameless[name] = image


class _Observer:
    def follow(self, collector: Collector) -> None:
        """Nobody reads the disk."""

    def removed(self, reason: str, freed: int) -> None:
        assert reason == "prune"


class _Host:
    def __init__(self, images: _Images, folder: Path, ids: dict[str, str]) -> None:
        self.images, self.ids = images, ids
        self.in_use = frozenset({ids[USED]})
        collector = Collector(
            images,
            Policy(),
            folder,
            lambda: Needed(ids=self.in_use),
            observer=_Observer(),
            measure=lambda: Disk(10),
        )
        self._host = HostImages(images, cast("Worker", self), collector)

    def images_in_use(self) -> frozenset[str]:
        """As of a worker."""
        return self.in_use

    async def deleted(self, *names: str, **flags: Any) -> list[images_pb2.ImageDeleted]:
        """What is answered to the removal of these images."""
        queue: asyncio.Queue[dispatcher_pb2.TunnelFrame] = asyncio.Queue()
        asked = images_pb2.ImageDelete(**flags)
        for name in names:
            asked.images.add(id=self.ids.get(name, name))
        await self._host.answer(dispatcher_pb2.OpenTunnel(image_delete=asked), queue)
        return [queue.get_nowait().image_deleted for _ in range(queue.qsize())]

    async def left(self) -> set[str]:
        return {name for image in (await self.images.stored()).images for name in image.names}


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[_Host]:
    registry = FakeRegistry()
    async with asyncio.TaskGroup() as group:
        images, ids = _Images(registry, group), {}
        for name in (USED, SPARE):
            registry.push(name, ImageConfig(user=name))
            ids[name] = (await images.resolve(name)).id
        ages.save(tmp_path / "image-ages.json", {OLD: 2 * HOUR, YOUNG: 1, BUSY: 2 * HOUR})
        yield _Host(images, tmp_path, ids)


async def test_what_a_task_needs_is_left_out_of_a_prune_without_an_error(host: _Host) -> None:
    (done,) = await host.deleted(USED, SPARE, "gone", unneeded=True)
    assert (done.id, done.deleted, list(done.untagged)) == (host.ids[SPARE], True, [SPARE])
    assert await host.left() == {USED}


async def test_what_a_task_has_is_an_error_of_a_removal(host: _Host) -> None:
    used, spare, gone = await host.deleted(USED, SPARE, "gone")
    assert (used.deleted, "is used by a task" in used.error) == (False, True)
    assert (spare.deleted, spare.error) == (True, "")
    assert "no such image here: gone" in gone.error
    assert await host.left() == {USED}


async def test_layers_that_no_image_had_for_an_hour_go_first(host: _Host) -> None:
    layers, spare = await host.deleted(SPARE, unneeded=True, loose=True)
    assert (layers.id, layers.reclaimed_bytes, layers.deleted) == ("", 100, False)
    assert spare.deleted
    assert list(host.images.loose) == [YOUNG, BUSY], "a young one, and one that a build has, stay"


async def test_layers_stay_unless_they_are_asked_for(host: _Host) -> None:
    assert await host.deleted(unneeded=True) == []
    assert OLD in host.images.loose
    (layers,) = await host.deleted(loose=True)
    assert (layers.id, layers.reclaimed_bytes) == ("", 100)
    assert await host.left() == {USED, SPARE}


async def test_images_of_steps_go_with_the_image_that_they_made(host: _Host) -> None:
    host.images.build("step", "")
    host.images.build("app", "step")
    (kept,) = await host.deleted("app")
    assert (kept.deleted, list(kept.parents)) == (True, [])
    host.images.build("app", "step")
    (done,) = await host.deleted("app", parents=True)
    assert (done.deleted, list(done.parents), done.reclaimed_bytes) == (True, ["step"], 10)
    assert {one.id for one in (await host.images.stored()).images} == {*host.ids.values()}


async def test_images_of_steps_that_a_task_has_stay(host: _Host) -> None:
    host.images.build("step", "")
    host.images.build("app", "step")
    host.in_use |= {"step"}
    (done,) = await host.deleted("app", parents=True)
    assert (done.deleted, list(done.parents)) == (True, [])
