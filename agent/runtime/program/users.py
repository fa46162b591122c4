"""The user of a container's process: Docker's `USER[:GROUP]`, looked up in the image. PURE.

Names must be in the image's /etc/passwd and /etc/group; numbers need no entry there.
"""

import re
from collections.abc import Sequence

import msgspec

from pyswarm_core.errors import InvalidArgument
from pyswarm_core.plaintext import split_lines

_ID_MAX = 2**31 - 1
_ID = re.compile(r"[0-9]{1,10}")


class User(msgspec.Struct, frozen=True):
    """A process's user and group ids, and the user's home directory."""

    uid: int = 0
    gid: int = 0
    additional_gids: tuple[int, ...] = ()
    home: str = "/"


class _Account(msgspec.Struct, frozen=True):
    name: str
    uid: int
    gid: int
    home: str


class _Group(msgspec.Struct, frozen=True):
    name: str
    gid: int
    members: tuple[str, ...]


def resolve_user(text: str, groups: Sequence[str], passwd: bytes, group: bytes) -> User:
    """The ids of `text` (`name`, `uid`, `name:group`, `uid:gid`; empty is root).

    `groups` are supplementary groups, in addition to those that list the user. Raises
    InvalidArgument naming what the image does not have.
    """
    who, _, explicit_group = text.partition(":")
    known_groups = _groups(group)
    account = _account(who or "0", _accounts(passwd))
    if explicit_group:
        gid = _gid(explicit_group, known_groups)
        listed: tuple[int, ...] = ()
    else:
        gid = account.gid
        listed = tuple(g.gid for g in known_groups if account.name and account.name in g.members)
    extra = (*listed, *(_gid(name, known_groups) for name in groups))
    return User(account.uid, gid, tuple(dict.fromkeys(extra)), account.home or "/")


def _account(who: str, accounts: list[_Account]) -> _Account:
    for account in accounts:
        if account.name == who or (_is_id(who) and account.uid == int(who)):
            return account
    if _is_id(who):
        return _Account("", int(who), 0, "/root" if int(who) == 0 else "/")
    raise InvalidArgument(
        f"unable to find user {who}: no matching entries in passwd file (the image's /etc/passwd)"
    )


def _gid(name: str, groups: list[_Group]) -> int:
    for group in groups:
        if group.name == name:
            return group.gid
    if _is_id(name):
        return int(name)
    raise InvalidArgument(
        f"unable to find group {name}: no matching entries in group file (the image's /etc/group)"
    )


def _accounts(passwd: bytes) -> list[_Account]:
    return [
        _Account(fields[0], int(fields[2]), int(fields[3]), fields[5])
        for fields in _rows(passwd)
        if len(fields) >= 6 and _is_id(fields[2]) and _is_id(fields[3])
    ]


def _groups(group: bytes) -> list[_Group]:
    return [
        _Group(fields[0], int(fields[2]), tuple(fields[3].split(",")))
        for fields in _rows(group)
        if len(fields) >= 4 and _is_id(fields[2])
    ]


def _is_id(text: str) -> bool:
    return _ID.fullmatch(text) is not None and int(text) <= _ID_MAX


def _rows(table: bytes) -> list[list[str]]:
    text = table.decode(errors="replace")
    return [line.split(":") for line in split_lines(text) if line and not line.startswith("#")]
