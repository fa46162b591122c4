"""The token that callers of metrics show. PURE."""

import msgspec

from pyswarm_core.clock import Instant
from pyswarm_core.decision import Writes
from pyswarm_core.identity.tokens import scrape_token
from pyswarm_core.ids import IdSource
from pyswarm_core.objects import Version
from pyswarm_core.state import State


def rotate_scrape_token(state: State, now: Instant, ids: IdSource) -> tuple[Writes, str]:
    """Replace the token; return the new one."""
    (secret,) = ids.draw(1)
    token = scrape_token(secret)
    cluster = state.cluster
    changed = msgspec.structs.replace(
        cluster,
        scrape_token=token,
        updated_at=now,
        version=Version(index=cluster.version.index + 1),
    )
    return Writes(cluster=changed), token
