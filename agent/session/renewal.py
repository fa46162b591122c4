"""Renews this node's certificate, between half and four fifths of its life. SHELL.

The open session goes on: the controller knows the new certificate of its node. The next session
shows it. A host that was offline when its certificate expired proves that it has the key. The new
key is saved before it is requested and used until a request is answered, so that neither a lost
answer nor the end of the agent leaves the host with another key than its node's object names.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import grpc

from agent.session.identity import Certificate, Identity, certificate_of, former, save
from agent.session.keys import Request, new_request, sign
from pyswarm_core.aio.credentials import ClientCredentials, channel, guest
from pyswarm_core.aio.handshake import fetch_chain, peer_chain
from pyswarm_core.aio.logs import EventLog
from pyswarm_core.aio.status import error_of
from pyswarm_core.api.v1 import dispatcher_pb2, dispatcher_pb2_grpc
from pyswarm_core.clock import Backoff
from pyswarm_core.errors import NO_LEADER, InvalidArgument, PyswarmError, Unavailable
from pyswarm_core.identity.tokens import parse_join_token
from pyswarm_core.identity.trust import Trust, ders_of, guest_of

_log = EventLog("agent.session.renewal")

EARLIEST, LATEST = 0.5, 0.8
"""Parts of a certificate's life between which it is renewed, at random: a fleet that joined at once
does not renew at once. As Swarm's.
"""
RENEW_TIMEOUT_S = 10.0
RETRY_FIRST_S = 1.0
RETRY_MAX_S = 60.0
"""Between attempts that fail; never more than a tenth of the certificate's life."""
LOOK_PERIOD_S = 10.0
"""Between two comparisons of the roots while no session begins."""
LEADER_MAX_S, LEADER_POLL_S = 30.0, 0.3
"""How long `rejoin` waits for a leader, and between two attempts: less than `swarm rejoin` does."""


class Renewal:
    """Keeps the certificate of an identity valid."""

    def __init__(self, identity: Identity, controller: Callable[[], str]) -> None:
        self._identity = identity
        self._controller = controller
        """The address of the controller of the open session; empty without one."""
        self._wake = asyncio.Event()
        self._refused_by = ""
        self._looked_at = -LOOK_PERIOD_S

    def roots_changed(self, roots: str) -> None:
        """The controller sent the fleet's roots: a new one issues this node's next certificate."""
        if not roots:
            return
        self._identity.trust(roots)
        if ders_of(roots)[0] != self._identity.certificate.issuer_der:
            self._wake.set()

    def refused(self, controller: str) -> None:
        """No session with this controller began, perhaps because the certificate was refused."""
        now = asyncio.get_running_loop().time()
        if now - self._looked_at >= LOOK_PERIOD_S:
            self._looked_at, self._refused_by = now, controller
            self._wake.set()

    async def run(self) -> None:
        """Renew when it is time, or when the roots have changed, until cancelled."""
        due_in_s = _due_in_s(self._identity.certificate)
        while True:
            until = asyncio.get_running_loop().time() + due_in_s
            with suppress(TimeoutError):
                async with asyncio.timeout_at(until):
                    await self._wake.wait()
            self._wake.clear()
            controller, self._refused_by = self._refused_by, ""
            if controller:
                before = self._identity.certificate
                self._identity.reload()  # `swarm rejoin` may have written another
                if self._identity.certificate != before:
                    due_in_s = _due_in_s(self._identity.certificate)
                    continue
                if not await _is_outdated(before, controller):
                    due_in_s = max(0.0, until - asyncio.get_running_loop().time())
                    continue
            await self._renew()
            due_in_s = _due_in_s(self._identity.certificate)

    async def _renew(self) -> None:
        backoff = Backoff.doubling(RETRY_FIRST_S, RETRY_MAX_S)
        attempt = 0
        while True:
            self._identity.reload()
            certificate = self._identity.certificate
            known = self._identity.controllers
            address = self._controller() or known[attempt % len(known)]
            attempt += 1
            try:
                request = await self._identity.request()
                renewed = await _renewed(address, certificate, request)
            except (PyswarmError, OSError) as error:
                _log.warning("certificate.renew_failed", controller=address, error=error)
                life_s = (certificate.expires_at - certificate.issued_at) / 1e9
                pause_s = min(backoff.next_s(), life_s / 10)
                await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
                continue
            self._identity.renew(renewed)
            _log.info("certificate.renewed", controller=address)
            return


