"""What the audit log needs of calls: the verb of each, and which were refused. SHELL.

The loop makes the records of changes; it gets the verb with the change. An interceptor around the
servicers records the changes of known callers that failed, every call that was denied, and actions
that change no stored object, such as a signal.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from types import MappingProxyType
from typing import Any

import grpc

from controller.api.queries.lookup import find
from controller.grpc.callers import current_caller
from controller.grpc.calls import Context, cause_of, handler_kind
from controller.identity.audit import UPDATE, update_verb
from controller.identity.caller import Caller, CallerKind
from controller.identity.policy import CONTROL
from controller.leader.leadership import Leadership
from pyswarm_core.codec import from_proto
from pyswarm_core.errors import Exhausted, PermissionDenied, PyswarmError, Unavailable
from pyswarm_core.kinds import KINDS, SERVICE
from pyswarm_core.specs import ServiceSpec
from pyswarm_core.state import State
from pyswarm_core.streams.requests import ALL_OPERATIONS

UNLOCK = "swarm unlock"
"""Of a locked controller, which records it once it leads."""
CHANGES: Mapping[str, str] = MappingProxyType(
    {
        "CreateService": "service create",
        "UpdateService": "service update",
        "RemoveService": "service rm",
        "RollbackService": "service rollback",
        "RestartTask": "task restart",
        "UpdateNode": "node update",
        "RemoveNode": "node rm",
        "CreateNetwork": "network create",
        "CreateVolume": "volume create",
        "MoveVolume": "volume move",
        "CancelVolumeMove": "volume move --cancel",
        "ForgetVolume": "volume forget",
        "CreateSecret": "secret create",
        "UpdateSecret": "secret update",
        "CreateConfig": "config create",
        "UpdateConfig": "config update",
        "ApplyStack": "stack deploy",
        "RollbackStack": "stack rollback",
        "RemoveStack": "stack rm",
        "CreateUser": "user create",
        "UpdateUser": "user update",
        "CreateUserToken": "user token",
        "RemoveUserToken": "user token rm",
        "UpdateCluster": "swarm update",
        "RotateCa": "swarm ca --rotate",
        "RotateJoinToken": "swarm join-token --rotate",
        "RemoveObject": "",
    }
)
"""The verbs of calls that change objects, as on the command line. Empty: `KIND rm`."""
ACTIONS: Mapping[str, str] = MappingProxyType(
    {
        "SignalTask": "task signal",
        "Top": "container top",
        "PauseContainer": "container pause",
        "UnpauseContainer": "container unpause",
        "Exec": "exec",
        "Attach": "attach",
        "PortForward": "port-forward",
        "CopyOut": "cp",
        "CopyIn": "cp",
        "Export": "export",
        "ReadVolume": "volume backup",
        "WriteVolume": "volume restore",
        "WriteRegistry": "image push",
        "CollectRegistry": "system prune",
        "PullImage": "image pull",
        "RemoveImage": "image rm",
        "PruneImages": "image prune",
        "SaveImage": "image save",
        "BuildImage": "image build",
        "PushImage": "image push",
        "IssueUserCertificate": "user certificate",
        "GetJoinToken": "swarm join-token",
        "GetScrapeToken": "swarm scrape-token",
        "GetUnlockKey": "swarm unlock-key",
        "Unlock": UNLOCK,
    }
)
"""The verbs of calls that act on hosts or disclose a credential, and change no stored object."""
BEGUN = frozenset(one.method for one in ALL_OPERATIONS)
"""Those of them that are recorded when they begin, with what was requested."""
ROTATIONS: Mapping[str, str] = MappingProxyType(
    {
        "GetScrapeToken": "swarm scrape-token --rotate",
        "GetUnlockKey": "swarm unlock-key --rotate",
    }
)
"""Those of them that are changes if the request has `rotate`."""
READS = frozenset(
    {
        "GetInfo",
        "GetService",
        "ListServices",
        "WatchService",
        "ListTasks",
        "ListContainers",
        "GetContainer",
        "Why",
        "TaskChecks",
        "Changes",
        "WaitContainer",
        "GetNode",
        "ListNodes",
        "GetNetwork",
        "TraceNetwork",
        "GetVolumeMoves",
        "GetObject",
        "ListObjects",
        "ListUserTokens",
        "GetCa",
        "Events",
        "ListAudit",
        "Logs",
        "Stats",
        "ListImages",
        "InspectImage",
        "ReadRegistry",
        "ListRegistry",
        "GetRegistryUsage",
    }
)
"""Calls of users that change nothing: they have a record only if they are denied."""
JOIN = "swarm join"
REJOIN = "swarm rejoin"
LEAVE = "swarm leave"

_UNKNOWN = (CallerKind.ANONYMOUS, CallerKind.CONTROLLER)
_NAMES = ("ref", "reference", "name")
"""Fields of requests that name an object."""
_verb: ContextVar[str] = ContextVar("verb", default="")


def current_verb() -> str:
    """The verb of the current call; empty: it follows from what the call changes."""
    return _verb.get()


class Auditing(grpc.aio.ServerInterceptor):  # type: ignore[type-arg] # no generic at run time
    """Sets the verb of each call, and records what was refused. Inside of the interceptors that
    authenticate and admit calls, outside of those that look at the request.
    """

    def __init__(self, leadership: Leadership) -> None:
        self._leadership = leadership

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wrap the handler of a call with one request."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or (handler.request_streaming and not method.startswith(CONTROL)):
            return handler
        make, behaviour = handler_kind(handler)
        name = method.rpartition("/")[2]

        async def call(request: Any, context: Context) -> Any:
            is_rotation = name in ROTATIONS and request.rotate
            _verb.set(ROTATIONS[name] if is_rotation else _verb_of(name, request))
            try:
                answer = await behaviour(request, context)
            except Exception as raised:
                error = cause_of(raised)
                if isinstance(error, PyswarmError):
                    record_refusal(self._leadership, current_caller(), name, error, request)
                raise
            if name in ACTIONS and name not in BEGUN and not is_rotation:
                with suppress(Unavailable):  # it ceased to lead meanwhile
                    leader = self._leadership.current()
                    leader.audit.note(current_caller(), ACTIONS[name], ref_of(request))
            return answer

        return make(
            call,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )


def record_refusal(
    leadership: Leadership, caller: Caller, name: str, error: PyswarmError, request: Any = None
) -> None:
    """Record that the call of that RPC failed, if its caller is known and it was to change
    something or was denied. Without a request it was denied unread. A call that failed for lack of
    a leader or of room has no record: its change may have happened.
    """
    is_denied = isinstance(error, PermissionDenied)
    if caller.kind in _UNKNOWN or isinstance(error, Unavailable | Exhausted):
        return
    if name in READS and not is_denied:
        return
    try:
        leader = leadership.current()
    except Unavailable:
        return
    verb = current_verb() or verb_of(name)
    ref = "" if request is None else ref_of(request)
    named = _by_name(leader.state, verb, ref)
    if name == "UpdateService" and request is not None:
        leader.audit.refuse(caller, partial(_update_verb, leader.state, request), error, named)
    else:
        leader.audit.refuse(caller, verb, error, named)


def _update_verb(state: State, request: Any) -> str:
    """The command that would have made a refused update."""
    try:
        old = find(state, SERVICE, request.ref).spec
        return update_verb(old, from_proto(ServiceSpec, request.spec))
    except Exception:  # a decoder names no class for all that it rejects
        return UPDATE


def _verb_of(name: str, request: Any) -> str:
    """The verb of a change; of an object of any kind `KIND rm`."""
    if name == "RemoveObject" and request.kind in KINDS:
        return f"{request.kind} rm"
    return CHANGES.get(name, "")


def _by_name(state: State, verb: str, ref: str) -> str:
    """The reference by the object's name: commands that read an object first send its id."""
    kind = KINDS.get(verb.partition(" ")[0])
    item = state.of(kind).get(ref) if kind else None
    return kind.title(item) if kind and item else ref


def verb_of(name: str) -> str:
    """The verb of an RPC, for a call that was refused; the RPC's name if it has no verb."""
    return CHANGES.get(name) or ACTIONS.get(name) or name


def ref_of(request: Any) -> str:
    """The object that a request names, in the caller's words; empty if it names none."""
    kind = getattr(request, "kind", "")
    for holder in (request, getattr(request, "spec", None)):
        for field in _NAMES:
            value = getattr(holder, field, "")
            if isinstance(value, str) and value:
                return f"{kind}/{value}" if isinstance(kind, str) and kind else value
    return ""
