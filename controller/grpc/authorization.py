"""What a caller may request: checks each request of users with its fields. SHELL.

The innermost interceptor: the request has been read and decoded, and the call counts against its
caller's limits. Changes are checked again on the state that they change, and byte streams on the
task that they are about.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from controller.api.permissions import authorize_found, authorize_request, current
from controller.brain.slices import finish
from controller.grpc.callers import (
    current_caller,
    is_found_checked,
    set_check,
    set_found_check,
)
from controller.grpc.calls import Context, handler_kind
from controller.identity.caller import CallerKind
from controller.identity.policy import CONTROL, Named, authorize
from controller.leader.leadership import Leadership
from pyswarm_core.objects import Service, Task
from pyswarm_core.state import State

_NO_OBJECTS = (Named.NOTHING, Named.FLEET)
_FOUND_LATER = (Named.TASK, Named.TARGET)
"""The use case looks up the task, which may take many slices, and checks what it found."""
_LOOKED_UP = (Named.PROGRAM, Named.FILES)
"""Of every caller the task is looked up, which may take many slices."""


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
            named = await self._authorize(method, request)
            answer = await behaviour(request, context)
            assert named not in _FOUND_LATER or is_found_checked(), f"{method} checked nothing"
            return answer

        return make(
            call,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    async def _authorize(self, method: str, request: Any) -> Named:
        """What the request names."""
        caller = current_caller()
        named = authorize(caller, method).named
        if caller.kind is CallerKind.ROOT and named in _NO_OBJECTS:
            return named  # a controller that does not lead answers some of these itself
        leader = self._leadership.current()

        def check(state: State) -> None:
            now = current(caller, state)
            authorize(now, method)
            if named not in _FOUND_LATER:
                finish(authorize_request(now, method, request, state))

        def check_found(state: State, found: Service | Task) -> None:
            authorize_found(current(caller, state), method, found, state)

        set_check(check)
        set_found_check(check_found)
        if named not in _FOUND_LATER and (caller.stacks or named in _LOOKED_UP):
            now = current(caller, leader.state)
            await leader.watches.runner.run(authorize_request(now, method, request, leader.state))
        else:
            check(leader.state)
        return named
