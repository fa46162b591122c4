"""The users of tokens, by the token's id. PURE (no clock, no IO; mutable)."""

from pyswarm_core.identity.users import User, UserId


class TokenOwners:
    """The user of each token: every call with a token looks it up."""

    def __init__(self) -> None:
        self._owner: dict[str, UserId] = {}

    def __getitem__(self, token_id: str) -> UserId | None:
        """The user that has a token of that id."""
        return self._owner.get(token_id)

    def put(self, user_id: UserId, old: User | None, user: User | None) -> None:
        """The user changed, was added or removed."""
        for token in old.tokens if old is not None else ():
            self._owner.pop(token.id, None)
        for token in user.tokens if user is not None else ():
            self._owner[token.id] = user_id
