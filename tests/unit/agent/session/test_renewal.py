"""When an agent renews its certificate, from whom, and what it shows."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from msgspec.structs import replace

from agent.session import renewal as module
from agent.session.identity import Certificate, Identity
from agent.session.renewal import Renewal, rejoin
from controller.grpc.peers import certificate_of
from controller.identity import ca
from controller.identity.ca import Subject, Unit
from controller.identity.cluster import issuer_of
from controller.identity.rotation import begun
from pyswarm_core.api.v1 import dispatcher_pb2, dispatcher_pb2_grpc
from pyswarm_core.clock import HOUR, SECOND, Instant
from pyswarm_core.errors import NO_LEADER, PermissionDenied, Unavailable
from tests.fixtures.identity import FLEET, LIFETIME, Pki, another, identity_in, present
from tests.fixtures.servers import tls_server


class Office(dispatcher_pb2_grpc.DispatcherServicer):
    """Renews whatever is asked for, and notes what was shown."""

    def __init__(self, pki: Pki = FLEET) -> None:
        self.pki = pki
        self.callers: list[Subject] = []
        self.requests: list[dispatcher_pb2.RenewCertificateRequest] = []
        self.refuses = 0
        self.loses = 0
        """Answers that do not arrive."""
        self.leaderless = 0
        """Requests that nobody decides."""

    def RenewCertificate(
        self, request: dispatcher_pb2.RenewCertificateRequest, context: Any
    ) -> dispatcher_pb2.Certificate:
        caller = certificate_of(context)
        assert caller
        self.callers.append(caller.subject)
        self.requests.append(request)
        if self.leaderless:
            self.leaderless -= 1
            raise Unavailable(f"this controller does not lead: {NO_LEADER}")
        if self.refuses:
            self.refuses -= 1
            raise PermissionDenied("not now")
        subject = Subject(Unit.WORKER, "n1", self.pki.cluster.id)
        now = present()
        issued = issuer_of(self.pki.cluster.ca).issue(request.csr, subject, LIFETIME, now)
        if self.loses:
            self.loses -= 1
            raise Unavailable("the connection broke")
        return dispatcher_pb2.Certificate(
            chain=issued.pem,
            roots=self.pki.roots.encode(),
            issued_at=now,
            expires_at=issued.expires_at,
        )


@asynccontextmanager
async def office(pki: Pki = FLEET) -> AsyncIterator[tuple[Office, str]]:
    found = Office(pki)  # type: ignore[abstract]
    add = dispatcher_pb2_grpc.add_DispatcherServicer_to_server
    with tls_server(pki, lambda server: add(found, server)) as address:
        yield found, address


@asynccontextmanager
async def renewing(identity: Identity, controller: str = "") -> AsyncIterator[Renewal]:
    found = Renewal(identity, lambda: controller)
    task = asyncio.create_task(found.run())
    try:
        async with asyncio.timeout(60):
            yield found
    finally:
        task.cancel()


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110  # it tells nobody
        await asyncio.sleep(0.005)


def aged(tmp_path: Path, part: float, *controllers: str) -> Identity:
    """An identity whose certificate has had this part of its life."""
    issued_at = Instant(int(present() - part * LIFETIME))
    credentials = FLEET.node("n1", now=issued_at)
    return identity_in(tmp_path, *controllers, credentials=credentials, issued_at=issued_at)


async def test_it_shows_its_certificate_and_keeps_key_and_certificate_together(
    tmp_path: Path,
) -> None:
    async with office() as (found, address):
        identity = aged(tmp_path, 0.9, address)
        first = identity.certificate
        async with renewing(identity):
            await until(lambda: identity.certificate != first)
    newer = identity.certificate
    assert found.callers == [Subject(Unit.WORKER, "n1", FLEET.cluster.id)]
    (request,) = found.requests
    assert (request.former_certificate, request.proof) == (b"", b"")
    key = serialization.load_pem_private_key(newer.key.encode(), None)
    requested = ca.public_key_of(request.csr)
    assert key.public_key() == requested
    assert ca.parse(newer.chain.encode()).key_digest == ca.key_digest(requested)
    saved = Identity.load(tmp_path / "identity.json")
    assert saved
    assert saved.certificate == newer
    assert (tmp_path / "identity.json").stat().st_mode & 0o777 == 0o600
    assert "PRIVATE" not in repr(newer)


def test_it_is_due_between_half_and_four_fifths_of_the_life() -> None:
    now = present()
    certificate = Certificate(
        key="",
        chain="",
        roots="",
        issuer="",
        issued_at=Instant(5 * HOUR),  # another clock's
        expires_at=Instant(105 * HOUR),
        received_at=now,
    )
    due = [module._due_in_s(certificate) * SECOND / HOUR for _ in range(200)]
    assert 49.9 < min(due) < 55
    assert 75 < max(due) < 80.1


async def test_an_expired_certificate_is_proven_by_its_key(tmp_path: Path) -> None:
    async with office() as (found, address):
        identity = aged(tmp_path, 1.5, address)
        first = identity.certificate
        async with renewing(identity):
            await until(lambda: identity.certificate != first)
    assert [caller.unit for caller in found.callers] == [Unit.GUEST]
    (request,) = found.requests
    assert request.former_certificate.decode() == first.chain
    ca.require_proof(request.former_certificate, request.csr, request.proof)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts follow each other at once."""
    monkeypatch.setattr(module, "RETRY_FIRST_S", 0.01)
    monkeypatch.setattr(module, "RETRY_MAX_S", 0.02)
    monkeypatch.setattr(module, "LOOK_PERIOD_S", 0.0)
    monkeypatch.setattr(module, "LEADER_POLL_S", 0.01)


