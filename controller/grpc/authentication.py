"""Who calls: from the certificate, the token or the socket of a connection. SHELL.

One interceptor derives the caller of every call and decides whether it may call the method at all,
before the request is read. If the role of a user does not suffice, the request is read all the
same, within the limits of users: `authorization.py` refuses it, and its record names the object.

Users and nodes exist in the leader's state: a removed one is refused at once. A controller that
does not lead knows of users and nodes only what their certificates say; it answers them with the
leader's address, as the methods themselves do.
"""

import hashlib
import hmac
from collections.abc import Awaitable, Callable, Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import grpc

from controller.api.changes.certificates import require_key
from controller.api.permissions import current
from controller.grpc.admission import caller_of
from controller.grpc.auditing import record_refusal
from controller.grpc.callers import set_caller
from controller.grpc.calls import Context, handler_kind
from controller.grpc.opencalls import Identity, OpenCalls, expired
from controller.grpc.peers import certificate_of, require_fleet, require_private, require_trusted
from controller.identity.ca import Parsed
from controller.identity.caller import ANONYMOUS, ROOT, Caller, CallerKind
from controller.identity.cluster import issuer_key_of, trusted_issuers
from controller.identity.policy import CONTROL, DISPATCHER, HEALTH, authorize
from controller.leader.leadership import Leader, Leadership
from pyswarm_core.clock import Clock, Instant
from pyswarm_core.errors import InvalidArgument, NotFound, PermissionDenied, Unavailable, quoted
from pyswarm_core.identity.tokens import parse_user_token
from pyswarm_core.identity.trust import OUTDATED_KEY
from pyswarm_core.identity.users import UserToken
from pyswarm_core.ids import NodeId
from pyswarm_core.kinds import USER
from pyswarm_core.objects import Cluster, Node

BEARER = "bearer "
_LEAVE = f"{DISPATCHER}Leave"
_SESSION = f"{DISPATCHER}Session"
"""A follower redirects the agent, and the leader itself looks up the node when it opens."""
_RENEWAL = f"{DISPATCHER}RenewCertificate"
"""The request may have a proof that does not depend on the certificate of the connection."""
_MEMBERS = (CallerKind.USER, CallerKind.AGENT)


def never_renewed(_: Node) -> Instant:
    """For fleets whose nodes keep the certificate of their session."""
    return Instant(0)


