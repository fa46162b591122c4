"""Names of images as lists show them. PURE."""

from pyswarm_core.docker.reference import parse_reference
from pyswarm_core.errors import InvalidArgument

NONE = "<none>"


def repository_and_tag(name: str) -> tuple[str, str]:
    """The repository and the tag of a name in a storage; NONE where it has none."""
    try:
        familiar = parse_reference(name).familiar
    except InvalidArgument:
        return NONE, NONE
    head, _, digest = familiar.partition("@")
    repository, colon, tag = head.rpartition(":")
    if colon and "/" not in tag:
        return repository, tag
    return head, NONE if digest else "latest"
