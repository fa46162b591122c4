"""The audit log over gRPC and a real etcd: a record for each change, kept by the next leader."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import msgspec
import pytest
from msgspec.structs import replace

from controller.app import Controller
from controller.config import Config
from controller.identity import ca, rotation
from controller.identity.caller import CONTROLLER
from controller.store.base import Store
from controller.store.etcd import EtcdStore
from controller.store.etcd_endpoints import EtcdSettings
from pyswarm_core.aio.credentials import ClientCredentials
from pyswarm_core.api.v1 import (
    audit_pb2,
    control_pb2,
    dispatcher_pb2,
    dispatcher_pb2_grpc,
    files_pb2,
    objects_pb2,
)
from pyswarm_core.clock import Instant
from pyswarm_core.decision import Writes
from pyswarm_core.identity.audit import AuditClass
from pyswarm_core.ids import NodeId
from pyswarm_core.keys import Keys
from pyswarm_core.kinds import NODE, SERVICE
from pyswarm_core.state import State
from tests.fixtures.etcd import EtcdProcess
from tests.fixtures.identity import signed
from tests.integration.controller.fleet import (
    FakeAgent,
    agents_of,
    config,
    leading,
    second,
    serving,
    stranger,
    until,
    user,
    web,
)

KEYS = Keys()


@pytest.fixture
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdProcess]:
    process = EtcdProcess(tmp_path_factory.mktemp("etcd"))
    process.start()
    yield process
    process.kill()


@pytest.fixture
async def store(etcd: EtcdProcess) -> AsyncIterator[Store]:
    async with EtcdStore(EtcdSettings((etcd.endpoint,))) as store:
        yield store


@asynccontextmanager
async def term(settings: Config, store: Store) -> AsyncIterator[tuple[Controller, Any]]:
    """A controller that leads, and a user of it."""
    async with serving(settings, store) as controller:
        await leading(controller)
        async with user(settings) as stub:
            yield controller, stub


async def listed(stub: Any, **request: Any) -> list[audit_pb2.AuditRecord]:
    found: list[audit_pb2.AuditRecord] = []
    async for part in stub.ListAudit(audit_pb2.ListAuditRequest(**request), timeout=60):
        found += part.records
    return found


def told(record: audit_pb2.AuditRecord) -> tuple[str, str, str, str]:
    return record.caller, record.verb, f"{record.object_kind}/{record.object_name}", record.result


async def test_a_change_and_its_record_are_one_transaction(tmp_path: Path, store: Store) -> None:
    async with term(config(tmp_path), store) as (_, stub):
        made = (await stub.CreateService(web(2), timeout=60)).service
        (record,) = await listed(stub)
        assert told(record) == ("root", "service create", "service/web", "ok")
        assert record.version == made.version.index
        assert made.updated_by.name == "root"
        changes = {one.field: one.after for one in record.changes}
        assert (changes["Image"], changes["Replicas"]) == ("busybox", "2")
        key = KEYS.audit(AuditClass.CHANGE, record.sequence)
        stored = await store.get(key)
        service = await store.get(KEYS.object(SERVICE, made.id))
        assert stored is not None
        assert service is not None
        assert stored.create_revision == service.create_revision


async def test_the_next_leader_has_the_log_and_goes_on_with_it(
    tmp_path: Path, store: Store
) -> None:
    first = config(tmp_path / "one", "one")
    async with term(first, store) as (_, stub):
        made = (await stub.CreateService(web(2), timeout=60)).service
    async with term(second(first, tmp_path / "two"), store) as (_, stub):
        found = await stub.GetService(control_pb2.RefRequest(ref="web"), timeout=60)
        assert found.service.updated_by.name == "root"
        await stub.RemoveService(control_pb2.RemoveServiceRequest(ref="web"), timeout=60)
        records = await listed(stub)
        assert [told(one)[1] for one in records] == ["service create", "service rm"]
        assert records[0].sequence < records[1].sequence
        assert [told(one)[1] for one in await listed(stub, objects=[made.id])] == [
            "service create",
            "service rm",
        ]
        assert await listed(stub, users=["alice"]) == []
        assert await listed(stub, since=records[1].at + 1) == []


async def test_each_leader_has_the_whole_log_in_its_files(tmp_path: Path, store: Store) -> None:
    one = config(tmp_path / "one", "one")
    two = second(one, tmp_path / "two")

    def verbs(settings: Config) -> list[str]:
        file = settings.state_dir / "audit.log"
        lines = file.read_bytes().splitlines() if file.exists() else []
        return [msgspec.json.decode(line)["Verb"] for line in lines]

    for settings, name, expected in (
        (one, "a", ["service create"]),
        (two, "b", ["service create"] * 2),
        (one, "c", ["service create"] * 3),
    ):
        async with term(settings, store) as (_, stub):
            await stub.CreateService(web(0, name), timeout=60)
            await until(lambda: verbs(settings) == expected, f"the file has {expected}")  # noqa: B023


async def test_a_refused_change_is_recorded_and_stored_a_little_later(
    tmp_path: Path, store: Store
) -> None:
    async with term(config(tmp_path), store) as (_, stub):
        await stub.CreateService(web(0), timeout=60)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.CreateService(web(0), timeout=60)
        error = refused.value.details()
        async with asyncio.timeout(60):
            while not (found := (await store.read(KEYS.audits + b"refused/")).items):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert len(found) == 1
        record = (await listed(stub))[-1]
        assert told(record) == ("root", "service create", "service/web", error)


async def test_a_list_of_processes_that_was_refused_is_recorded(
    tmp_path: Path, store: Store
) -> None:
    async with term(config(tmp_path), store) as (_, stub):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.Top(files_pb2.TopRequest(ref="none.1"), timeout=60)
        async with asyncio.timeout(60):
            while not (found := await listed(stub)):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        record = found[-1]
        assert (record.caller, record.verb) == ("root", "container top")
        assert record.result == refused.value.details()


async def test_a_join_is_recorded_with_its_address(tmp_path: Path, store: Store) -> None:
    settings = config(tmp_path)
    async with term(settings, store) as (controller, stub):
        token = controller.current().state.cluster.worker_token
        async with agents_of(settings.advertise_addr, token, 1) as (agent,):
            (record,) = await listed(stub)
            assert (record.verb, record.object_kind) == ("swarm join", NODE.name)
            assert record.object_id == agent.node_id
            assert record.caller_kind == "anonymous"
            assert record.address
            assert token not in str(record)
            assert (await store.read(KEYS.audits + b"host/")).items


async def test_of_certificates_only_the_return_of_a_host_is_recorded(
    tmp_path: Path, store: Store
) -> None:
    """A host renews for as long as it exists: the log would have nothing else."""
    settings = config(tmp_path)
    address = settings.advertise_addr
    async with term(settings, store) as (controller, stub):
        token = controller.current().state.cluster.worker_token
        agent = FakeAgent("host1")
        await agent.join(address, token)
        first = controller.current().state.nodes[NodeId(agent.node_id)].certificate
        await renew(agent, address)
        second = controller.current().state.nodes[NodeId(agent.node_id)].certificate
        assert second.key_digest != first.key_digest
        assert [one.verb for one in await listed(stub)] == ["swarm join"]
        for is_late in (False, True):  # by proof, as during a rotation of the CA, and after the end
            if is_late:
                await expire(controller, agent)
            former, agent.credentials = agent.credentials, await stranger(address, token)
            await renew(agent, address, former=former)
            assert [one.verb for one in await listed(stub)][1:] == ["swarm rejoin"] * is_late
        await renew(agent, address, former=agent.credentials, token=token)
        async with agent.dial(address) as connection:
            leaving: Any = dispatcher_pb2_grpc.DispatcherStub(connection)
            await leaving.Leave(dispatcher_pb2.LeaveRequest(), timeout=60)
        found = await listed(stub)
        assert [one.verb for one in found] == [
            *("swarm join", "swarm rejoin", "swarm rejoin", "swarm leave")
        ]
        assert {one.object_id for one in found} == {agent.node_id}
        assert [one.caller_kind for one in found] == [*["anonymous"] * 2, "agent", "agent"]
        assert token not in str(found)


async def renew(
    agent: FakeAgent,
    address: str,
    *,
    former: ClientCredentials | None = None,
    token: str = "",
) -> None:
    """Get another certificate for the agent, over the connection that it shows."""
    key = ca.new_key()
    request = dispatcher_pb2.RenewCertificateRequest(csr=ca.csr_pem(key), token=token)
    if former is not None:
        request.node_id = agent.node_id
        request.former_certificate = former.cert_pem
        request.proof = signed(former.key_pem, request.csr)
    async with agent.dial(address) as connection:
        stub: Any = dispatcher_pb2_grpc.DispatcherStub(connection)
        agent.take(await stub.RenewCertificate(request, timeout=60), ca.key_pem(key))


async def expire(controller: Controller, agent: FakeAgent) -> None:
    """The node's newest certificate has ended."""

    def change(state: State, now: Instant, ids: object) -> tuple[Writes, None]:
        node = state.nodes[NodeId(agent.node_id)]
        ended = replace(node.certificate, expires_at=now)
        return Writes(objects=(replace(node, certificate=ended),)), None

    await controller.current().submit(change, CONTROLLER)


