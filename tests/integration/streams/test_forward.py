"""Connections to a port of a real container, for as long as it runs."""

import asyncio

import pytest

from pyswarm_core.errors import Conflict
from pyswarm_core.streams.frames import Close, Connect
from pyswarm_core.streams.requests import PortForwardRequest
from tests.integration.streams.conftest import Rig
from tests.unit.agent.streams.test_commands import Caller


async def test_a_forward_ends_with_its_task(rig: Rig) -> None:
    await rig.run()
    caller = Caller()
    caller.say(Connect(1))
    request = PortForwardRequest(ref="a1", port=8080)
    async with asyncio.timeout(60):
        serving = asyncio.create_task(rig.streams.serve(request, caller.link))
        while Close(1, "port 8080: connection refused") not in caller.got:
            caller.changed.clear()
            await caller.changed.wait()
        assert not serving.done()
        await rig.world.runtime.kill("a1", 9)
        with pytest.raises(ExceptionGroup) as ended:
            await serving
    assert ended.group_contains(Conflict, match="the task's process has ended")
    with pytest.raises(Conflict, match="not run"):
        await rig.streams.serve(request, caller.link)
