"""What this agent shows to agents of other nodes. SHELL over its identity."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from agent.session.identity import Identity

if TYPE_CHECKING:
    from agent.streams.direct.connection import Own


class Serving(Protocol):
    """What has the identity, once the agent has joined."""

    identity: Identity | None


def shown_by(serving: Serving, address: str) -> "Callable[[], Own | None]":
    """Returns the newest certificate, and the roots, of a node that has joined. `address`: its own
    on the underlay.
    """

    def own() -> "Own | None":
        from agent.streams.direct.connection import Own  # with the first move: it needs `ssl`

        if (identity := serving.identity) is None:
            return None
        found = identity.certificate
        shown = f"{found.chain}{found.key}".encode()
        return Own(shown, found.roots, identity.cluster_id, address)

    return own