async def test_new_credentials_of_the_fleet_are_recorded_and_not_shown(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rotation, "CA_ROTATION_MIN", 0)
    async with term(config(tmp_path), store) as (controller, stub):
        was = controller.current().state.cluster
        await stub.RotateJoinToken(control_pb2.RotateJoinTokenRequest(), timeout=60)
        await stub.RotateCa(control_pb2.RotateCaRequest(), timeout=60)
        scrape = await stub.GetScrapeToken(
            control_pb2.GetScrapeTokenRequest(rotate=True), timeout=60
        )
        await until(lambda: not controller.current().state.cluster.former_roots, "it has ended")
        version = controller.current().state.cluster.version.index
        request = control_pb2.UpdateClusterRequest()
        request.spec.CopyFrom((await stub.GetInfo(control_pb2.GetInfoRequest())).cluster.spec)
        request.spec.autolock = True
        request.version.index = version
        locked = await stub.UpdateCluster(request, timeout=60)
        unlock = await stub.GetUnlockKey(control_pb2.GetUnlockKeyRequest(rotate=True), timeout=60)
        await stub.GetUnlockKey(control_pb2.GetUnlockKeyRequest(), timeout=60)
        async with asyncio.timeout(60):  # what only reads is stored behind
            while (found := await listed(stub))[-1].verb != "swarm unlock-key":  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        shown = {one.verb: [(each.field, each.after) for each in one.changes] for one in found}
        assert shown == {
            "swarm join-token --rotate": [("WorkerToken", "***")],
            "swarm ca --rotate": [("WorkerToken", "***"), ("Ca.Key", "***")],
            "swarm scrape-token --rotate": [("ScrapeToken", "***")],
            "swarm update": [("Autolock", "true"), ("UnlockKey", "***")],
            "swarm unlock-key --rotate": [("UnlockKey", "***")],
            "swarm unlock-key": [],
        }
        assert len(found) == len(shown)
        secrets = (was.worker_token, scrape.token, locked.unlock_key, unlock.unlock_key)
        assert not [one for one in secrets if one in str(found)]


