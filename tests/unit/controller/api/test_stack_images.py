"""The digests of a stack's images: each is looked up once, as `resolve_image` says."""

from typing import Any

import pytest

from controller.api.stacking import changes
from controller.identity.caller import ROOT
from pyswarm_core.api.v1 import dispatcher_pb2 as dp
from pyswarm_core.ids import NodeId
from pyswarm_core.stacks.changes import ApplyStack, StackReply
from tests.fixtures import build
from tests.fixtures.build import Numbered
from tests.fixtures.desk import Desk
from tests.fixtures.stacks import actions, service, stack

OLD, NEW = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"
SHOP = stack("shop", service("shop", "a"), service("shop", "b"), service("shop", "c", "db:1"))


class Shop:
    """A leader whose agents find a digest for each image."""

    def __init__(self) -> None:
        self.desk = Desk(build.state(nodes=build.nodes(2)), Numbered(1000))
        self.digest = OLD
        self.asked: list[str] = []
        for node in ("n1", "n2"):
            self.desk.agents[NodeId(node)] = self._answer

    def _answer(self, request: dp.OpenTunnel) -> list[dp.TunnelFrame]:
        self.asked.append(request.image_resolve.reference)
        report = dp.ImageReport(images=[dp.Image(digest=self.digest)])
        return [dp.TunnelFrame(image_report=report)]

    async def apply(self, word: str = "", spec: Any = SHOP) -> StackReply:
        async def submit(mutation: Any) -> Any:
            return await self.desk.submit(mutation, ROOT)

        request = ApplyStack(spec=spec, resolve_image=word)
        return await changes.applied(self.desk, request, (), submit)


@pytest.fixture
def shop() -> Shop:
    return Shop()


async def test_each_image_is_looked_up_once(shop: Shop) -> None:
    await shop.apply()
    assert len(shop.asked) == 2
    images = {
        one.spec.task_template.container_spec.image for one in shop.desk.state.services.values()
    }
    assert images == {f"web:1@{OLD}", f"db:1@{OLD}"}


async def test_a_tag_that_moved_replaces_its_services_if_it_is_looked_up(shop: Shop) -> None:
    await shop.apply()
    shop.asked.clear()
    shop.digest = NEW
    for word in ("changed", "never"):
        assert actions(await shop.apply(word)) == {}
    assert not shop.asked
    assert set(actions(await shop.apply("always")).values()) == {"replaced"}


async def test_changed_looks_up_what_the_file_writes_otherwise(shop: Shop) -> None:
    await shop.apply()
    shop.asked.clear()
    changed = stack("shop", service("shop", "a"), service("shop", "b", "web:2"))
    await shop.apply("changed", changed)
    (asked,) = shop.asked
    assert "web:2" in asked