@pytest.mark.usefixtures("hasty")
async def test_after_a_lost_answer_the_same_key_is_requested_again(tmp_path: Path) -> None:
    async with office() as (found, address):
        found.loses = 2
        identity = aged(tmp_path, 0.9, address)
        first = identity.certificate
        async with renewing(identity):
            await until(lambda: identity.certificate != first)
        assert len({request.csr for request in found.requests}) == 1
        assert len(found.requests) == 3
        # The next renewal has a new key.
        assert (await identity.request()).csr != found.requests[0].csr


@pytest.mark.usefixtures("hasty")
async def test_a_killed_agent_requests_the_same_key_again(tmp_path: Path) -> None:
    async with office() as (found, address):
        found.loses = 1_000
        async with renewing(aged(tmp_path, 0.9, address)):
            await until(lambda: found.requests)
        lost = found.requests[0].csr
        restarted = Identity.load(tmp_path / "identity.json")
        assert restarted
        first = restarted.certificate
        found.loses = 0
        found.requests.clear()
        async with renewing(restarted):
            await until(lambda: restarted.certificate != first)
    assert [request.csr for request in found.requests] == [lost]
    key = serialization.load_pem_private_key(restarted.certificate.key.encode(), None)
    assert key.public_key() == ca.public_key_of(lost)


@pytest.mark.usefixtures("hasty")
async def test_a_host_that_missed_a_rotation_proves_its_key(tmp_path: Path) -> None:
    former = another(FLEET.cluster.id)
    rotated = Pki(replace(begun(former.cluster, present()), former_roots=()))
    async with office(rotated) as (found, address):
        identity = identity_in(tmp_path, address, credentials=former.node("n1"), pki=former)
        first = identity.certificate
        async with renewing(identity) as renewal:
            renewal.refused(address)
            await until(lambda: identity.certificate != first)
    assert [caller.unit for caller in found.callers] == [Unit.GUEST]
    (request,) = found.requests
    ca.require_proof(request.former_certificate, request.csr, request.proof)
    assert identity.certificate.issuer == rotated.cluster.ca.certificate


