"""Certificates of users: issued by admins, renewed by themselves, bound to their tokens."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from controller.api.changes.users import remove_token
from controller.identity import ca
from controller.identity.ca import Subject, Unit
from controller.identity.rotation import begun
from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.api.v1 import control_pb2_grpc
from pyswarm_core.clock import HOUR
from pyswarm_core.decision import Writes
from pyswarm_core.identity.tokens import parse_user_token
from pyswarm_core.identity.trust import OUTDATED_KEY
from pyswarm_core.identity.users import Role
from tests.integration.controller.fleet import WAIT_S, until
from tests.integration.controller.identified import Identified, control_of, identified, info, issued

DENIED = grpc.StatusCode.PERMISSION_DENIED


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Identified]:
    async with identified(tmp_path) as found:
        yield found


async def _following(fleet: Identified, channel: grpc.aio.Channel, token: str = "") -> Any:
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    before = len(fleet.authentication.calls)
    call = control_of(channel).Events(pb.EventsRequest(follow=True), metadata=metadata)
    await until(lambda: len(fleet.authentication.calls) > before, "the stream is open")
    return call


async def _end(call: Any) -> tuple[grpc.StatusCode, str]:
    async with asyncio.timeout(WAIT_S):
        return await call.code(), await call.details()


@pytest.mark.parametrize("stacks", [(), ("web",)])
async def test_a_user_renews_its_own_certificate_and_no_other(
    fleet: Identified, stacks: tuple[str, ...]
) -> None:
    ann = await fleet.user("ann", Role.OPERATOR, *stacks)
    await fleet.user("bob", Role.ADMIN)
    async with fleet.as_user(ann) as channel:
        for ref in ("ann", ann.id, ""):
            code, _, newer = await issued(channel, ref)
            assert code is grpc.StatusCode.OK
            assert ca.parse(newer.cert_pem).subject == Subject(Unit.USER, ann.id, fleet.cluster.id)
        code, _, newer = await issued(channel, "")
        assert code is grpc.StatusCode.OK
        for other in ("bob", "nobody", ann.id[:8]):
            code, details, _ = await issued(channel, other)
            assert code is DENIED
            assert "may not issue certificates of users other than itself" in details
    async with fleet.dial(newer) as again:
        assert (await info(again))[0] is grpc.StatusCode.OK
    async with fleet.as_root() as channel:
        code, details, _ = await issued(channel)
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert details == "ref: expected the name of a user: the caller is none"
        assert (await issued(channel, "ann"))[0] is grpc.StatusCode.OK


async def test_a_certificate_made_with_a_token_is_valid_as_long_as_the_token(
    fleet: Identified,
) -> None:
    ci = await fleet.user("ci", Role.VIEWER)
    token = await fleet.token(ci, HOUR)
    async with fleet.dial(fleet.guest) as guest:
        code, _, first = await issued(guest, "", token)
        assert code is grpc.StatusCode.OK
    left = ca.parse(first.cert_pem).expires_at - fleet.clock.now()
    assert left <= HOUR
    async with fleet.dial(first) as channel:
        # A renewal does not free it from the token.
        _, _, second = await issued(channel)
        assert ca.parse(second.cert_pem).expires_at - fleet.clock.now() <= HOUR
        async with fleet.dial(second) as other:
            call = await _following(fleet, other)
            token_id = parse_user_token(token).id
            await fleet.change(lambda state, now, ids: remove_token(state, "ci", token_id, now))
            code, details = await _end(call)
            assert (code, details) == (DENIED, 'the token of user "ci" (viewer) was removed')
            for connection in (channel, other):
                code, details = await info(connection)
                assert code is DENIED
                assert "was removed" in details
                assert (await issued(connection))[0] is DENIED


async def test_an_admin_with_a_token_issues_certificates_of_others_for_their_full_life(
    fleet: Identified,
) -> None:
    boss = await fleet.user("boss", Role.ADMIN)
    await fleet.user("ann", Role.VIEWER)
    token = await fleet.token(boss, HOUR)
    async with fleet.dial(fleet.guest) as guest:
        _, _, found = await issued(guest, "ann", token)
    parsed = ca.parse(found.cert_pem)
    assert parsed.subject.token_id == ""
    assert parsed.expires_at - fleet.clock.now() > 24 * HOUR


async def test_a_user_with_a_certificate_of_a_former_root_is_told_at_the_end_of_calls(
    fleet: Identified,
) -> None:
    ann = await fleet.user("ann", Role.VIEWER)
    async with fleet.as_user(ann) as channel:
        for outdated in (False, True):
            call = control_pb2_grpc.ControlStub(channel).GetInfo(pb.GetInfoRequest())
            await call
            keys = [key for key, _ in await call.trailing_metadata()]
            assert (OUTDATED_KEY in keys) is outdated
            if not outdated:
                await fleet.change(
                    lambda state, now, ids: (Writes(cluster=begun(state.cluster, now)), None)
                )
        code, _, newer = await issued(channel)
        assert code is grpc.StatusCode.OK
    async with fleet.dial(newer) as channel:
        call = control_pb2_grpc.ControlStub(channel).GetInfo(pb.GetInfoRequest())
        await call
        assert OUTDATED_KEY not in [key for key, _ in await call.trailing_metadata()]
