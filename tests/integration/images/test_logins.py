"""The host's own logins: what `docker login` wrote serves pulls that bring none."""

import json
from base64 import b64encode
from pathlib import Path

import pytest
from msgspec.structs import replace

from agent.images.base import ImageConfig, Unauthorized
from agent.images.settings import ImageSettings
from agent.images.store import open_images
from tests.integration.images.registry import Registry


@pytest.fixture
def guarded(registry: Registry) -> str:
    """An image that only ann may pull."""
    registry.push("web:1", [{"a": b"1"}], ImageConfig())
    registry.stop()
    registry.start(login=True)
    return f"{registry.address}/web:1"


def host_with_login(settings: ImageSettings, tmp_path: Path, registry: str) -> ImageSettings:
    pair = b64encode(b"ann:right").decode()
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"auths": {registry: {"auth": pair}}}))
    return replace(settings, auth_file=file)


async def test_a_login_of_the_host_opens_its_registry(
    settings: ImageSettings, tmp_path: Path, registry: Registry, guarded: str
) -> None:
    async with open_images(host_with_login(settings, tmp_path, registry.address)) as images:
        image = await images.resolve(guarded)
    assert guarded in image.names


async def test_a_login_for_another_registry_is_not_used(
    settings: ImageSettings, tmp_path: Path, guarded: str
) -> None:
    async with open_images(host_with_login(settings, tmp_path, "other.test")) as images:
        with pytest.raises(Unauthorized):
            await images.resolve(guarded)
