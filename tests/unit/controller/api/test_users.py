"""Creating and changing users and their tokens."""

import re
from typing import Any

import pytest
from msgspec.structs import replace

from controller.api.changes.removal import remove_object
from controller.api.changes.users import (
    NewToken,
    create_token,
    create_user,
    remove_token,
    tokens_of,
    update_user,
)
from controller.api.queries.lists import find_all
from controller.brain.slices import finish
from pyswarm_core.clock import HOUR
from pyswarm_core.decision import Writes
from pyswarm_core.errors import AlreadyExists, Conflict, InvalidArgument, NotFound, Unavailable
from pyswarm_core.identity import limits
from pyswarm_core.identity.users import Role, User, UserSpec
from pyswarm_core.kinds import USER, encode
from pyswarm_core.objects import Version
from pyswarm_core.state import State
from tests.fixtures import build
from tests.fixtures.build import NOW, Numbered

ANN = UserSpec(name="ann", role=Role.OPERATOR, stacks=("web",), labels={"team": "a"})


class Users:
    """A state, and what is done to it."""

    def __init__(self) -> None:
        self.state: State = build.state()
        self.ids = Numbered(start=1)

    def create(self, spec: UserSpec = ANN) -> User:
        writes, user = create_user(self.state, spec, NOW, self.ids)
        self.state.apply(writes)
        return user

    def token(self, ref: str = "ann", lifetime: int = 0, text: str = "") -> Any:
        new = NewToken(ref, "hash", lifetime, text)
        writes, token = create_token(self.state, new, NOW, self.ids)
        self.state.apply(writes)
        return token


@pytest.fixture
def users() -> Users:
    return Users()


def test_a_user_is_found_by_name_and_stored(users: Users) -> None:
    ann = users.create()
    assert users.state.ids_of_names(USER) == {"ann": ann.id}
    assert ann == User(
        id=ann.id, spec=ANN, version=Version(index=1), created_at=NOW, updated_at=NOW
    )
    assert USER.decode(encode(ann)) == ann


def test_a_name_is_given_once(users: Users) -> None:
    ann = users.create()
    with pytest.raises(AlreadyExists, match=f'user "ann" exists already, with the id {ann.id}'):
        users.create()


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (UserSpec(name=""), 'name: value "" is not valid: expected 1 to 63'),
        (UserSpec(name="Root"), "expected another name than root, anonymous, controller"),
        (UserSpec(name="a b"), 'name: value "a b" is not valid'),
        (UserSpec(name="a", stacks=("x/y",)), '--stack: value "x/y" is not valid'),
        (
            UserSpec(name="a", role=Role.ADMIN, stacks=("web",)),
            '--role: value "admin" is not valid: expected viewer or operator',
        ),
        (UserSpec(name="a", labels={"": "x"}), "--label: key"),
    ],
)
def test_what_is_not_valid_is_named(users: Users, spec: UserSpec, told: str) -> None:
    with pytest.raises(InvalidArgument, match=re.escape(told)):
        users.create(spec)


def test_a_user_is_limited_to_so_many_stacks(users: Users) -> None:
    assert limits.STACKS_PER_USER == 100
    most = tuple(f"s{number}" for number in range(100))
    users.create(UserSpec(name="a", stacks=most))
    with pytest.raises(InvalidArgument, match="expected at most 100"):
        users.create(UserSpec(name="b", stacks=(*most, "more")))


def test_there_are_so_many_users(users: Users) -> None:
    assert limits.USERS_MAX == 1_000
    made = create_user(users.state, ANN, NOW, users.ids)[1]
    others = (replace(made, id=f"{n:025d}", spec=UserSpec(name=f"u{n}")) for n in range(1_000))
    users.state.apply(Writes(objects=tuple(others)))
    with pytest.raises(Unavailable, match="there are 1000 users, which is the limit"):
        users.create()


def test_a_user_fits_the_store(users: Users) -> None:
    assert limits.USER_BYTES_MAX == 64 * 1024
    with pytest.raises(InvalidArgument, match="expected at most 64KiB"):
        users.create(UserSpec(name="a", labels={"x": "y" * 65_536}))


