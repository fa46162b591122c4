"""The caller of the current call. SHELL: a context variable, which every task of the call
inherits.
"""

from contextvars import ContextVar

from controller.identity.caller import ANONYMOUS, Caller

_caller: ContextVar[Caller] = ContextVar("caller", default=ANONYMOUS)


def current_caller() -> Caller:
    """Who made the current call."""
    return _caller.get()


def set_caller(caller: Caller) -> None:
    """The current call is this caller's."""
    _caller.set(caller)
