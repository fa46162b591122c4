"""Who has too much under way is refused, told which limit it is, and held up by nobody else's."""

import asyncio
from contextlib import ExitStack
from typing import Any

import pytest
from msgspec.structs import replace

from controller.grpc.admission import (
    JOINS,
    LASTING,
    PROBES,
    RECEIVED,
    REQUESTS,
    STRANGERS,
    STREAMS,
    Admission,
    Gate,
    Limit,
    Receiving,
    caller_of,
    counted_as,
)
from controller.grpc.callers import set_caller
from controller.identity.caller import ANONYMOUS, Caller, CallerKind, Role
from pyswarm_core.api.v1 import control_pb2
from pyswarm_core.errors import Exhausted
from pyswarm_core.limits import (
    RECEIVED_MAX,
    RECEIVED_PER_CALLER,
    REQUESTS_MAX,
    REQUESTS_PER_CALLER,
    STRANGERS_MAX,
    STRANGERS_PER_CALLER,
    STREAMS_MAX,
    STREAMS_PER_CALLER,
)
from tests.integration.controller.matrix import methods

FEW = Limit("requests", 2, 3, "wait for answers")


def test_one_caller_is_refused_past_its_own_limit_only() -> None:
    gate = Gate(FEW)
    with ExitStack() as calls:
        for _ in range(2):
            calls.enter_context(gate.passing("192.0.2.1"))
        refused = pytest.raises(Exhausted, match=r"192\.0\.2\.1 has 2 requests in progress.* wait")
        with refused, gate.passing("192.0.2.1"):
            pass
        with gate.passing("192.0.2.2"):
            assert gate.total == 3
    assert gate.total == 0


def test_all_together_are_refused_past_the_total() -> None:
    gate = Gate(FEW)
    with ExitStack() as calls:
        for number in range(3):
            calls.enter_context(gate.passing(f"192.0.2.{number}"))
        refused = pytest.raises(Exhausted, match=r"3 requests of all callers .* try again later")
        with refused, gate.passing("192.0.2.9"):
            pass


class _Peer:
    def peer(self) -> str:
        return "ipv4:192.0.2.1:4711"


@pytest.mark.parametrize(
    ("caller", "counted"),
    [
        (Caller(CallerKind.USER, "u1", "ann", Role.VIEWER), 'user "ann"'),
        (Caller(CallerKind.AGENT, "n1", "host1"), "node n1"),
        (Caller(CallerKind.CONTROLLER, "c1", "c1"), "192.0.2.1"),
        (ANONYMOUS, "192.0.2.1"),
    ],
)
async def test_a_user_or_node_is_one_caller_wherever_it_calls_from(
    caller: Caller, counted: str
) -> None:
    set_caller(caller)
    context: Any = _Peer()
    assert counted_as(context) == counted


async def test_a_newcomer_takes_the_oldest_place_of_the_caller_that_has_most() -> None:
    gate = Gate(replace(FEW, yields=True))
    told: list[str] = []

    async def call(caller: str, name: str) -> None:
        try:
            with gate.passing(caller):
                await asyncio.Event().wait()
        except Exhausted as error:
            told.append(f"{name}: {error}")

    async with asyncio.TaskGroup() as group:
        calls = []
        for caller, name in (("a", "a1"), ("b", "b1"), ("a", "a2")):
            calls.append(group.create_task(call(caller, name)))
        await asyncio.sleep(0)
        with gate.passing("c"):
            assert gate.total == 3
            await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
            assert [line[:24] for line in told] == ["a1: 3 requests of all ca"]
            # Now nobody has more than the newcomer would have without its own.
            with pytest.raises(Exhausted, match="of all callers"), gate.passing("c"):
                pass
        for task in calls:
            task.cancel()
    assert (gate.total, gate._of_caller, len(told)) == (0, {}, 1)
    assert [task.cancelled() for task in calls] == [False, True, True]


def test_what_has_ended_does_not_count_and_nobody_is_remembered() -> None:
    gate = Gate(FEW)
    for number in range(1_000):
        with gate.passing(f"192.0.2.{number}"):
            pass
    assert (gate.total, len(gate._of_caller)) == (0, 0)


