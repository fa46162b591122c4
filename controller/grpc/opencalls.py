"""Open streams by caller, which end when their caller may no longer call. SHELL.

A certificate or a token is checked when a call begins. A stream outlives that: it ends when its
user or node is removed, its token is removed, its user gets another role or other stacks, when
its certificate or token expires, and when the CA of its certificate is no longer trusted.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import msgspec

from controller.identity.ca import Parsed
from controller.identity.caller import Caller, CallerKind
from controller.identity.cluster import trusted_roots
from controller.identity.policy import title
from pyswarm_core.clock import NEVER, Clock, Instant, seconds
from pyswarm_core.docker.units import format_time
from pyswarm_core.errors import PermissionDenied, PyswarmError, Unavailable
from pyswarm_core.identity.users import User
from pyswarm_core.objects import Cluster, Object

LOOK_EVERY_S = 60.0
"""The clock may be set: the end of validity is compared with it at least this often."""


class Identity(msgspec.Struct, frozen=True):
    """A caller, and how long what it identified with is valid."""

    caller: Caller
    ends_at: Instant = NEVER
    token_id: str = ""
    """Of a caller with a token, or with a certificate that was made with one."""
    shown: str = "certificate"
    """What ends then, for errors."""
    certificate: Parsed | None = None
    """Of a user or an agent that showed one: its CA may be replaced."""


class _Call:
    def __init__(self, identity: Identity, task: "asyncio.Task[object]") -> None:
        self.identity = identity
        self.ended: PyswarmError | None = None
        self.timer: asyncio.TimerHandle | None = None
        self._task = task

    def end(self, error: PyswarmError) -> None:
        if self.ended is None:
            self.ended = error
            self._task.cancel()

    def swallows_cancel(self) -> bool:
        """Whether the call was cancelled by `end` alone."""
        return self.ended is not None and not self._task.uncancel()


class OpenCalls:
    """The open streams of a server. `ends_at` returns until when an identity is valid, which may be
    later than when its call began: an agent renews its certificate without a new session.
    `require_trusted` raises PermissionDenied for an identity by a certificate that is no longer
    trusted.
    """

    def __init__(
        self,
        clock: Clock,
        ends_at: Callable[[Identity], Instant],
        require_trusted: Callable[[Identity, Cluster], None] = lambda *_: None,
    ) -> None:
        self._clock = clock
        self._ends_at = ends_at
        self._require_trusted = require_trusted
        self._roots: tuple[str, ...] = ()
        self._of_caller: defaultdict[tuple[CallerKind, str], dict[_Call, None]] = defaultdict(dict)

    def __len__(self) -> int:
        return sum(map(len, self._of_caller.values()))

    @contextmanager
    def open(self, identity: Identity) -> Iterator[None]:
        """The block serves a call of this identity. Raises in the block when that has to end."""
        task = asyncio.current_task()
        assert task is not None
        call, key = _Call(identity, task), (identity.caller.kind, identity.caller.id)
        self._of_caller[key][call] = None
        self._look(call)
        try:
            yield
        except asyncio.CancelledError:
            if call.swallows_cancel():
                assert call.ended is not None
                raise call.ended from None
            raise
        finally:
            if call.timer is not None:
                call.timer.cancel()
            calls = self._of_caller[key]
            del calls[call]
            if not calls:
                del self._of_caller[key]

    def changed(self, put: Sequence[Object | Cluster], removed: Sequence[str]) -> None:
        """These users, nodes and the cluster changed, and those with these ids were removed."""
        for object_id in removed:
            for kind in (CallerKind.USER, CallerKind.AGENT):
                for call in self._calls(kind, object_id):
                    call.end(PermissionDenied(f"{title(call.identity.caller)} was removed"))
        for item in put:
            if isinstance(item, Cluster):
                self._cluster_changed(item)
            if isinstance(item, User):
                for call in self._calls(CallerKind.USER, item.id):
                    if (error := _differs(call.identity, item)) is not None:
                        call.end(error)

    def _cluster_changed(self, cluster: Cluster) -> None:
        roots = trusted_roots(cluster)
        if roots == self._roots:
            return
        self._roots = roots
        for call in [call for calls in self._of_caller.values() for call in calls]:
            try:
                self._require_trusted(call.identity, cluster)
            except PermissionDenied as error:
                call.end(error)

    def _calls(self, kind: CallerKind, caller_id: str) -> list[_Call]:
        return list(self._of_caller.get((kind, caller_id), ()))

    def _look(self, call: _Call) -> None:
        ends_at = self._ends_at(call.identity)
        if ends_at == NEVER:
            return
        left_s = seconds(ends_at - self._clock.now())
        if left_s <= 0:
            call.end(expired(call.identity, ends_at))
            return
        loop = asyncio.get_running_loop()
        call.timer = loop.call_later(min(left_s, LOOK_EVERY_S), self._look, call)


def expired(identity: Identity, ended_at: Instant) -> PermissionDenied:
    """The error for a certificate or token that ended."""
    name = title(identity.caller)
    return PermissionDenied(f"the {identity.shown} of {name} expired at {format_time(ended_at)}")


def _differs(identity: Identity, user: User) -> PyswarmError | None:
    """The error of a call that began before the user changed, if it may not go on."""
    caller, spec = identity.caller, user.spec
    if identity.token_id and identity.token_id not in [token.id for token in user.tokens]:
        return PermissionDenied(f"the token of {title(caller)} was removed")
    if (caller.role, caller.stacks) != (spec.role, spec.stacks):
        return Unavailable(f"the role or the stacks of {title(caller)} changed: call again")
    return None
