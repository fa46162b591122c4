"""Which audit records a request gets, also while the log goes on."""

import asyncio
from collections.abc import Sequence

import pytest

from controller.api.audit import AuditQuery, list_audit
from controller.api.changes.services import create_service, remove_service
from controller.identity.caller import ROOT, Caller, CallerKind, Role
from pyswarm_core.clock import SECOND, Instant
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.identity.audit import AuditRecord
from pyswarm_core.limits import REFS_MAX
from tests.fixtures import build
from tests.fixtures.build import NOW, Numbered
from tests.fixtures.desk import Desk, StoppedClock, Term

ALICE = Caller(CallerKind.USER, "u1", "alice", Role.OPERATOR)
RECORD = AuditRecord(
    sequence=1,
    at=NOW,
    caller_kind="user",
    caller_id="u1",
    caller="alice",
    object_kind="service",
    object_id="abcdefgh",
    object_name="web",
)


@pytest.mark.parametrize(
    ("query", "passes"),
    [
        (AuditQuery(), True),
        (AuditQuery(since=NOW, until=NOW), True),
        (AuditQuery(since=Instant(NOW + 1)), False),
        (AuditQuery(until=Instant(NOW - 1)), False),
        (AuditQuery(users=("bob", "alice")), True),
        (AuditQuery(users=("u1",)), True),
        (AuditQuery(users=("bob",)), False),
        (AuditQuery(objects=("web",)), True),
        (AuditQuery(objects=("service/web",)), True),
        (AuditQuery(objects=("service/abcdefgh",)), True),
        (AuditQuery(objects=("abcd",)), True),
        (AuditQuery(objects=("abc",)), False),
        (AuditQuery(objects=("we", "node/web")), False),
        (AuditQuery(users=("alice",), objects=("other",)), False),
    ],
)
def test_filters(query: AuditQuery, *, passes: bool) -> None:
    assert query.passes(RECORD) is passes


async def create(desk: Desk, name: str, caller: Caller) -> None:
    spec = build.service(name).spec
    await desk.submit(
        lambda state, now, ids: create_service(state, spec, (), now, ids), caller, "service create"
    )


async def test_a_list_has_what_is_kept_and_ends() -> None:
    desk = Desk(build.state(), Numbered())
    for number in range(70):
        await create(desk, f"app{number}", ALICE if number % 2 else ROOT)
    got: list[AuditRecord] = []

    async def send(told: Sequence[AuditRecord]) -> None:
        got.extend(told)

    query = AuditQuery(users=("root",))
    await list_audit(Term(desk), query, StoppedClock(), send)
    assert [record.object_name for record in got] == [f"app{n}" for n in range(0, 70, 2)]
    assert {record.verb for record in got} == {"service create"}


async def test_a_stream_goes_on_with_each_new_record_once() -> None:
    desk = Desk(build.state(), Numbered())
    await create(desk, "before", ALICE)
    got: list[str] = []

    async def send(told: Sequence[AuditRecord]) -> None:
        got.extend(record.object_name for record in told)
        if got == ["before"]:  # while the reader takes it
            await create(desk, "during", ALICE)

    follow = list_audit(Term(desk), AuditQuery(follow=True), StoppedClock(), send)
    task = asyncio.create_task(follow)
    async with asyncio.timeout(60):
        while "during" not in got:  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0)
        await desk.submit(lambda state, now, ids: remove_service(state, "before", now), ALICE)
        while len(got) < 3:  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0)
    task.cancel()
    assert got == ["before", "during", "before"]


async def test_an_end_in_the_past_ends_a_stream() -> None:
    desk = Desk(build.state(), Numbered())
    query = AuditQuery(follow=True, until=Instant(NOW - SECOND))

    async def send(told: Sequence[AuditRecord]) -> None:
        pytest.fail("nothing is that old")

    async with asyncio.timeout(60):
        await list_audit(Term(desk), query, StoppedClock(), send)


async def test_filters_are_bounded() -> None:
    desk = Desk(build.state(), Numbered())
    query = AuditQuery(objects=("web",) * (REFS_MAX + 1))

    async def send(told: Sequence[AuditRecord]) -> None:
        pytest.fail("the request is refused")

    with pytest.raises(InvalidArgument, match="--object: count 1001 is not valid"):
        await list_audit(Term(desk), query, StoppedClock(), send)


@pytest.mark.parametrize("ref", ["services/cart", "foo/cart", "/cart", "service/"])
async def test_an_unknown_kind_is_an_error(ref: str) -> None:
    desk = Desk(build.state(), Numbered())

    async def send(told: Sequence[AuditRecord]) -> None:
        pytest.fail("the request is refused")

    with pytest.raises(InvalidArgument) as caught:
        await list_audit(Term(desk), AuditQuery(objects=("web", ref)), StoppedClock(), send)
    expected = (
        "a kind of node, network, volume, secret, config, stack, service, user, task, image,"
        " cluster, a name or an id"
    )
    assert str(caught.value).startswith(f'--object: value "{ref}" is not valid')
    assert expected in str(caught.value)


@pytest.mark.parametrize("ref", ["task/web.1", "image/docker.io/web:1", "cluster/c1"])
async def test_every_kind_of_records_is_known(ref: str) -> None:
    async def send(told: Sequence[AuditRecord]) -> None:
        pytest.fail("there are none")

    term = Term(Desk(build.state(), Numbered()))
    await list_audit(term, AuditQuery(objects=(ref,)), StoppedClock(), send)
