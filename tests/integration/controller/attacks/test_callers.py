"""Every call by callers that must not make it: nothing is answered, and nothing changes."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from msgspec.structs import replace

from controller.api.changes.nodes import remove_node
from controller.api.changes.removal import remove_object
from controller.api.changes.users import remove_token
from controller.grpc.streams.calls import OPENINGS
from controller.identity import ca
from controller.identity.ca import Unit
from controller.identity.policy import DISPATCHER, HEALTH, RULES, STACK_LABEL, Named
from pyswarm_core.aio.credentials import ClientCredentials
from pyswarm_core.api.v1 import streams_pb2
from pyswarm_core.clock import HOUR
from pyswarm_core.identity.certificates import CertificateAuthority
from pyswarm_core.identity.users import Role
from pyswarm_core.ids import NodeId
from pyswarm_core.kinds import USER
from tests.fixtures import build
from tests.fixtures.identity import Pki, another, key_der, naming
from tests.integration.controller.fleet import WAIT_S
from tests.integration.controller.identified import Identified, identified
from tests.integration.controller.matrix import call_of, methods, request_of, send_all

DENIED, UNAVAILABLE = grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAVAILABLE
OK = grpc.StatusCode.OK
NODE, OTHER, REMOVED = "0" * 24 + "1", "0" * 24 + "2", "0" * 24 + "3"
CHANGES = [name for name, rule in RULES.items() if rule.role not in (None, Role.VIEWER)]
STACKED = [name for name, rule in RULES.items() if rule.role is not None]
FREE = tuple(
    f"/pyswarm.v1.Control/{name}"
    for name in ("GetInfo", "GetCa", "PullImage", "ReadRegistry", "WriteRegistry", "ListRegistry")
)
"""What a user of a stack may call: it concerns no stack, or decides about each request itself."""
Attacker = tuple[grpc.aio.Channel, str]
"""A connection and a bearer token."""


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Identified]:
    async with identified(tmp_path) as found:
        await found.put(build.node(NODE), build.node(OTHER))
        web = build.service("db")
        await found.put(replace(web, spec=replace(web.spec, labels={STACK_LABEL: "db"})))
        yield found


def _everything(fleet: Identified) -> Any:
    assert fleet.loop
    state = fleet.loop.state
    tables = (state.nodes, state.services, state.networks, state.tasks, state.of(USER))
    return state.cluster, *(dict(table.items()) for table in tables)


def _request(method: Any, name: str) -> Any:
    """Every text of the request names this object."""
    request = request_of(method, "")
    for field in request.DESCRIPTOR.fields:
        if field.type == FieldDescriptor.TYPE_STRING and not field.is_repeated:
            setattr(request, field.name, "service" if field.name == "kind" else name)
        elif field.name == "refs":
            request.refs.append(name)
    return request


async def _end(attacker: Attacker, name: str, method: Any, named: str) -> grpc.StatusCode:
    channel, token = attacker
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    call = call_of(channel, name, method)
    request = _request(method, named)
    if method.client_streaming:
        made = call(None, metadata=metadata, timeout=WAIT_S)
        frames = []
        if (kind := OPENINGS.get(method.name)) is not None:
            frames.append(streams_pb2.StreamFrame(**{kind: request}).SerializeToString())
        await send_all(made, *frames)
    else:
        made = call(request, metadata=metadata, timeout=WAIT_S)
    code: grpc.StatusCode = await made.code()
    return code


async def _refused(
    fleet: Identified,
    attacker: Attacker,
    code: grpc.StatusCode,
    called: Callable[[str], object] = lambda _: True,
    named: str = "db",
) -> int:
    """How many calls were made, each of which ended with this code and changed nothing."""
    before = _everything(fleet)
    ends = {
        name: await _end(attacker, name, method, named)
        for name, method in methods()
        if called(name)
    }
    assert ends == dict.fromkeys(ends, code)
    assert _everything(fleet) == before
    return len(ends)


def _no_health(name: str) -> bool:
    return not name.startswith(HEALTH)


def _issued_by(fleet: Identified, issuer: ClientCredentials) -> ClientCredentials:
    """A certificate of an admin that this holder issued, and the holder's own above it."""
    key = key_der(issuer.key_pem)
    authority = CertificateAuthority(certificate=issuer.cert_pem.decode(), key=key)
    forged = Pki(replace(fleet.cluster, ca=authority)).node(NODE)
    return replace(forged, cert_pem=forged.cert_pem + issuer.cert_pem)