async def rejoin(path: Path, token: str, controllers: tuple[str, ...]) -> None:
    """Get a certificate for the node that this host was, with a join token, from the first of the
    controllers, which may be without a leader for a while. Raises PyswarmError.
    """
    digest = parse_join_token(token).digest
    if not controllers:
        raise InvalidArgument("--rejoin needs --controller HOST:PORT")
    node, request = former(path), await new_request()
    message = dispatcher_pb2.RenewCertificateRequest(
        csr=request.csr, token=token, node_id=node.node_id
    )
    if node.certificate is not None:
        message.former_certificate = node.certificate.chain.encode()
        message.proof = await sign(node.certificate.key.encode(), request.csr)
    address = controllers[0]
    trust = await asyncio.to_thread(fetch_chain, address, digest)
    certificate = await _led(lambda: _requested(address, guest(trust), message, request))
    save(path, node, certificate, address)
    _log.info("node.rejoined", node=node.node_id)


async def _led(attempt: Callable[[], Awaitable[Certificate]]) -> Certificate:
    """The result of the first attempt that a leader answers."""
    give_up_at = time.monotonic() + LEADER_MAX_S
    while True:
        try:
            return await attempt()
        except Unavailable as error:
            if NO_LEADER not in str(error) or time.monotonic() > give_up_at:
                raise
        await asyncio.sleep(LEADER_POLL_S)


def _due_in_s(certificate: Certificate) -> float:
    life = certificate.expires_at - certificate.issued_at
    due_at = certificate.received_at + life * random.uniform(EARLIEST, LATEST)
    return max(0.0, (due_at - time.time_ns()) / 1e9)


async def _renewed(address: str, certificate: Certificate, request: Request) -> Certificate:
    message = dispatcher_pb2.RenewCertificateRequest(csr=request.csr)
    credentials = certificate.credentials
    if _has_expired(certificate) or certificate.issuer_der not in await _ders_of(address):
        credentials = await _guest(address, certificate)
        message.former_certificate = certificate.chain.encode()
        message.proof = await sign(certificate.key.encode(), request.csr)
    return await _requested(address, credentials, message, request)


def _has_expired(certificate: Certificate) -> bool:
    life = certificate.expires_at - certificate.issued_at
    return time.time_ns() >= certificate.received_at + life


async def _is_outdated(certificate: Certificate, controller: str) -> bool:
    """Whether the fleet's CA was rotated while this host was offline."""
    try:
        return certificate.issuer_der not in await _ders_of(controller)
    except PyswarmError:
        return False


async def _ders_of(address: str) -> list[bytes]:
    """The certificates that the controller sends, which nothing has verified."""
    return [one.der for one in await asyncio.to_thread(peer_chain, address)]


async def _guest(address: str, certificate: Certificate) -> ClientCredentials:
    """The guest's credentials. The connection with them verifies the controller."""
    chain = await asyncio.to_thread(peer_chain, address)
    return guest(Trust(certificate.roots.encode(), guest_of(chain, address).pem))


async def _requested(
    address: str,
    credentials: ClientCredentials,
    message: dispatcher_pb2.RenewCertificateRequest,
    request: Request,
) -> Certificate:
    async with channel(address, credentials, aio=True) as connection:
        stub = dispatcher_pb2_grpc.DispatcherStub(connection)
        try:
            reply = await stub.RenewCertificate(message, timeout=RENEW_TIMEOUT_S)
        except grpc.RpcError as error:
            refused: PyswarmError = error_of(error)
            raise refused from error
    return certificate_of(reply, request)
