"""A store without space: users are told at once, the term lasts, and work goes on with room."""

import asyncio
from pathlib import Path

import grpc
import pytest

from controller.store.base import Outcome, StoreFull, Txn
from controller.store.memory import MemoryKv
from controller.store.memory_store import MemoryStore
from pyswarm_core.aio.system import SteadyClock
from pyswarm_core.api.v1 import control_pb2
from pyswarm_core.states import TaskState
from tests.fixtures.parts import whole
from tests.integration.controller.fleet import (
    agents_of,
    config,
    leading,
    serving,
    until,
    user,
    web,
)


class Filled(MemoryStore):
    """Takes no puts while `full`."""

    full = False

    async def commit(self, txn: Txn) -> Outcome:
        if self.full and txn.puts:
            raise StoreFull("etcdserver: mvcc: database space exceeded")
        return await super().commit(txn)


async def test_users_are_refused_while_there_is_no_space(tmp_path: Path) -> None:
    settings = config(tmp_path)
    store = Filled(MemoryKv(), SteadyClock())
    async with serving(settings, store) as controller, user(settings) as stub:
        await leading(controller)
        loop = controller.current()
        token = loop.state.cluster.worker_token
        async with agents_of(settings.advertise_addr, token, 1):
            await stub.CreateService(web(2, "before"))
            await until(lambda: loop.state.tasks_in_state[TaskState.RUNNING] == 2, "tasks run")
            store.full = True
            for name in ("first", "second"):
                with pytest.raises(grpc.aio.AioRpcError, match="the store has no space") as raised:
                    await stub.CreateService(web(1, name))
                assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
            listing = stub.ListServices(control_pb2.ListRequest())
            found = await whole(control_pb2.ListServicesReply, listing)
            assert {one.service.spec.name for one in found.services} >= {"before"}
            store.full = False
            await until(lambda: not loop._tools.saver.full, "the store takes writes again")
            await asyncio.wait_for(stub.CreateService(web(3, "after")), 60)
            await until(lambda: loop.state.tasks_in_state[TaskState.RUNNING] >= 5, "new tasks run")
        assert controller.current() is loop, "the term ended"