NO_HANDSHAKE: dict[str, Callable[[Identified], ClientCredentials | None]] = {
    "no certificate": lambda _: None,
    "foreign CA": lambda fleet: another(fleet.cluster.id).node(NODE),
    "expired": lambda fleet: fleet.ca.node(NODE, lifetime=-HOUR // 2),
    "issued by the guest": lambda fleet: _issued_by(fleet, fleet.guest),
    "issued by a node": lambda fleet: _issued_by(fleet, fleet.ca.node(NODE)),
}


@pytest.mark.parametrize("holder", NO_HANDSHAKE.values(), ids=NO_HANDSHAKE)
async def test_no_call_passes_the_handshake(
    fleet: Identified, holder: Callable[[Identified], ClientCredentials | None]
) -> None:
    async with fleet.dial(holder(fleet)) as channel:
        assert await _refused(fleet, (channel, ""), UNAVAILABLE) == len(RULES)


async def test_a_plain_connection_is_not_heard(fleet: Identified) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{fleet.port}") as channel:
        assert await _refused(fleet, (channel, ""), UNAVAILABLE) == len(RULES)


async def test_a_removed_node_calls_nothing(fleet: Identified) -> None:
    await fleet.put(build.node(REMOVED))
    async with fleet.dial(fleet.ca.node(REMOVED)) as channel:
        session = "/pyswarm.v1.Dispatcher/Session"  # it reads a hello first
        leave = "/pyswarm.v1.Dispatcher/Leave"  # the answer is that there is no such node
        assert await _end((channel, ""), "/grpc.health.v1.Health/Check", _check(), "") is OK
        await fleet.change(lambda state, now, ids: remove_node(state, REMOVED, force=True))
        made = await _refused(
            fleet,
            (channel, ""),
            DENIED,
            lambda name: _no_health(name) and name not in (session, leave),
        )
        assert made == len(RULES) - 4
        gone = await _end((channel, ""), leave, dict(methods())[leave], "")
        assert gone is grpc.StatusCode.NOT_FOUND


def _check() -> Any:
    return dict(methods())["/grpc.health.v1.Health/Check"]


async def test_a_removed_user_and_a_removed_token_call_nothing(fleet: Identified) -> None:
    boss, ci = await fleet.user("boss", Role.ADMIN), await fleet.user("ci", Role.ADMIN)
    of_boss, removed = await fleet.token(boss), await fleet.token(ci)
    await fleet.change(lambda state, now, ids: remove_object(state, USER, "boss", now))
    token_id = removed.split("-")[3]
    await fleet.change(lambda state, now, ids: remove_token(state, "ci", token_id, now))
    async with fleet.as_user(boss) as channel, fleet.dial(fleet.guest) as guest:
        for attacker in ((channel, ""), (guest, of_boss), (guest, removed)):
            assert await _refused(fleet, attacker, DENIED, _no_health) == len(RULES) - 2


async def test_a_certificate_of_another_fleet_with_the_same_ca_calls_nothing(
    fleet: Identified,
) -> None:
    ann = await fleet.user("ann", Role.ADMIN)
    for unit, name in ((Unit.USER, ann.id), (Unit.WORKER, NODE)):
        async with fleet.dial(fleet.ca.issued(unit, name, cluster_id="0" * 25)) as channel:
            await _refused(
                fleet,
                (channel, ""),
                DENIED,
                lambda called: _no_health(called) and not called.endswith("/Session"),
            )


async def _agent(fleet: Identified) -> ClientCredentials:
    """The agent of NODE."""
    holder = fleet.ca.node(NODE)
    await fleet.put(naming(build.node(NODE), holder.cert_pem))
    return holder


async def test_a_node_calls_nothing_of_users(fleet: Identified) -> None:
    async with fleet.dial(await _agent(fleet)) as channel:
        users = await _refused(
            fleet, (channel, ""), DENIED, lambda name: name in STACKED, named=OTHER
        )
        assert users == len(STACKED)


async def test_a_user_calls_nothing_of_nodes(fleet: Identified) -> None:
    async with fleet.as_user(await fleet.user("boss", Role.ADMIN)) as channel:
        made = await _refused(fleet, (channel, ""), DENIED, lambda n: n.startswith(DISPATCHER))
        assert made == len([name for name in RULES if name.startswith(DISPATCHER)])


async def test_a_viewer_changes_nothing(fleet: Identified) -> None:
    ann = await fleet.user("ann", Role.VIEWER)
    token = await fleet.token(ann)
    async with fleet.as_user(ann) as channel, fleet.dial(fleet.guest) as guest:
        for attacker in ((channel, ""), (guest, token)):
            made = await _refused(fleet, attacker, DENIED, lambda name: name in CHANGES)
            assert made == len(CHANGES)


async def test_a_token_of_a_stack_does_nothing_outside_it(fleet: Identified) -> None:
    """Lists are filtered instead: test_stacks.py."""
    ci = await fleet.user("ci", Role.OPERATOR, "web")
    token = await fleet.token(ci)
    filtered = (Named.LISTED, Named.CONTAINERS)
    lists = [name for name, rule in RULES.items() if rule.named in filtered]
    async with fleet.dial(fleet.guest) as guest:
        ends = {
            name: await _end((guest, token), name, dict(methods())[name], "db")
            for name in STACKED
            if name not in (*FREE, *lists)
        }
    # There is no such task, network, volume, secret, config or stack.
    not_found = {"SignalTask", "RestartTask", "TaskChecks", "GetNetwork"}
    not_found |= {name for rule in RULES if "Volume" in (name := rule.rpartition("/")[2])}
    not_found |= {"UpdateSecret", "UpdateConfig", "RollbackStack", "RemoveStack"}
    for name, code in ends.items():
        absent = name.rpartition("/")[2] in not_found
        assert code in ((DENIED, grpc.StatusCode.NOT_FOUND) if absent else (DENIED,)), name


async def test_several_tokens_in_one_call_are_refused(fleet: Identified) -> None:
    admin = await fleet.token(await fleet.user("boss", Role.ADMIN))
    viewer = await fleet.token(await fleet.user("ann", Role.VIEWER))
    call = dict(methods())["/pyswarm.v1.Control/ListUserTokens"]
    async with fleet.dial(fleet.guest) as channel:
        for tokens in ((viewer, admin), (admin, viewer), (admin, admin)):
            metadata = [("authorization", f"Bearer {token}") for token in tokens]
            made = call_of(channel, "/pyswarm.v1.Control/ListUserTokens", call)(
                request_of(call, ""), metadata=metadata, timeout=WAIT_S
            )
            assert await made.code() is DENIED
            assert await made.details() == "authorization: expected one value, not 2"


async def test_the_server_has_no_other_services(fleet: Identified) -> None:
    """Neither reflection nor channelz, which would show callers to each other."""
    same: Any = {"request_serializer": bytes, "response_deserializer": bytes}
    async with fleet.as_root() as channel:
        for name in (
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            "/grpc.channelz.v1.Channelz/GetServers",
            "/pyswarm.v1.Control/Nothing",
        ):
            call = channel.unary_unary(name, **same)(b"", timeout=WAIT_S)
            assert await call.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_renewal_is_of_the_node_of_the_certificate_alone(fleet: Identified) -> None:
    """Another node's id in the request, without a token, means nothing."""
    assert fleet.loop
    method = dict(methods())["/pyswarm.v1.Dispatcher/RenewCertificate"]
    request = request_of(method, "")
    request.csr, request.node_id = ca.csr_pem(ca.new_key()), OTHER
    before = fleet.loop.state.nodes[NodeId(OTHER)]
    async with fleet.dial(await _agent(fleet)) as channel:
        reply = await call_of(channel, "/pyswarm.v1.Dispatcher/RenewCertificate", method)(request)
    assert ca.parse(reply.chain).subject.id == NODE
    assert fleet.loop.state.nodes[NodeId(OTHER)] == before
