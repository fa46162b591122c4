"""What a caller may request: checks each request of users with its fields. SHELL.

The innermost interceptor: the request has been read and decoded, and the call counts against its
caller's limits. A handler gets a request that names the objects that were looked up here by their
ids, so that it acts on no others. Changes are checked again on the state that they change.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import grpc

from controller.api.permissions import authorize_request, current, sees
from controller.api.queries.lookup import Ambiguous
from controller.brain.slices import Slices, finish
from controller.grpc.callers import current_caller, set_check
from controller.grpc.calls import Context, cause_of, handler_kind
from controller.identity.caller import Caller, CallerKind
from controller.identity.policy import CONTROL, Named, authorize
from controller.leader.leadership import Leadership
from pyswarm_core.errors import Taken
from pyswarm_core.state import State

_NO_OBJECTS = (Named.NOTHING, Named.FLEET)
_LOOKED_UP = (Named.PROGRAM, Named.FILES, Named.NEW_STACK)
"""Objects are looked up also for callers that are not limited to stacks, unless they are admins;
that may take many slices."""


class Authorization(grpc.aio.ServerInterceptor):  # type: ignore[type-arg] # no generic at run time
    """Refuses requests that the policy does not allow."""

    def __init__(self, leadership: Leadership) -> None:
        self._leadership = leadership

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wrap the handler of a method of users."""
        handler, method = await continuation(handler_call_details), handler_call_details.method
        if handler is None or not method.startswith(CONTROL):
            return handler
        make, behaviour = handler_kind(handler)

        async def call(request: Any, context: Context) -> Any:
            caller = current_caller()
            try:
                return await behaviour(await self._authorized(caller, method, request), context)
            except Exception as raised:
                error = cause_of(raised)
                if caller.stacks and isinstance(error, (Ambiguous, Taken)):
                    state = self._leadership.current().state
                    raise error.among(partial(sees, caller, state)) from None
                raise

        return make(
            call,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    async def _authorized(self, caller: Caller, method: str, request: Any) -> Any:
        """The request to serve."""
        if caller.kind is CallerKind.ROOT and authorize(caller, method).named in _NO_OBJECTS:
            return request  # a controller that does not lead answers some of these itself
        leader = self._leadership.current()
        work = authorize_request(current(caller, leader.state), method, request, leader.state)
        if caller.stacks or authorize(caller, method).named in _LOOKED_UP:
            authorized = await leader.watches.runner.run(work)
        else:
            authorized = finish(work)

        def check(state: State) -> Slices[object]:
            return authorize_request(current(caller, state), method, authorized, state)

        set_check(check)
        return authorized
