"""The fake keeps the contract."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from agent.images.base import ImageConfig, Images
from agent.images.fake import FakeImages, FakeRegistry
from tests.unit.agent.images.contract import RIGHT, Host, ImagesContract


class FakeHost:
    """A fake registry and a host that pulls from it."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self.registry = FakeRegistry()
        self.fake = FakeImages(self.registry, group)
        self.images: Images = self.fake

    def name(self, rest: str) -> str:
        return f"registry:5000/{rest}"

    def push(self, rest: str, config: ImageConfig) -> None:
        self.registry.push(self.name(rest), config)

    def pulls(self) -> int:
        return self.fake.pulls

    def requires_login(self) -> None:
        self.registry.login = RIGHT

    def go_silent(self) -> None:
        self.registry.silent = True


class TestFakeImages(ImagesContract):
    @pytest.fixture
    async def host(self) -> AsyncIterator[Host]:
        async with asyncio.TaskGroup() as group:
            yield FakeHost(group)