@pytest.mark.usefixtures("hasty")
async def test_a_controller_that_is_away_makes_nobody_renew(tmp_path: Path) -> None:
    async with office() as (found, address):
        identity = aged(tmp_path, 0.0, address)
        first = identity.certificate
        async with renewing(identity) as renewal:
            for controller in (address, "127.0.0.1:9"):
                renewal.refused(controller)
                await asyncio.sleep(0.1)
        assert found.requests == []
        assert identity.certificate == first


@pytest.mark.usefixtures("hasty")
async def test_a_certificate_of_swarm_rejoin_is_used_without_a_restart(tmp_path: Path) -> None:
    identity = aged(tmp_path, 0.0, "127.0.0.1:9")
    async with renewing(identity) as renewal:
        newer = identity_in(tmp_path).certificate
        assert identity.certificate != newer
        renewal.refused("127.0.0.1:9")
        await until(lambda: identity.certificate == newer)


async def test_it_tries_all_controllers_until_one_agrees(tmp_path: Path) -> None:
    async with office() as (found, address):
        found.refuses = 1
        # The first controller is away, the second has the CA of another fleet.
        async with office(another(FLEET.cluster.id)) as (false, its_address):
            identity = aged(tmp_path, 0.9, "127.0.0.1:9", its_address, address)
            first = identity.certificate
            short = pytest.MonkeyPatch()
            short.setattr(module, "RETRY_FIRST_S", 0.01)
            short.setattr(module, "RETRY_MAX_S", 0.02)
            with short.context():
                async with renewing(identity):
                    await until(lambda: identity.certificate != first)
            short.undo()
    assert len(found.requests) == 2
    assert false.requests == []


async def test_the_controller_of_the_session_is_asked_first(tmp_path: Path) -> None:
    async with office() as (found, address):
        identity = aged(tmp_path, 0.9, "127.0.0.1:9")
        first = identity.certificate
        async with renewing(identity, address):
            await until(lambda: identity.certificate != first)
    assert len(found.requests) == 1


async def test_a_new_root_is_trusted_at_once_and_brings_another_certificate(
    tmp_path: Path,
) -> None:
    async with office() as (found, address):
        identity = aged(tmp_path, 0.0, address)
        first = identity.certificate
        async with renewing(identity) as renewal:
            for same in ("", FLEET.roots):
                renewal.roots_changed(same)
            await asyncio.sleep(0.05)
            assert found.requests == []
            assert identity.certificate == first
            both = another(FLEET.cluster.id).roots + FLEET.roots
            renewal.roots_changed(both)
            assert identity.certificate.roots == both
            await until(lambda: found.requests)
            await until(lambda: identity.certificate.key != first.key)


@pytest.mark.usefixtures("hasty")
async def test_a_rejoin_waits_for_a_leader(tmp_path: Path) -> None:
    async with office() as (found, address):
        found.leaderless = 3
        first = aged(tmp_path, 0.9, address).certificate
        await rejoin(tmp_path / "identity.json", FLEET.token, (address,))
    assert len(found.requests) == 4
    saved = Identity.load(tmp_path / "identity.json")
    assert saved
    assert saved.certificate.key != first.key


@pytest.mark.usefixtures("hasty")
async def test_a_rejoin_ends_without_a_leader_and_at_any_other_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with office() as (found, address):
        aged(tmp_path, 0.9, address)
        found.loses = 1
        with pytest.raises(Unavailable, match="the connection broke"):
            await rejoin(tmp_path / "identity.json", FLEET.token, (address,))
        assert len(found.requests) == 1
        monkeypatch.setattr(module, "LEADER_MAX_S", 0.0)
        found.leaderless = 1_000
        with pytest.raises(Unavailable, match=NO_LEADER):
            await rejoin(tmp_path / "identity.json", FLEET.token, (address,))
