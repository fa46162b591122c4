"""The caller of the current call. SHELL: context variables, which `authentication.py` and
`authorization.py` set and every task of the call inherits.
"""

from collections.abc import Callable
from contextvars import ContextVar
from typing import TypeVar

from controller.brain.slices import Slices
from controller.identity.caller import ANONYMOUS, Caller
from controller.leader.leadership import Mutation, in_slices
from pyswarm_core.clock import Instant
from pyswarm_core.decision import Writes
from pyswarm_core.ids import IdSource
from pyswarm_core.state import State

T = TypeVar("T")
Check = Callable[[State], Slices[object]]
"""Raises an error unless the caller may still make its request."""


def _allows(_: State) -> Slices[object]:
    yield from ()
    return None


_caller: ContextVar[Caller] = ContextVar("caller", default=ANONYMOUS)
_check: ContextVar[Check] = ContextVar("check", default=_allows)


def current_caller() -> Caller:
    """Who made the current call."""
    return _caller.get()


def set_caller(caller: Caller) -> None:
    """The current call is this caller's."""
    _caller.set(caller)


def set_check(check: Check) -> None:
    """What the current call does is to be checked again when the leader does it."""
    _check.set(check)


def checked(mutation: Mutation[T]) -> Mutation[T]:
    """The change of the current call, checked on the state that it changes: the user may be removed
    and objects may get other labels while the request waits.
    """
    check = _check.get()

    def change(state: State, now: Instant, ids: IdSource) -> Slices[tuple[Writes, T]]:
        yield from check(state)
        return (yield from in_slices(mutation(state, now, ids)))

    return change