def test_an_update_changes_role_and_stacks_and_keeps_tokens(users: Users) -> None:
    ann = users.create()
    token = users.token()
    ann = users.state.of(USER)[ann.id]
    spec = replace(ANN, role=Role.ADMIN, stacks=())
    _, changed = update_user(users.state, "ann", ann.version, spec, NOW)
    assert (changed.spec, changed.tokens) == (spec, (token,))
    assert changed.version.index == ann.version.index + 1
    writes, same = update_user(users.state, "ann", ann.version, ANN, NOW)
    assert (writes, same) == (Writes(), ann)


def test_an_update_is_based_on_what_was_read_and_keeps_the_name(users: Users) -> None:
    ann = users.create()
    with pytest.raises(Conflict, match="is at version 1, the update is based on 7"):
        update_user(users.state, "ann", Version(index=7), ANN, NOW)
    with pytest.raises(InvalidArgument, match='expected "ann": users keep their names'):
        update_user(users.state, "ann", ann.version, replace(ANN, name="bob"), NOW)
    with pytest.raises(NotFound):
        update_user(users.state, "bob", ann.version, ANN, NOW)


def test_tokens_have_ends_and_are_listed_without_hashes(users: Users) -> None:
    users.create()
    first, second = users.token(), users.token(lifetime=HOUR, text="the pipeline")
    assert (first.hash, first.expires_at, first.created_at) == ("hash", 0, NOW)
    assert (second.expires_at, second.description) == (NOW + HOUR, "the pipeline")
    assert tokens_of(users.state, "ann") == [replace(first, hash=""), replace(second, hash="")]


def test_a_token_is_removed_by_its_id_or_its_beginning(users: Users) -> None:
    users.create()
    first, second = users.token(), users.token()
    writes, removed = remove_token(users.state, "ann", first.id, NOW)
    assert removed == first
    with pytest.raises(NotFound, match='token "0000" of user "ann" is ambiguous'):
        remove_token(users.state, "ann", "0000", NOW)
    users.state.apply(writes)
    assert remove_token(users.state, "ann", "0000", NOW)[1] == second
    for ref in ("", first.id, "x" * 1_000):
        with pytest.raises(NotFound, match="no such token"):
            remove_token(users.state, "ann", ref, NOW)


def test_owners_of_tokens_follow_every_change(users: Users) -> None:
    ann = users.create()
    first, second = users.token(), users.token()
    owners = users.state.token_owners
    assert [owners[one] for one in (first.id, second.id, "x")] == [ann.id, ann.id, None]
    users.state.apply(remove_token(users.state, "ann", first.id, NOW)[0])
    assert [owners[first.id], owners[second.id]] == [None, ann.id]
    users.state.apply(remove_object(users.state, USER, "ann", NOW)[0])
    assert owners[second.id] is None


def test_a_user_has_so_many_tokens(users: Users) -> None:
    assert limits.TOKENS_PER_USER == 64
    users.create()
    for _ in range(64):
        users.token()
    with pytest.raises(Unavailable, match='user "ann" has 64 tokens, which is the limit'):
        users.token()


def test_a_token_lives_so_long(users: Users) -> None:
    assert limits.TOKEN_LIFETIME_MAX == 87_600 * HOUR
    users.create()
    users.token(lifetime=limits.TOKEN_LIFETIME_MAX)
    for lifetime in (-1, limits.TOKEN_LIFETIME_MAX + 1):
        with pytest.raises(InvalidArgument, match="--expires"):
            users.token(lifetime=lifetime)
    for text in ("x" * 201, "a\nb"):
        with pytest.raises(InvalidArgument, match="--description"):
            users.token(text=text)


def test_users_are_listed_by_role_and_stack(users: Users) -> None:
    users.create()
    users.create(UserSpec(name="boss", role=Role.ADMIN))
    state = users.state

    def found(*filters: str) -> list[str]:
        return [state.of(USER)[one].spec.name for one in finish(find_all(state, USER, filters))]

    assert found() == ["ann", "boss"]
    assert found("role=admin") == ["boss"]
    assert found("stack=web") == ["ann"]
    assert found("label=team=a", "name=a") == ["ann"]
    with pytest.raises(InvalidArgument, match="expected one of viewer, operator, admin"):
        found("role=boss")
