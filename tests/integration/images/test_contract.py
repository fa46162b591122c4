"""The real images keep the contract that the fake keeps."""

import pytest

from agent.images.base import ImageConfig, Images
from tests.integration.images.conftest import HASTY
from tests.integration.images.registry import Registry
from tests.unit.agent.images.contract import Host, ImagesContract


class RealHost:
    """skopeo and containers-storage against docker-registry."""

    def __init__(self, images: Images, registry: Registry) -> None:
        self.images = images
        self._registry = registry

    def name(self, rest: str) -> str:
        return f"{self._registry.address}/{rest}"

    def push(self, rest: str, config: ImageConfig) -> None:
        self._registry.push(rest, [{"file": rest.partition(":")[0].encode()}], config)

    def pulls(self) -> int:
        # Each looks at the manifest, and reads it again to copy it.
        return self._registry.manifests_served() // 2

    def requires_login(self) -> None:
        self._registry.stop()
        self._registry.start(login=True)

    def go_silent(self) -> None:
        self._registry.go_silent()


class TestRealImages(ImagesContract):
    @pytest.fixture
    def host(self, images: Images, registry: Registry) -> Host:
        return RealHost(images, registry)

    @HASTY
    async def test_a_silent_registry_is_a_temporary_error(self, host: Host) -> None:
        await super().test_a_silent_registry_is_a_temporary_error(host)
