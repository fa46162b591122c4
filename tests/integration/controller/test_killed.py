"""The controller as a process over a real etcd: SIGKILL loses nothing, and it is back at once."""

import signal

from tests.fixtures.etcd import EtcdProcess
from tests.integration.controller.fleet import agents_of, web
from tests.integration.controller.processes import (
    ControllerProcess,
    api,
    created,
    info,
    join_token,
    running,
)


async def test_killed_again_and_again_it_loses_nothing(controller: ControllerProcess) -> None:
    async with api(controller.socket) as stub:
        token = await join_token(stub)
        async with agents_of(controller.address, token, 3) as agents:
            await created(stub, web(10))
            await running(stub, 10)
            before = {task_id for agent in agents for task_id in agent.running}
            for _ in range(3):
                controller.end(signal.SIGKILL)
                controller.start()
                assert await join_token(stub) == token
                await running(stub, 10)
            assert {task_id for agent in agents for task_id in agent.running} == before


async def test_what_was_answered_is_stored_even_if_it_dies_at_once(
    controller: ControllerProcess,
) -> None:
    async with api(controller.socket) as stub:
        token = await join_token(stub)
        async with agents_of(controller.address, token, 2):
            await created(stub, web(4))
            controller.end(signal.SIGKILL)
            controller.start()
            await info(stub)
            await running(stub, 4)


async def test_etcd_killed_and_started_again_under_it_loses_nothing(
    controller: ControllerProcess, etcd: EtcdProcess
) -> None:
    async with api(controller.socket) as stub:
        token = await join_token(stub)
        async with agents_of(controller.address, token, 2) as agents:
            await created(stub, web(6))
            await running(stub, 6)
            before = {task_id for agent in agents for task_id in agent.running}
            etcd.kill()
            etcd.start()
            await running(stub, 6)
            assert {task_id for agent in agents for task_id in agent.running} == before
            await created(stub, web(2, "more"))
            await running(stub, 8)


async def test_sigterm_ends_it_in_order_and_the_next_leads_at_once(
    controller: ControllerProcess,
) -> None:
    async with api(controller.socket) as stub:
        cluster = (await info(stub)).cluster
        assert controller.end(signal.SIGTERM) == 0
        controller.start()
        assert (await info(stub)).cluster == cluster
        assert "Traceback" not in controller.log
