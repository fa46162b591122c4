"""Requested changes and their callers. SHELL.

A request waits for the next turn, then for the store. Its caller gets the answer, an error, or
after SUBMIT_TIMEOUT_S an error that says that the change may still happen.
"""

import asyncio
from collections import deque
from typing import Any, TypeVar

import msgspec

from controller.brain.slices import Slices
from controller.identity.audit import signed
from controller.identity.caller import Caller
from controller.leader.leadership import Mutation, in_slices
from controller.store.base import StoreFull
from pyswarm_core.clock import Instant
from pyswarm_core.decision import Writes
from pyswarm_core.errors import Exhausted, Unavailable
from pyswarm_core.ids import IdSource
from pyswarm_core.limits import REQUESTS_WAITING
from pyswarm_core.state import State

SUBMIT_TIMEOUT_S = 10.0

T = TypeVar("T")


class Request(msgspec.Struct):
    """A change, its caller, and the future of its answer."""

    mutation: Mutation[Any]
    caller: Caller
    verb: str
    """As on the command line; empty: derived from what the change writes."""
    answer: asyncio.Future[Any]

    def decided(self, state: State, now: Instant, ids: IdSource) -> Slices[tuple[Writes, Any]]:
        """What to write, with the caller as the author, and the answer. Raises to reject."""
        writes, result = yield from in_slices(self.mutation(state, now, ids))
        return signed(state, writes, result, self.caller)


class Requests:
    """The requests of one term."""

    def __init__(self) -> None:
        self._waiting: deque[Request] = deque()
        self._unanswered: dict[asyncio.Future[Any], None] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, mutation: Mutation[T], caller: Caller, verb: str = "") -> "asyncio.Future[T]":
        """Queue the request. Raises Exhausted if too many are queued."""
        if len(self._waiting) >= REQUESTS_WAITING:
            raise Exhausted(
                f"{REQUESTS_WAITING} changes of all users wait already: try again later"
            )
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append(Request(mutation, caller, verb, answer))
        self._unanswered[answer] = None
        return answer

    def take(self) -> Request:
        """Remove and return the oldest request. There is one."""
        return self._waiting.popleft()

    def put_back(self, request: Request) -> None:
        """Make a request that was taken the oldest one again."""
        self._waiting.appendleft(request)

    async def answered(self, answer: "asyncio.Future[T]") -> T:
        """The answer to a request that was added. Raises what it raised, or Unavailable."""
        try:
            async with asyncio.timeout(SUBMIT_TIMEOUT_S):
                return await answer
        except TimeoutError:
            raise Unavailable(
                f"the store did not confirm within {SUBMIT_TIMEOUT_S:g} s: "
                "the change may still happen"
            ) from None
        finally:
            del self._unanswered[answer]

    def fail(self, error: Unavailable) -> None:
        """Fail all requests that were added and not answered."""
        for answer in self._unanswered:
            if not answer.done():
                answer.set_exception(error)


def store_full(error: StoreFull | str) -> Unavailable:
    """The error for users while the store takes no writes."""
    return Unavailable(f"nothing can be changed while the store has no space: {error}")
