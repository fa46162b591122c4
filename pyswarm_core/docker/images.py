"""Images on the nodes of a fleet in the form of Docker's API, as `inspect` shows them. PURE."""

from collections.abc import Iterable
from typing import Any

from pyswarm_core.docker.reference import parse_reference
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.views import Image, NodeImages

_ID_MIN = 4
"""Letters of an id that a prefix has at least."""


def document(ref: str, nodes: Iterable[NodeImages]) -> dict[str, Any] | None:
    """The image of that name or id, and the nodes that have it; None if none does."""
    holders = [(node, image) for node in nodes for image in node.images if _is(image, ref)]
    if not holders:
        return None
    image = holders[0][1]
    same = [(node, one) for node, one in holders if one.id == image.id]
    names = sorted({name for _, one in same for name in one.names})
    familiar = [_familiar(name) for name in names]
    return {
        "Id": f"sha256:{image.id.removeprefix('sha256:')}",
        "RepoTags": [name for name in familiar if "@" not in name],
        "RepoDigests": [name for name in familiar if "@" in name] or _digests(names, image.digest),
        "Created": image.created,
        "Size": image.size_bytes,
        "Nodes": sorted(node.node_name for node, _ in same),
    }


def _is(image: Image, ref: str) -> bool:
    digits = image.id.removeprefix("sha256:")
    wanted = ref.removeprefix("sha256:")
    if len(wanted) >= _ID_MIN and digits.startswith(wanted):
        return True
    name = _familiar(ref)
    return name in map(_familiar, image.names) or (
        "@" in name and name.endswith(image.digest or "@")
    )


def _familiar(name: str) -> str:
    try:
        return parse_reference(name).familiar
    except InvalidArgument:
        return name


def _digests(names: Iterable[str], digest: str) -> list[str]:
    if not digest:
        return []
    return sorted({f"{_familiar(name).rpartition(':')[0] or name}@{digest}" for name in names})
