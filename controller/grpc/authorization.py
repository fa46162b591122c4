"""What a caller may request: checks each request of users with its fields. SHELL.

The innermost interceptor: the request has been read and decoded, and the call counts against its
caller's limits. Changes are checked again on the state that they change, and byte streams on the
task that they are about.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from controller.api.permissions import authorize_request, authorize_task, current
from controller.brain.slices import finish
from controller.grpc.callers import current_caller, set_check, set_task_check
from controller.grpc.calls import Context, handler_kind
from controller.identity.caller import CallerKind
from controller.identity.policy import CONTROL, Named, authorize
from controller.leader.leadership import Leadership
from pyswarm_core.objects import Task
from pyswarm_core.state import State

_NO_OBJECTS = (Named.NOTHING, Named.FLEET)
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
            await self._authorize(method, request)
            return await behaviour(request, context)

        return make(
            call,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    async def _authorize(self, method: str, request: Any) -> None:
        caller = current_caller()
        if caller.kind is CallerKind.ROOT and authorize(caller, method).named in _NO_OBJECTS:
            return  # a controller that does not lead answers some of these itself
        leader = self._leadership.current()
        work = authorize_request(current(caller, leader.state), method, request, leader.state)
        if caller.stacks or authorize(caller, method).named in _LOOKED_UP:
            await leader.watches.runner.run(work)
        else:
            finish(work)

        def check(state: State) -> None:
            now = current(caller, state)
            if authorize(now, method).named is not Named.TASK:  # found by comparing many ids
                finish(authorize_request(now, method, request, state))

        def check_task(state: State, task: Task) -> None:
            authorize_task(current(caller, state), method, task, state)

        set_check(check)
        set_task_check(check_task)