def test_no_single_caller_can_take_everything() -> None:
    for limit in (REQUESTS, STREAMS, STRANGERS, PROBES, RECEIVED):
        assert limit.per_caller < limit.total


@pytest.mark.parametrize(
    ("limit", "per_caller", "total"),
    [
        (REQUESTS, REQUESTS_PER_CALLER, REQUESTS_MAX),
        (STREAMS, STREAMS_PER_CALLER, STREAMS_MAX),
        (STRANGERS, STRANGERS_PER_CALLER, STRANGERS_MAX),
        (JOINS, STRANGERS_PER_CALLER, STRANGERS_MAX),
        (PROBES, STRANGERS_PER_CALLER, STRANGERS_MAX),
        (RECEIVED, RECEIVED_PER_CALLER, RECEIVED_MAX),
    ],
)
def test_the_limits_that_are_documented_are_those_that_hold(
    limit: Limit, per_caller: int, total: int
) -> None:
    gate = Gate(replace(limit, yields=False))
    with ExitStack() as calls:
        for number in range(total):
            calls.enter_context(gate.passing(f"caller{number // per_caller}"))
        with pytest.raises(Exhausted), gate.passing("another"):
            pass
        assert gate.total == total
    with ExitStack() as calls:
        for _ in range(per_caller):
            calls.enter_context(gate.passing("one"))
        with pytest.raises(Exhausted), gate.passing("one"):
            pass


async def test_requests_of_one_caller_wait_for_each_other_and_for_nobody_else() -> None:
    receiving = Receiving()
    inside: list[str] = []
    go_on = asyncio.Event()

    async def receive(caller: str) -> None:
        async with receiving.place(caller):
            inside.append(caller)
            await go_on.wait()

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for _ in range(2 * RECEIVED_PER_CALLER):
            group.create_task(receive("192.0.2.1"))
        group.create_task(receive("192.0.2.2"))
        await asyncio.sleep(0)
        assert inside == ["192.0.2.1"] * RECEIVED_PER_CALLER + ["192.0.2.2"]
        assert RECEIVED_PER_CALLER == 16
        go_on.set()
    assert len(inside) == 2 * RECEIVED_PER_CALLER + 1
    assert receiving._lines == {}


async def test_a_request_takes_the_place_of_a_caller_that_holds_more() -> None:
    receiving = Receiving()
    ended: list[str] = []

    async def receive(caller: str) -> None:
        try:
            async with receiving.place(caller):
                await asyncio.Event().wait()
        except Exhausted:
            ended.append(caller)

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(receive(f"192.0.2.{number // RECEIVED_PER_CALLER}"))
            for number in range(RECEIVED_MAX)
        ]
        await asyncio.sleep(0)
        async with receiving.place("198.51.100.1"):
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        assert ended == ["192.0.2.0"]
        for task in tasks:
            task.cancel()
    assert receiving._lines == {}


def test_every_call_with_one_request_counts_before_it_has_arrived() -> None:
    admission = Admission()
    counted = [name for name, method in methods() if not method.client_streaming]
    assert len(counted) > 40
    assert [name for name in counted if admission._gate(name) is None] == []


def test_health_of_guests_takes_no_place_of_users() -> None:
    admission = Admission()
    for name in ("/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"):
        assert admission._gate(name) is admission.probes


def test_calls_that_last_are_calls_of_the_api() -> None:
    (service,) = control_pb2.DESCRIPTOR.services_by_name.values()
    assert {method.name for method in service.methods} >= LASTING


@pytest.mark.parametrize(
    ("peer", "caller"),
    [
        ("ipv4:192.0.2.1:4711", "192.0.2.1"),
        ("ipv6:[2001:db8::1]:4711", "2001:db8::/64"),
        ("ipv6:%5B2001:db8::ffff:2%5D:4711", "2001:db8::/64"),
        ("ipv6:[2001:db8:0:1::1]:4711", "2001:db8:0:1::/64"),
        ("ipv6:%5Bfe80::1%25eth0%5D:4711", "fe80::/64"),
        ("ipv6:[::ffff:192.0.2.1]:4711", "192.0.2.1"),
        ("unix:/run/api.sock", "the local socket"),
        ("unix:", "the local socket"),
    ],
)
def test_a_caller_is_a_host(peer: str, caller: str) -> None:
    assert caller_of(peer) == caller