class Authentication(grpc.aio.ServerInterceptor):  # type: ignore[type-arg] # no generic at run time
    """Sets the caller of each call. `renewed_until` returns the end of a node's newest certificate:
    its open session is valid as long. Who calls on one of `sockets` is root.
    """

    def __init__(
        self,
        leadership: Leadership,
        clock: Clock,
        renewed_until: Callable[[Node], Instant] = never_renewed,
        sockets: Iterable[Path] = (),
    ) -> None:
        self._leadership = leadership
        self._clock = clock
        self._renewed_until = renewed_until
        self._sockets = tuple(sockets)
        self.calls = OpenCalls(clock, self._ends_at, self._require_trusted)
        """Its `changed` is to be called with changed users and nodes."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wrap the handler: it runs as its caller, or not at all."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        method = handler_call_details.method
        make, behaviour = handler_kind(handler)

        async def call(request: Any, context: Context) -> Any:
            identity = self._identity(method, _bearer(handler_call_details), context)
            set_caller(identity.caller)
            denied = _denied(identity.caller, method)
            is_read = identity.caller.role is not None and method.startswith(CONTROL)
            if denied is not None and not is_read:
                raise self._refused(identity.caller, method, denied)
            if self._is_outdated(identity, context):
                context.set_trailing_metadata(((OUTDATED_KEY, "1"),))
            with self.calls.open(identity) if handler.response_streaming else nullcontext():
                try:
                    return await behaviour(request, context)
                except InvalidArgument:  # nothing that can be read
                    if denied is None:
                        raise
                    raise self._refused(identity.caller, method, denied) from None

        return make(
            call,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _refused(self, caller: Caller, method: str, denied: PermissionDenied) -> PermissionDenied:
        """The error, which has a record."""
        record_refusal(self._leadership, caller, method.rpartition("/")[2], denied)
        return denied

    def _identity(self, method: str, bearer: str, context: Context) -> Identity:
        """Raises PermissionDenied, and Unavailable where only the leader can know."""
        peer, certificate = context.peer(), certificate_of(context)
        if certificate is None:
            if peer.startswith("unix:"):
                require_private(self._sockets)
                return Identity(ROOT)
            raise PermissionDenied(
                "this connection has no client certificate: without one of its own a caller uses"
                " the guest certificate of the fleet"
            )
        address = caller_of(peer)
        match certificate.subject.unit:
            case "guest":
                if bearer and not method.startswith(HEALTH):
                    return self._by_token(bearer, address)
                caller = Caller(ANONYMOUS.kind, name=ANONYMOUS.name, address=address)
            case "user":
                caller = self._user(method, certificate, address)
            case "worker":
                caller = self._agent(method, certificate, address)
            case "manager":
                name = certificate.subject.id
                caller = Caller(CallerKind.CONTROLLER, name, name, address=address)
            case unit:
                raise PermissionDenied(f"the certificate has an unknown unit: {quoted(unit)}")
        shown = certificate if caller.kind in _MEMBERS else None
        identity = Identity(caller, certificate.expires_at, caller.token_id, certificate=shown)
        if identity.ends_at <= self._clock.now():
            raise expired(identity, identity.ends_at)
        return identity

    def _is_outdated(self, identity: Identity, context: Context) -> bool:
        """Whether a user's certificate is of a former root, with which no new connection begins
        once the rotation has ended.
        """
        caller = identity.caller
        if caller.kind is not CallerKind.USER or caller.role is None:
            return False
        if identity.shown != "certificate" or (shown := certificate_of(context)) is None:
            return False
        authority = self._leadership.current().state.cluster.ca
        return shown.issuer_key != issuer_key_of(authority)

    def _user(self, method: str, certificate: Parsed, address: str) -> Caller:
        caller_id = certificate.subject.id
        token_id = certificate.subject.token_id
        caller = Caller(CallerKind.USER, caller_id, caller_id, token_id=token_id, address=address)
        if method.startswith(HEALTH):
            return caller
        state = self._leader_of(certificate).state
        require_trusted(certificate, state.cluster)
        return current(caller, state)

    def _agent(self, method: str, certificate: Parsed, address: str) -> Caller:
        node_id = NodeId(certificate.subject.id)
        caller = Caller(CallerKind.AGENT, node_id, node_id, address=address)
        if method == _SESSION or method.startswith(HEALTH):
            return caller
        state = self._leader_of(certificate).state
        node = state.nodes.get(node_id)
        if node is None:
            removed = f"node {quoted(node_id)} was removed from the fleet"
            # A host that leaves has nothing to drain, and leaves all the same.
            raise NotFound(removed) if method == _LEAVE else PermissionDenied(removed)
        if method != _RENEWAL:
            require_trusted(certificate, state.cluster)
            require_key(node, certificate.key_digest)
        return Caller(CallerKind.AGENT, node_id, node.description.hostname, address=address)

    def _leader_of(self, certificate: Parsed) -> Leader:
        leader = self._leadership.current()
        require_fleet(certificate, leader.state.cluster.id)
        return leader

    def _by_token(self, bearer: str, address: str) -> Identity:
        """The user of a token. Errors do not show whether it was the id or the secret that is
        wrong.
        """
        state = self._leadership.current().state
        try:
            given = parse_user_token(bearer)
        except InvalidArgument as error:
            raise PermissionDenied(str(error)) from None
        owner = state.token_owners[given.id]
        user = state.of(USER).get(owner) if owner else None
        known = user.tokens if user else ()
        token = next((one for one in known if one.id == given.id), UserToken(id=""))
        hashed = hashlib.sha256(given.secret.encode()).hexdigest()
        if not hmac.compare_digest(hashed, token.hash) or user is None:
            raise PermissionDenied(
                "the token is not one of this fleet's: it was removed, or is another fleet's"
            )
        spec = user.spec
        caller = Caller(
            CallerKind.USER,
            user.id,
            spec.name,
            spec.role,
            spec.stacks,
            token_id=token.id,
            address=address,
        )
        identity = Identity(caller, token.ends_at, token.id, "token")
        if identity.ends_at <= self._clock.now():
            raise expired(identity, identity.ends_at)
        return identity

    def _require_trusted(self, identity: Identity, cluster: Cluster) -> None:
        """Raise PermissionDenied unless the stream may go on with these roots: an agent's goes on
        if it has renewed its certificate.
        """
        if identity.caller.kind is CallerKind.AGENT:
            node = self._leadership.current().state.nodes.get(NodeId(identity.caller.id))
            if node is not None and node.certificate.issuer in trusted_issuers(cluster):
                return
        require_trusted(identity.certificate, cluster)

    def _ends_at(self, identity: Identity) -> Instant:
        if identity.caller.kind is not CallerKind.AGENT:
            return identity.ends_at
        try:
            node = self._leadership.current().state.nodes.get(NodeId(identity.caller.id))
        except Unavailable:  # its session ends with the term
            return identity.ends_at
        renewed = self._renewed_until(node) if node else Instant(0)
        return max(identity.ends_at, renewed)


def _denied(caller: Caller, method: str) -> PermissionDenied | None:
    try:
        authorize(caller, method)
    except PermissionDenied as error:
        return error
    return None


def _bearer(details: grpc.HandlerCallDetails) -> str:
    """The token in the call's metadata. Several are refused: which one counted for a proxy that
    checks them would be open.
    """
    metadata = details.invocation_metadata or ()
    values = [value for key, value in metadata if key == "authorization"]
    if not values:
        return ""
    if len(values) > 1:
        raise PermissionDenied(f"authorization: expected one value, not {len(values)}")
    value = values[0]
    if not isinstance(value, str) or value[: len(BEARER)].lower() != BEARER:
        raise PermissionDenied("authorization: expected `Bearer TOKEN`")
    return value[len(BEARER) :].strip()
