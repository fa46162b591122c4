"""Creating and changing users and their tokens. PURE.

The text of a token is made by the shell; only the hash of its secret gets here. Removal of a user
is that of any object (`removal.py`): its calls are refused at once.
"""

from typing import NamedTuple

import msgspec

from controller.api.queries.lookup import find
from controller.brain.storable import require_storable
from controller.identity.caller import Caller, CallerKind
from pyswarm_core.clock import Instant, after
from pyswarm_core.decision import Writes
from pyswarm_core.errors import (
    AlreadyExists,
    Conflict,
    InvalidArgument,
    NotFound,
    Unavailable,
    invalid,
    quoted,
)
from pyswarm_core.identity.limits import TOKENS_PER_USER, USER_BYTES_MAX, USERS_MAX
from pyswarm_core.identity.users import User, UserId, UserSpec, UserToken
from pyswarm_core.ids import ID_LENGTH, IdSource, short
from pyswarm_core.kinds import USER
from pyswarm_core.objects import Version
from pyswarm_core.state import State
from pyswarm_core.validation import require, token_problems, user_problems

replace = msgspec.structs.replace


class NewToken(NamedTuple):
    """A token to add to a user."""

    ref: str
    """The user."""
    hash: str
    lifetime: int
    """Nanoseconds; 0: it does not expire."""
    description: str = ""


def create_user(state: State, spec: UserSpec, now: Instant, ids: IdSource) -> tuple[Writes, User]:
    """A new user, without a token.

    Raises InvalidArgument, AlreadyExists, Unavailable (too many users).
    """
    users = state.of(USER)
    if len(users) >= USERS_MAX:
        raise Unavailable(f"there are {USERS_MAX} users, which is the limit: remove some")
    require(user_problems(spec))
    if (taken := state.ids_of_names(USER).get(spec.name)) is not None:
        raise AlreadyExists(f"user {quoted(spec.name)} exists already, with the id {taken}")
    (user_id,) = ids.draw(1)
    user = User(
        id=UserId(user_id), spec=spec, version=Version(index=1), created_at=now, updated_at=now
    )
    return _put(user)


def update_user(
    state: State, ref: str, based_on: Version, spec: UserSpec, now: Instant
) -> tuple[Writes, User]:
    """The user with another role, other stacks or labels. The same spec again changes nothing.

    Raises InvalidArgument (also for another name), NotFound, Conflict.
    """
    old = find(state, USER, ref)
    require(user_problems(spec))
    if spec.name != old.spec.name:
        expected = f"expected {quoted(old.spec.name)}: users keep their names"
        raise invalid("name", spec.name, expected)
    if based_on.index != old.version.index:
        raise Conflict(
            f"update out of sequence: user {quoted(old.spec.name)} is at version"
            f" {old.version.index}, the update is based on {based_on.index}: read it again"
        )
    if spec == old.spec:
        return Writes(), old
    return _changed(old, now, spec=spec)


def create_token(
    state: State, new: NewToken, now: Instant, ids: IdSource
) -> tuple[Writes, UserToken]:
    """A token of the user. Raises InvalidArgument, NotFound, Unavailable (too many tokens)."""
    user = find(state, USER, new.ref)
    require(token_problems(new.lifetime, new.description))
    if len(user.tokens) >= TOKENS_PER_USER:
        raise Unavailable(
            f"user {quoted(user.spec.name)} has {TOKENS_PER_USER} tokens, which is the limit:"
            " remove some"
        )
    (token_id,) = ids.draw(1)
    token = UserToken(
        id=token_id,
        hash=new.hash,
        created_at=now,
        expires_at=after(now, new.lifetime) if new.lifetime else Instant(0),
        description=new.description,
    )
    writes, _ = _changed(user, now, tokens=(*user.tokens, token))
    return writes, token


def remove_token(state: State, ref: str, token_ref: str, now: Instant) -> tuple[Writes, UserToken]:
    """The user without the token of that id, or of its unique beginning. Raises NotFound."""
    user = find(state, USER, ref)
    token = _token(user, token_ref)
    left = tuple(one for one in user.tokens if one.id != token.id)
    writes, _ = _changed(user, now, tokens=left)
    return writes, token


def certified(state: State, ref: str, caller: Caller) -> tuple[User, UserToken | None]:
    """The user who gets a certificate, by default the caller; the token that the caller showed if
    it is for itself. Raises NotFound, InvalidArgument.
    """
    if not ref and caller.kind is not CallerKind.USER:
        raise InvalidArgument("ref: expected the name of a user: the caller is none")
    user = find(state, USER, ref or caller.id)
    if not caller.token_id or user.id != caller.id:
        return user, None
    return user, _token(user, caller.token_id)


def tokens_of(state: State, ref: str) -> list[UserToken]:
    """The tokens of the user, without their hashes. Raises NotFound."""
    return [replace(token, hash="") for token in find(state, USER, ref).tokens]


def _token(user: User, ref: str) -> UserToken:
    found = [one for one in user.tokens if one.id.startswith(ref)] if ref else []
    name = f"token {quoted(ref[: ID_LENGTH + 1])} of user {quoted(user.spec.name)}"
    if not found:
        raise NotFound(f"no such {name}")
    if len(found) > 1:
        raise NotFound(f"{name} is ambiguous: it could be {', '.join(short(t.id) for t in found)}")
    return found[0]


def _changed(old: User, now: Instant, **fields: object) -> tuple[Writes, User]:
    version = Version(index=old.version.index + 1)
    return _put(replace(old, version=version, updated_at=now, **fields))


def _put(user: User) -> tuple[Writes, User]:
    require_storable(f"user {quoted(user.spec.name)}", user, USER_BYTES_MAX)
    return Writes(objects=(user,)), user
