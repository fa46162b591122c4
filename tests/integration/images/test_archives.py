"""Archives of images and pulls of several tags, with skopeo and a real registry."""

import asyncio
import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from agent.images.base import (
    ImageConfig,
    ImageError,
    ImageNotFound,
    Images,
    LayerState,
    PullProgress,
)
from agent.streams.base import Link
from agent.streams.images import serve_save
from pyswarm_core.streams.frames import STDOUT, Data, Exit, Frame, Window
from pyswarm_core.streams.requests import SaveImageRequest
from tests.integration.images.registry import Registry

PLAIN = ImageConfig(user="web")
NAMES = ("docker.io/library/web:1", "docker.io/library/web:2")


async def saved(images: Images, ref: str, names: tuple[str, ...]) -> tuple[bytes, Exit]:
    """The archive that a caller of the stream receives, and its exit."""
    content = io.BytesIO()
    ended: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()

    async def send(frame: Frame) -> None:
        if isinstance(frame, Data):
            content.write(frame.data)
            await credit.put(Window(frame.channel, len(frame.data)))
        if isinstance(frame, Exit):
            ended.set_result(frame)

    credit: asyncio.Queue[Frame] = asyncio.Queue()
    await credit.put(Window(STDOUT, 1024 * 1024))
    request = SaveImageRequest(ref=ref, names=names)
    serving = asyncio.create_task(serve_save(images, request, Link(send, credit.get)))
    try:
        end = await ended
        return content.getvalue(), end
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def test_an_image_is_saved_as_docker_does(images: Images, registry: Registry) -> None:
    registry.push("web:1", [{"a": os.urandom(3_000_000)}, {"b": b"1"}], PLAIN)
    image = await images.pull(f"{registry.address}/web:1")
    content, end = await saved(images, image.id, NAMES)
    assert end == Exit()
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        (entry,) = json.load(archive.extractfile("manifest.json") or io.BytesIO())
        names = archive.getnames()
    assert entry["RepoTags"] == list(NAMES)
    assert entry["Config"] == f"{image.id}.json"
    assert len(entry["Layers"]) == 2
    assert {entry["Config"], *entry["Layers"]} <= set(names)


async def test_an_image_that_is_not_here_is_no_archive(images: Images) -> None:
    content, end = await saved(images, "0" * 64, NAMES)
    assert (content, end.message) == (b"", "no such image here: 000000000000")
    assert end.code


async def test_a_reader_that_leaves_ends_the_tool(
    images: Images, registry: Registry, tmp_path: Path
) -> None:
    registry.push("web:1", [{"a": os.urandom(3_000_000)}], PLAIN)
    image = await images.pull(f"{registry.address}/web:1")
    own, lent = os.pipe()
    saving = asyncio.create_task(images.save(image.id, (), lent))
    await asyncio.to_thread(os.read, own, 1)
    saving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await saving
    os.close(own)
    os.close(lent)
    assert not list((tmp_path / "host/work").iterdir())


async def test_the_layers_of_a_pull_have_sizes_and_ends(images: Images, registry: Registry) -> None:
    registry.push("web:1", [{"a": os.urandom(9_000_000)}, {"b": b"1"}], PLAIN)
    heard: list[PullProgress] = []
    await images.pull(f"{registry.address}/web:1", progress=heard.append)
    last = heard[-1]
    assert [layer.state for layer in last.layers] == [LayerState.DONE, LayerState.DONE]
    assert 8_900_000 < last.total_bytes < 9_200_000
    registry.push("web:2", [{"a": b"2"}], PLAIN)
    await images.pull(f"{registry.address}/web:1", progress=heard.append)
    assert {layer.state for layer in heard[-1].layers} <= {LayerState.EXISTS, LayerState.DONE}


async def test_the_tags_of_a_repository_are_listed(images: Images, registry: Registry) -> None:
    for tag in ("1", "2"):
        registry.push(f"team/web:{tag}", [{"a": tag.encode()}], PLAIN)
    assert await images.tags(f"{registry.address}/team/web") == ("1", "2")
    with pytest.raises(ImageNotFound):
        await images.tags(f"{registry.address}/team/none")


async def test_an_image_of_another_platform_is_pulled_if_it_is_asked_for(
    images: Images, registry: Registry
) -> None:
    registry.push("web:1", [{"a": b"1"}], PLAIN)
    image = await images.pull(f"{registry.address}/web:1", platform="linux/amd64")
    assert image.platform == "linux/amd64"
    with pytest.raises(ImageError):
        await images.pull(f"{registry.address}/web:1", platform="plan9/mips")
