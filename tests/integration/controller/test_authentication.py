"""Who calls: over TLS with certificates and tokens, by the socket, and for how long."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from msgspec.structs import replace

from controller.api.changes.nodes import remove_node
from controller.api.changes.removal import remove_object
from controller.api.changes.users import remove_token, update_user
from controller.grpc import peers
from controller.identity import ca
from controller.identity.rotation import begun
from pyswarm_core.aio.credentials import ClientCredentials
from pyswarm_core.aio.streams.framed import ENDED, send
from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.api.v1 import dispatcher_pb2, dispatcher_pb2_grpc
from pyswarm_core.clock import HOUR, SECOND, Instant
from pyswarm_core.decision import Writes
from pyswarm_core.identity.users import Role, User, UserSpec
from pyswarm_core.kinds import USER
from pyswarm_core.state import State
from tests.fixtures import build
from tests.fixtures.identity import another, naming
from tests.integration.controller.attacks.raw import Http2, context
from tests.integration.controller.fleet import HELLO, WAIT_S, until
from tests.integration.controller.identified import Identified, control_of, identified, info, issued

DENIED = grpc.StatusCode.PERMISSION_DENIED
NODE = "0" * 24 + "1"


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Identified]:
    async with identified(tmp_path) as found:
        yield found


async def test_a_user_calls_with_its_certificate(fleet: Identified) -> None:
    ann = await fleet.user("ann", Role.VIEWER)
    async with fleet.as_user(ann) as channel:
        assert (await info(channel))[0] is grpc.StatusCode.OK


async def test_a_user_calls_with_its_token_over_the_guest_certificate(fleet: Identified) -> None:
    token = await fleet.token(await fleet.user("ci", Role.VIEWER), HOUR)
    async with fleet.dial(fleet.guest) as channel:
        assert (await info(channel, token))[0] is grpc.StatusCode.OK
        reason = "a caller without an identity may not read the fleet's settings"
        code, details = await info(channel)
        assert (code, reason in details) == (DENIED, True)


async def test_another_scheme_of_authorization_is_refused(fleet: Identified) -> None:
    async with fleet.dial(fleet.guest) as channel:
        for value in ("Basic YW5uOmFubg==", "x", ""):
            metadata = (("authorization", value),)
            request = pb.GetInfoRequest()
            call = control_of(channel).GetInfo(request, metadata=metadata, timeout=WAIT_S)
            assert await call.code() is DENIED
            assert await call.details() == "authorization: expected `Bearer TOKEN`"


async def test_a_token_counts_with_the_guest_certificate_alone(fleet: Identified) -> None:
    admin = await fleet.token(await fleet.user("boss", Role.ADMIN))
    viewer = await fleet.user("ann", Role.VIEWER)
    async with fleet.as_user(viewer) as channel:
        request = pb.CreateUserRequest()
        metadata = (("authorization", f"Bearer {admin}"),)
        call = control_of(channel).CreateUser(request, metadata=metadata, timeout=WAIT_S)
        assert await call.code() is DENIED
        assert 'user "ann" (viewer) may not create users' in await call.details()


@pytest.mark.parametrize("part", [3, 4])
async def test_a_token_with_another_id_or_secret_is_refused(fleet: Identified, part: int) -> None:
    token = await fleet.token(await fleet.user("ci", Role.ADMIN))
    parts = token.split("-")
    parts[part] = "0" * len(parts[part])
    async with fleet.dial(fleet.guest) as channel:
        code, details = await info(channel, "-".join(parts))
        assert (code, "the token is not one of this fleet's" in details) == (DENIED, True)
        for wrong in (token[:-1], f"{token}0", "x" * 1000):
            code, details = await info(channel, wrong)
            assert (code, "the token is not valid" in details) == (DENIED, True)


async def test_the_store_has_no_secret_and_no_answer_has_a_hash(fleet: Identified) -> None:
    user = await fleet.user("ci", Role.VIEWER)
    token = await fleet.token(user)
    assert fleet.loop is not None
    (kept,) = fleet.loop.state.of(USER)[user.id].tokens
    secret = token.rpartition("-")[2]
    assert secret not in repr(kept)
    async with fleet.as_root() as channel:
        stub = control_of(channel)
        listed = await stub.ListUserTokens(pb.RefRequest(ref="ci"))
        assert [(one.id, one.hash) for one in listed.tokens] == [(kept.id, "")]
        shown = await stub.GetObject(pb.ObjectRequest(kind="user", ref="ci"))
        assert USER.decode(shown.value).tokens == ()


async def test_root_on_the_controller_s_host_is_admin(fleet: Identified) -> None:
    async with fleet.as_root() as channel:
        request = pb.CreateUserRequest()
        request.spec.name, request.spec.role = "ann", "viewer"
        reply = await control_of(channel).CreateUser(request)
        assert reply.user.spec.name == "ann"


@pytest.mark.parametrize("mode", [0o666, 0o660, 0o606])
async def test_nobody_is_root_on_a_socket_that_others_may_open(
    fleet: Identified, mode: int
) -> None:
    path = Path(fleet.socket.removeprefix("unix:"))
    assert path.stat().st_mode & 0o777 == 0o600
    async with fleet.as_root() as channel:
        assert (await info(channel))[0] is grpc.StatusCode.OK
        path.chmod(mode)
        code, told = await info(channel)
        assert code is DENIED
        assert f"mode {mode:04o}" in told
        assert f"`chmod 600 {path}`" in told
        path.chmod(0o600)
        assert (await info(channel))[0] is grpc.StatusCode.OK


async def test_a_certificate_of_another_ca_ends_in_the_handshake(fleet: Identified) -> None:
    ann = await fleet.user("ann", Role.ADMIN)
    for holder in (another(fleet.cluster.id).user(ann.id), None):
        async with fleet.dial(holder) as channel:
            assert (await info(channel))[0] is grpc.StatusCode.UNAVAILABLE


async def test_a_certificate_of_another_fleet_with_the_same_ca_is_refused(
    fleet: Identified,
) -> None:
    ann = await fleet.user("ann", Role.ADMIN)
    holder = fleet.ca.user(ann.id, cluster_id="0" * 25)
    async with fleet.dial(holder) as channel:
        code, details = await info(channel)
        assert (code, "the certificate is of fleet" in details) == (DENIED, True)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_tls_1_2_ends_in_the_handshake(fleet: Identified, version: ssl.TLSVersion) -> None:
    """At the controller's own port, with a certificate that it accepts over TLS 1.3."""
    ann = await fleet.user("ann", Role.ADMIN)
    found = context(fleet.ca.user(ann.id))
    found.maximum_version = version

    def connect() -> str | None:
        with Http2(("127.0.0.1", fleet.port), found) as connection:
            return connection.socket.version()

    if version is ssl.TLSVersion.TLSv1_3:
        assert await asyncio.to_thread(connect) == "TLSv1.3"
        return
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        await asyncio.to_thread(connect)