async def test_users_and_their_tokens_are_recorded_and_not_shown(
    tmp_path: Path, store: Store
) -> None:
    async with term(config(tmp_path), store) as (_, stub):
        spec = objects_pb2.UserSpec(name="ci", role="operator")
        await stub.CreateUser(control_pb2.CreateUserRequest(spec=spec), timeout=60)
        made = await stub.CreateUserToken(control_pb2.CreateUserTokenRequest(ref="ci"), timeout=60)
        await stub.RemoveUserToken(
            control_pb2.RemoveUserTokenRequest(ref="ci", token=made.token_id), timeout=60
        )
        await stub.RemoveObject(control_pb2.ObjectRequest(kind="user", ref="ci"), timeout=60)
        found = await listed(stub)
        assert [told(one)[1:] for one in found] == [
            (verb, "user/ci", "ok")
            for verb in ("user create", "user token", "user token rm", "user rm")
        ]
        assert [(one.field, one.before, one.after) for one in found[1].changes] == [
            ("Tokens", "", made.token_id[:12])
        ]
        assert made.token.rpartition("-")[2] not in str(found)


async def test_a_stream_goes_on_with_new_records_and_ends_with_its_caller(
    tmp_path: Path, store: Store
) -> None:
    async with term(config(tmp_path), store) as (controller, stub):
        await stub.CreateService(web(0, "before"), timeout=60)
        call = stub.ListAudit(audit_pb2.ListAuditRequest(follow=True), timeout=60)
        stream = aiter(call)
        assert [one.object_name for one in (await anext(stream)).records] == ["before"]
        await stub.CreateService(web(0, "after"), timeout=60)
        assert [one.object_name for one in (await anext(stream)).records] == ["after"]
        call.cancel()
        await stub.CreateService(web(0, "later"), timeout=60)
        assert len(controller.current().audit.log) == 3


async def test_events_name_the_caller(tmp_path: Path, store: Store) -> None:
    async with term(config(tmp_path), store) as (_, stub):
        await stub.CreateService(web(0), timeout=60)
        events = [
            event
            async for part in stub.Events(control_pb2.EventsRequest(), timeout=60)
            for event in part.events
        ]
        created = next(event for event in events if event.action == "create")
        assert (created.type, created.name, created.caller) == ("service", "web", "root")
