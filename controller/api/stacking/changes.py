"""Requests to change stacks, and the work that a change leaves to the leader. SHELL: waits.

Images are looked up before the change is decided. What a change leaves undone is derived from the
stored stack, so that any leader continues it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Container, Sequence
from typing import Any, NamedTuple

from msgspec.structs import replace

from controller.api.images.digests import pinned_all
from controller.api.stacking.apply import apply_stack
from controller.api.stacking.finish import finish_stack, remove_stack, rollback_stack, settled
from controller.api.stacking.meaning import written_image
from controller.brain.slices import Slices
from controller.identity.caller import CONTROLLER
from controller.leader.leadership import Leader, Mutation
from pyswarm_core.aio.logs import EventLog
from pyswarm_core.clock import Instant
from pyswarm_core.decision import Writes
from pyswarm_core.errors import PyswarmError, Unavailable, invalid
from pyswarm_core.ids import IdSource
from pyswarm_core.kinds import STACK
from pyswarm_core.objects import Version
from pyswarm_core.specs import ServiceSpec
from pyswarm_core.stacks.changes import ApplyStack, ResolveImage, StackReply
from pyswarm_core.stacks.stack import Stack, StackId
from pyswarm_core.state import State

_log = EventLog("controller.stacks")

LOOK_PERIOD_S = 0.5
LOG_PERIOD_S = 60.0
Submit = Callable[[Mutation[Any]], Awaitable[Any]]
Routes = Sequence[str]
Answer = Slices[tuple[Writes, StackReply]]


class Rollback(NamedTuple):
    """A request to return to an earlier version of a stack."""

    ref: str
    to: int = 0
    """0: the one before."""
    dry_run: bool = False


async def applied(
    leader: Leader, request: ApplyStack, routes: Routes, submit: Submit
) -> StackReply:
    """Apply a stack. Raises as `apply_stack`, and InvalidArgument for `resolve_image`."""
    request, warnings = await _with_digests(leader, request)
    unfinished = dict[StackId, None]()

    def change(state: State, now: Instant, ids: IdSource) -> Answer:
        _find_unfinished(state, unfinished)
        return apply_stack(state, request, routes, now, ids)

    reply = replace(await submit(change), warnings=warnings)
    return _shown(reply) if request.dry_run else await _settled(leader, reply, unfinished)


async def rolled_back(
    leader: Leader, wanted: Rollback, routes: Routes, submit: Submit
) -> StackReply:
    """Return to an earlier version of a stack. Raises as `rollback_stack`."""
    unfinished = dict[StackId, None]()

    def change(state: State, now: Instant, ids: IdSource) -> Answer:
        _find_unfinished(state, unfinished)
        return rollback_stack(
            state, wanted.ref, wanted.to, routes, now=now, ids=ids, dry_run=wanted.dry_run
        )

    reply: StackReply = await submit(change)
    return _shown(reply) if wanted.dry_run else await _settled(leader, reply, unfinished)


async def removed(leader: Leader, ref: str, submit: Submit, *, volumes: bool) -> StackReply:
    """Begin to remove a stack. Raises NotFound."""
    reply: StackReply = await submit(
        lambda state, now, ids: remove_stack(state, ref, now, ids, volumes=volumes)
    )
    if reply.stack is not None:
        await _finish(leader, reply.stack, ())
    return _shown(reply)


async def finish_stacks(leader: Leader, routes: Callable[[], Routes]) -> None:
    """Complete changes of stacks that this leader or one before has begun, until cancelled."""
    looked: dict[StackId, Version] = {
        one.id: one.version for one in leader.state.of(STACK).values()
    }
    while True:
        stacks = [one for one in leader.state.of(STACK).values() if one.is_unfinished]
        for stack in stacks:
            if stack.applying and looked.get(stack.id) != stack.version:
                continue  # whoever applies it settles it
            try:
                await _finish(leader, stack, routes())
            except Unavailable as error:  # such as a store without space
                name = stack.spec.name
                _log.warning("stack.waits", every_s=LOG_PERIOD_S, stack=name, error=error)
            except PyswarmError as error:
                name = stack.spec.name
                _log.warning("stack.incomplete", every_s=LOG_PERIOD_S, stack=name, error=error)
            except Exception as error:  # a bug: the next leader would meet it, too
                name = stack.spec.name
                _log.error("stack.broke", trace=True, every_s=LOG_PERIOD_S, stack=name, error=error)
        looked = {one.id: one.version for one in stacks}
        await asyncio.sleep(LOOK_PERIOD_S)


async def _finish(leader: Leader, stack: Stack, routes: Routes) -> None:
    await leader.submit(
        lambda state, now, ids: finish_stack(
            state, stack.id, routes, now, ids, stored=stack.version
        ),
        CONTROLLER,
    )


def _find_unfinished(state: State, found: dict[StackId, None]) -> None:
    """The stacks of which a leader before may have stored a part."""
    found.clear()
    found.update((one.id, None) for one in state.of(STACK).values() if one.applying)


def _shown(reply: StackReply) -> StackReply:
    stack = reply.stack
    return reply if stack is None else replace(reply, stack=STACK.shown(stack))


async def _settled(leader: Leader, reply: StackReply, unfinished: Container[StackId]) -> StackReply:
    """The store has the change. The answer has the stack as it is now. What an earlier change of
    it has left to do, `finish_stacks` does.
    """
    stack = reply.stack
    if stack is None:
        return reply
    if stack.applying and stack.id not in unfinished:
        await leader.submit(
            lambda state, now, ids: settled(state, stack.id, stack.version), CONTROLLER
        )
    return _shown(replace(reply, stack=leader.state.of(STACK).get(stack.id, stack)))


async def _with_digests(leader: Leader, request: ApplyStack) -> tuple[ApplyStack, tuple[str, ...]]:
    """The request with the digests of its images."""
    word = request.resolve_image or ResolveImage.ALWAYS.value
    if word not in tuple(ResolveImage):
        words = ", ".join(ResolveImage)
        raise invalid("--resolve-image", word, f"expected one of {words}")
    spec = request.spec
    asked = [one for one in spec.services if _is_asked(leader.state, request, one, word)]
    if not asked:
        return request, ()
    pinned, warnings = await pinned_all(leader, asked, request.logins)
    found = {one.name: one for one in pinned}
    services = tuple(found.get(one.name, one) for one in spec.services)
    return replace(request, spec=replace(spec, services=services)), warnings


def _is_asked(state: State, request: ApplyStack, spec: ServiceSpec, word: str) -> bool:
    if word == ResolveImage.NEVER or (request.services and spec.name not in request.services):
        return False
    known = state.service_of_name.get(spec.name)
    if word == ResolveImage.ALWAYS or known is None:
        return True
    return written_image(state.services[known].spec) != written_image(spec)
