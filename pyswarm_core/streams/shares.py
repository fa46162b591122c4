"""How many tunnels one node serves at once, and of them one caller has, by what they are for. PURE.

The leader refuses what is beyond; an agent has the limits of all callers too.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from pyswarm_core.logs.limits import LOG_READERS_PER_NODE
from pyswarm_core.streams.limits import (
    BUILDS_PER_NODE,
    FILE_WALKS_PER_NODE,
    PULLS_PER_NODE,
    REQUESTS_PER_NODE,
    STATS_PER_NODE,
    STREAMS_PER_NODE,
    VOLUME_COPIES_PER_NODE,
)
from pyswarm_core.streams.requests import (
    BUILD_IMAGE,
    OPERATIONS,
    PUSH_IMAGE,
    READ_VOLUME,
    SAVE_IMAGE,
    WRITE_VOLUME,
)


class Share(NamedTuple):
    """Limits on the tunnels to one node of one kind."""

    what: str
    per_node: int
    per_caller: int
    remedy: str


REQUESTS = Share("requests", REQUESTS_PER_NODE, REQUESTS_PER_NODE // 4, "wait for answers")
"""What is answered at once. No other kind takes their places."""
_LOGS = Share("readers of logs", LOG_READERS_PER_NODE, LOG_READERS_PER_NODE // 2, "end some")
_STREAMS = Share("streams to tasks", STREAMS_PER_NODE, STREAMS_PER_NODE // 2, "end some")
"""Of these two one command may take 64: a reader merges as many logs, `exec --all` runs as many."""
_STATS = Share("streams of stats", STATS_PER_NODE, STATS_PER_NODE // 4, "end some")
_PULLS = Share("pulls and lookups of images", PULLS_PER_NODE, PULLS_PER_NODE // 4, "wait for them")
_WALKS = Share(
    "walks through files (sizes, diff)",
    FILE_WALKS_PER_NODE,
    FILE_WALKS_PER_NODE // 4,
    "wait for them",
)
_VOLUMES = Share(
    "copies of volumes' files", VOLUME_COPIES_PER_NODE, VOLUME_COPIES_PER_NODE // 2, "wait for them"
)

_BUILDS = Share("builds", BUILDS_PER_NODE, BUILDS_PER_NODE // 2, "wait for them")

_SHARES: Mapping[str, Share] = MappingProxyType(
    {
        "read_logs": _LOGS,
        "stats": _STATS,
        "changes": _WALKS,
        "sizes": _WALKS,
        **dict.fromkeys(("image_pull", "image_resolve", "image_ports"), _PULLS),
        **{one.field: _STREAMS for one in OPERATIONS},
        **dict.fromkeys((READ_VOLUME.field, WRITE_VOLUME.field), _VOLUMES),
        **dict.fromkeys((SAVE_IMAGE.field, PUSH_IMAGE.field), _PULLS),
        BUILD_IMAGE.field: _BUILDS,
    }
)


def share_of(field: str) -> Share:
    """The limits that a tunnel counts against, by the field of OpenTunnel."""
    return _SHARES.get(field, REQUESTS)