async def test_a_connection_with_older_tls_is_refused_also_after_its_handshake(
    fleet: Identified, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = await fleet.user("ann", Role.ADMIN)
    monkeypatch.setattr(peers, "TLS", "TLSv1.4")  # every connection has an older one
    async with fleet.as_user(ann) as channel:
        code, details = await info(channel)
        assert (code, details) == (DENIED, "this connection has TLSv1.3: expected TLSv1.4")


async def test_a_removed_user_is_refused_at_once_on_its_open_connection(fleet: Identified) -> None:
    ann = await fleet.user("ann", Role.VIEWER)
    token = await fleet.token(ann)
    async with fleet.as_user(ann) as by_certificate, fleet.dial(fleet.guest) as by_token:
        assert (await info(by_certificate))[0] is grpc.StatusCode.OK
        await fleet.change(lambda state, now, ids: remove_object(state, USER, "ann", now))
        code, details = await info(by_certificate)
        assert (code, "was removed" in details) == (DENIED, True)
        assert (await info(by_token, token))[0] is DENIED


async def _following(fleet: Identified, channel: grpc.aio.Channel, token: str = "") -> Any:
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    before = len(fleet.authentication.calls)
    call = control_of(channel).Events(pb.EventsRequest(follow=True), metadata=metadata)
    await until(lambda: len(fleet.authentication.calls) > before, "the stream is open")
    return call


async def _end(call: Any) -> tuple[grpc.StatusCode, str]:
    async with asyncio.timeout(WAIT_S):
        return await call.code(), await call.details()


async def test_a_denied_attempt_is_recorded_with_its_object(fleet: Identified) -> None:
    """Also one whose request cannot be decoded, which names none."""
    ann = await fleet.user("ann", Role.VIEWER)
    async with fleet.as_user(ann) as channel:
        users = control_of(channel)
        calls = [
            users.RemoveObject(pb.ObjectRequest(kind="user", ref="bob"), timeout=WAIT_S),
            users.RemoveNode(pb.RemoveNodeRequest(ref="host1"), timeout=WAIT_S),
            channel.unary_unary("/pyswarm.v1.Control/RemoveNode", None, None)(
                b"\xff", timeout=WAIT_S
            ),
        ]
        assert [await call.code() for call in calls] == [DENIED] * 3

    def found() -> list[tuple[str, str]]:
        records = chain.from_iterable(fleet.current().audit.log.kept())
        return sorted((one.verb, one.object) for one in records if one.caller == "ann")

    await until(lambda: len(found()) == 3, "the records are written behind")
    assert found() == [("node rm", "node"), ("node rm", "node/host1"), ("user rm", "user/bob")]


async def test_open_streams_of_a_removed_user_end(fleet: Identified) -> None:
    ann, bob = await fleet.user("ann", Role.VIEWER), await fleet.user("bob", Role.VIEWER)
    async with fleet.as_user(ann) as channel, fleet.as_user(bob) as other:
        call, kept = await _following(fleet, channel), await _following(fleet, other)
        await fleet.change(lambda state, now, ids: remove_object(state, USER, "ann", now))
        assert await _end(call) == (DENIED, 'user "ann" (viewer) was removed')
        assert not kept.done()
    await until(lambda: not len(fleet.authentication.calls), "closed streams are forgotten")


async def test_open_streams_of_a_removed_token_end(fleet: Identified) -> None:
    ci = await fleet.user("ci", Role.VIEWER)
    first, second = await fleet.token(ci), await fleet.token(ci)
    async with fleet.dial(fleet.guest) as channel:
        call, kept = (
            await _following(fleet, channel, first),
            await _following(fleet, channel, second),
        )
        token_id = first.split("-")[3]
        await fleet.change(lambda state, now, ids: remove_token(state, "ci", token_id, now))
        assert await _end(call) == (DENIED, 'the token of user "ci" (viewer) was removed')
        assert not kept.done()


async def test_open_streams_of_a_user_with_another_role_or_other_stacks_end(
    fleet: Identified,
) -> None:
    ann = await fleet.user("ann", Role.OPERATOR)
    async with fleet.as_user(ann) as channel:
        call = await _following(fleet, channel)
        await fleet.change(
            lambda state, now, ids: update_user(
                state, "ann", ann.version, _limited(state.of(USER)[ann.id]), now
            )
        )
        code, details = await _end(call)
        assert code is grpc.StatusCode.UNAVAILABLE
        assert "the role or the stacks" in details


def _limited(user: User) -> UserSpec:
    return replace(user.spec, stacks=("web",))


async def test_streams_end_with_their_certificate_and_calls_are_refused(fleet: Identified) -> None:
    ann = await fleet.user("ann", Role.VIEWER)
    async with fleet.as_user(ann, 3 * SECOND) as channel:
        call = await _following(fleet, channel)
        code, details = await _end(call)
        assert (code, 'the certificate of user "ann" (viewer) expired' in details) == (DENIED, True)
        code, details = await info(channel)  # on the connection that is open
        assert (code, "expired" in details) == (DENIED, True)


async def test_streams_end_with_their_token(fleet: Identified) -> None:
    token = await fleet.token(await fleet.user("ci", Role.VIEWER), 2 * SECOND)
    async with fleet.dial(fleet.guest) as channel:
        code, details = await _end(await _following(fleet, channel, token))
        assert (code, 'the token of user "ci" (viewer) expired' in details) == (DENIED, True)
        assert (await info(channel, token))[0] is DENIED


def _agent(fleet: Identified, left: int = HOUR) -> ClientCredentials:
    return fleet.ca.node(NODE, lifetime=left)


async def test_tunnels_of_a_removed_node_end_and_new_ones_are_refused(fleet: Identified) -> None:
    holder = _agent(fleet)
    await fleet.put(naming(build.node(NODE), holder.cert_pem))
    async with fleet.dial(holder) as channel:
        stub: Any = dispatcher_pb2_grpc.DispatcherStub(channel)
        call = stub.Tunnel(None)
        await until(lambda: len(fleet.authentication.calls), "the tunnel is open")
        await fleet.change(lambda state, now, ids: remove_node(state, NODE, force=True))
        assert (await _end(call))[0] is DENIED
        code, details = await _end(stub.Tunnel(None))
        assert (code, details) == (DENIED, f'node "{NODE}" was removed from the fleet')
        call = stub.Leave(dispatcher_pb2.LeaveRequest(), timeout=WAIT_S)
        assert await call.code() is grpc.StatusCode.NOT_FOUND, "it can leave"


async def test_a_stream_outlives_its_certificate_if_the_node_has_a_newer_one(
    fleet: Identified,
) -> None:
    await fleet.put(build.node(NODE))
    fleet.renewed[NODE] = Instant(fleet.clock.now() + HOUR)
    holder = _agent(fleet, 3 * SECOND)
    ends_at = peers._parsed(holder.cert_pem).expires_at
    async with fleet.dial(holder) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        call = health.Watch(health_pb2.HealthCheckRequest())
        await call.read()
        await until(lambda: fleet.clock.now() > ends_at + SECOND, "the certificate expires")
        assert not call.done()
        again = health.Watch(health_pb2.HealthCheckRequest())
        assert "expired" in (await _end(again))[1]  # a new call shows the certificate again
        fleet.renewed.clear()
        fleet.authentication.calls.changed((), (NODE,))
        assert (await _end(call))[0] is DENIED


async def _rotate(fleet: Identified) -> None:
    """Begin a rotation of the CA, and end it without waiting for any node."""
    await fleet.change(lambda state, now, ids: (Writes(cluster=begun(state.cluster, now)), None))


async def _end_rotation(fleet: Identified) -> None:
    def end(state: State, now: Instant, ids: object) -> tuple[Writes, None]:
        return Writes(cluster=replace(state.cluster, former_roots=())), None

    await fleet.change(end)


async def test_a_connection_with_a_certificate_of_a_former_ca_has_no_rights(
    fleet: Identified,
) -> None:
    ann, ci = await fleet.user("ann", Role.ADMIN), await fleet.user("ci", Role.VIEWER)
    token = await fleet.token(ci)
    async with fleet.as_user(ann) as channel, fleet.dial(fleet.guest) as guest:
        call = await _following(fleet, channel)
        by_token = await _following(fleet, guest, token)
        await _rotate(fleet)
        assert (await info(channel))[0] is grpc.StatusCode.OK
        assert not call.done()
        await _end_rotation(fleet)
        for code, details in (await _end(call), await info(channel)):
            assert code is DENIED
            assert "of a former CA" in details
            assert "`pyswarm context create NAME --user USER`" in details
        assert (await issued(channel))[0] is DENIED
        assert not by_token.done()
        assert (await info(guest, token))[0] is grpc.StatusCode.OK


async def test_an_agent_goes_on_after_a_rotation_if_it_has_renewed(fleet: Identified) -> None:
    holder = _agent(fleet)
    node = naming(build.node(NODE), holder.cert_pem)
    await fleet.put(node)
    async with fleet.dial(holder) as channel:
        stub: Any = dispatcher_pb2_grpc.DispatcherStub(channel)
        health = health_pb2_grpc.HealthStub(channel)
        call = health.Watch(health_pb2.HealthCheckRequest())
        await call.read()
        await _rotate(fleet)
        assert fleet.loop is not None
        issuer = ca.identifier_of(fleet.loop.state.cluster.ca)
        await fleet.put(replace(node, certificate=replace(node.certificate, issuer=issuer)))
        await _end_rotation(fleet)
        request = dispatcher_pb2.RenewCertificateRequest(csr=ca.csr_pem(ca.new_key()))
        session = stub.Session(None)
        with suppress(*ENDED):  # it may be refused by now
            await send(session, HELLO)
        for refused in (
            stub.Tunnel(None),
            stub.Leave(dispatcher_pb2.LeaveRequest()),
            stub.RenewCertificate(request),
            session,
        ):
            code, details = await _end(refused)
            assert (code, "`pyswarm swarm rejoin" in details) == (DENIED, True)
        assert not call.done()
        await _rotate(fleet)
        await _end_rotation(fleet)
        assert (await _end(call))[0] is DENIED


async def test_certificates_of_users_are_issued_by_the_api(fleet: Identified) -> None:
    await fleet.user("ann", Role.VIEWER)
    key = ca.new_key()
    async with fleet.as_root() as channel:
        request = pb.IssueUserCertificateRequest(ref="ann", csr=ca.csr_pem(key).decode())
        reply = await control_of(channel).IssueUserCertificate(request)
    ann = ClientCredentials(b"", reply.chain.encode(), ca.key_pem(key))
    async with fleet.dial(ann) as channel:
        assert (await info(channel))[0] is grpc.StatusCode.OK


async def test_a_token_of_the_api_works(fleet: Identified) -> None:
    await fleet.user("ci", Role.VIEWER)
    async with fleet.as_root() as channel:
        request = pb.CreateUserTokenRequest(ref="ci", lifetime=HOUR)
        token = (await control_of(channel).CreateUserToken(request)).token
    async with fleet.dial(fleet.guest) as channel:
        assert (await info(channel, token))[0] is grpc.StatusCode.OK


async def test_a_follower_names_the_leader_to_users_and_agents(fleet: Identified) -> None:
    ann = await fleet.user("ann", Role.VIEWER)
    token = await fleet.token(ann)
    fleet.leads = False
    async with fleet.as_user(ann) as channel, fleet.dial(fleet.guest) as guest:
        for answer in (await info(channel), await info(guest, token)):
            assert answer == (
                grpc.StatusCode.UNAVAILABLE,
                f"this controller does not lead: the leader is at {fleet.leader}",
            )
        health = health_pb2_grpc.HealthStub(channel)
        await health.Check(health_pb2.HealthCheckRequest())
    async with fleet.as_root() as channel:
        code, details = await _end(control_of(channel).Unlock(pb.UnlockRequest()))
        assert (code, details) == (grpc.StatusCode.ABORTED, "swarm is not locked")
    async with fleet.dial(_agent(fleet)) as channel:
        stub: Any = dispatcher_pb2_grpc.DispatcherStub(channel)
        call = stub.Session(None)
        await send(call, HELLO)
        assert (await call.read()).redirect.leader == fleet.leader


async def test_limits_count_per_user(fleet: Identified) -> None:
    ann, bob = await fleet.user("ann", Role.VIEWER), await fleet.user("bob", Role.VIEWER)
    async with fleet.as_user(ann) as first, fleet.as_user(bob) as second:
        await _following(fleet, first)
        await _following(fleet, second)
        gate = fleet.admission.streams
        assert sorted(gate._of_caller) == ['user "ann"', 'user "bob"']


# Users renew their own certificates
