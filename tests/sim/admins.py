"""Admins: they create, change and remove users of the API, and their tokens."""

from typing import TYPE_CHECKING

from msgspec.structs import replace

from controller.api.changes.removal import remove_object
from controller.api.changes.users import (
    NewToken,
    create_token,
    create_user,
    remove_token,
    update_user,
)
from pyswarm_core.clock import HOUR
from pyswarm_core.identity.users import Role, User, UserSpec
from pyswarm_core.kinds import USER
from tests.sim.rand import Chance

if TYPE_CHECKING:
    from tests.sim.workload import Users

USERS = 3
STACKS = ("web", "db")


class Admins:
    """Those admins."""

    def __init__(self, users: "Users", chance: Chance) -> None:
        self._users = users
        self._chance = chance
        self._names = 0

    def act(self, known: list[User]) -> None:
        """Something with the users that the store has."""
        if len(known) < USERS and self._chance.hits(0.5):
            self._create()
            return
        if not known:
            return
        user = self._chance.choice(known)
        acts = [self._change, self._give_token, self._take_token, self._remove]
        self._chance.choice(acts)(user)

    def _create(self) -> None:
        self._names += 1
        spec = replace(self._spec(), name=f"user{self._names}")
        self._users.send(
            f"create user {spec.name}",
            lambda state, now, ids: create_user(state, spec, now, ids),
            lambda _: self._users.marks.hit("user created"),
        )

    def _change(self, user: User) -> None:
        spec = replace(self._spec(), name=user.spec.name)
        self._users.send(
            f"change user {user.spec.name}",
            lambda state, now, ids: update_user(state, user.id, user.version, spec, now),
        )

    def _give_token(self, user: User) -> None:
        new = NewToken(user.id, "0" * 64, self._chance.choice((0, HOUR)))
        self._users.send(
            f"token for {user.spec.name}",
            lambda state, now, ids: create_token(state, new, now, ids),
        )

    def _take_token(self, user: User) -> None:
        if user.tokens:
            token = self._chance.choice(user.tokens)
            self._users.send(
                f"no token for {user.spec.name}",
                lambda state, now, ids: remove_token(state, user.id, token.id, now),
            )

    def _remove(self, user: User) -> None:
        self._users.send(
            f"remove user {user.spec.name}",
            lambda state, now, ids: remove_object(state, USER, user.id, now),
            lambda _: self._users.marks.hit("user removed"),
        )

    def _spec(self) -> UserSpec:
        role = self._chance.choice(tuple(Role))
        stacks = STACKS if role is not Role.ADMIN and self._chance.hits(0.5) else ()
        return UserSpec(name="", role=role, stacks=stacks)
