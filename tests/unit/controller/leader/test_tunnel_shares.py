"""A caller has a share of the tunnels to a node and of all: others always find a place."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from controller.leader.exchanges import (
    CHANGES,
    EXEC,
    IMAGE_LIST,
    IMAGE_PULL,
    LOGS,
    READ_VOLUME,
    SIZES,
    STATS,
    TASK_CHECKS,
    TOP,
    ChangesRequest,
    Exchange,
    ImageList,
    ImagePull,
    LogsOptions,
    SizesRequest,
    StatsOptions,
    TaskChecksRequest,
    TopRequest,
)
from controller.leader.tunnels import OPERATIONS, TUNNELS_PER_CALLER, Tunnels, charged_to
from pyswarm_core.api.v1 import dispatcher_pb2
from pyswarm_core.clock import Instant
from pyswarm_core.errors import Exhausted
from pyswarm_core.ids import NodeId
from pyswarm_core.limits import TUNNELS_MAX
from pyswarm_core.logs.limits import LOG_READERS_PER_NODE
from pyswarm_core.streams.limits import (
    FILE_WALKS_PER_NODE,
    PULLS_PER_NODE,
    REQUESTS_PER_NODE,
    STATS_PER_NODE,
    STREAMS_PER_NODE,
    VOLUME_COPIES_PER_NODE,
)
from pyswarm_core.streams.requests import ExecRequest, ReadVolumeRequest
from pyswarm_core.streams.shares import share_of
from tests.fixtures.build import Numbered

N1, N2 = NodeId("n1"), NodeId("n2")
ANN, BOB = 'user "ann"', 'user "bob"'
KINDS: list[tuple[Exchange[Any, Any], Any, int, int]] = [
    (STATS, StatsOptions((), (), 0, 0), STATS_PER_NODE, 16),
    (LOGS, LogsOptions((), True, 0, Instant(0), Instant(0), ""), LOG_READERS_PER_NODE, 200),
    (EXEC, ExecRequest(ref="t1"), STREAMS_PER_NODE, 128),
    (IMAGE_PULL, ImagePull("web:1"), PULLS_PER_NODE, 64),
    (READ_VOLUME, ReadVolumeRequest(ref="v1"), VOLUME_COPIES_PER_NODE, 4),
    (SIZES, SizesRequest(()), FILE_WALKS_PER_NODE, 4),
    (TOP, TopRequest("t1"), REQUESTS_PER_NODE, 64),
]
OTHERS: list[tuple[Exchange[Any, Any], Any]] = [
    (TASK_CHECKS, TaskChecksRequest("t1")),
    (CHANGES, ChangesRequest("t1")),
    (IMAGE_LIST, ImageList()),
]


class _Tunnel:
    def close(self) -> None:
        pass


class Fleet:
    """A leader whose agents dial back at once."""

    def __init__(self) -> None:
        self.tunnels = Tunnels(Numbered(), self._ask)

    def _ask(self, node_id: NodeId, request: dispatcher_pb2.OpenTunnel) -> None:
        tunnel: Any = _Tunnel()
        loop = asyncio.get_running_loop()
        loop.call_soon(self.tunnels.accept, request.tunnel_id, node_id, tunnel)

    @asynccontextmanager
    async def opened(
        self, caller: str, exchange: Exchange[Any, Any], request: Any, node: NodeId = N1
    ) -> AsyncIterator[None]:
        before = charged_to.set(caller)
        try:
            async with self.tunnels.open(node, exchange, request):
                yield
        finally:
            charged_to.reset(before)


@pytest.mark.parametrize(
    ("exchange", "request_", "per_node", "per_caller"), KINDS, ids=[one[0].field for one in KINDS]
)
async def test_one_caller_s_tunnels_of_each_kind_leave_places_for_others(
    exchange: Exchange[Any, Any], request_: Any, per_node: int, per_caller: int
) -> None:
    fleet, share = Fleet(), share_of(exchange.field)
    assert (share.per_node, share.per_caller) == (per_node, per_caller)
    async with AsyncExitStack() as all_open:
        for _ in range(per_caller):
            await all_open.enter_async_context(fleet.opened(ANN, exchange, request_))
        told = f'user "ann" has {per_caller} .* on node n1 in progress, which is the limit for one'
        with pytest.raises(Exhausted, match=told):
            async with fleet.opened(ANN, exchange, request_):
                pass
        for other, asked in (*OTHERS, (exchange, request_)):
            async with fleet.opened(BOB, other, asked):
                pass
        async with fleet.opened(ANN, exchange, request_, N2):
            pass
    async with fleet.opened(ANN, exchange, request_):
        assert len(fleet.tunnels) == 1
    assert not fleet.tunnels._places._of_callers


async def test_what_all_callers_have_on_a_node_is_refused_at_once_with_the_limit() -> None:
    fleet, (exchange, asked, per_node, per_caller) = Fleet(), KINDS[0]
    async with AsyncExitStack() as all_open:
        for number in range(per_node):
            caller = f"user {number // per_caller}"
            await all_open.enter_async_context(fleet.opened(caller, exchange, asked))
        with pytest.raises(Exhausted, match="64 streams of stats of all callers on node n1"):
            async with fleet.opened(ANN, exchange, asked):
                pass
        async with fleet.opened(ANN, *OTHERS[0]):
            pass


async def test_tunnels_that_are_open_are_bounded_for_a_caller_and_for_all() -> None:
    fleet, (exchange, asked, _, per_caller) = Fleet(), KINDS[0]
    assert (TUNNELS_MAX, TUNNELS_PER_CALLER) == (2_000, 500)
    async with AsyncExitStack() as all_open:
        for number in range(TUNNELS_MAX):
            caller, node = f"user {number // 500}", NodeId(f"n{number // per_caller}")
            if number == TUNNELS_PER_CALLER:
                with pytest.raises(Exhausted, match="user 0 has 500 streams to agents open"):
                    async with fleet.opened("user 0", exchange, asked, NodeId("m1")):
                        pass
            await all_open.enter_async_context(fleet.opened(caller, exchange, asked, node))
        with pytest.raises(Exhausted, match="2000 streams to agents are open already"):
            async with fleet.opened(ANN, exchange, asked):
                pass


def test_every_kind_of_tunnel_has_a_share() -> None:
    for field in OPERATIONS:
        share = share_of(field)
        assert 0 < share.per_caller <= share.per_node // 2
