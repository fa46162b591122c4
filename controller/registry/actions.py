"""What a request to the registry does, by its method and target. PURE.

Only the requests of the distribution's protocol are known; any other one is refused.
"""

import re
from enum import Enum

import msgspec

from pyswarm_core.docker.reference import Reference, parse_reference
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.registry.names import name_of

_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_NAME = rf"(?P<repository>{_PART}(?:/{_PART})*)"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_DIGEST = r"[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[0-9a-fA-F]{32,128}"
_TARGET = re.compile(r"(/[A-Za-z0-9._:/+=-]*)(?:\?[A-Za-z0-9._:/+=&%~-]*)?")


class Kind(Enum):
    """What a request is about."""

    PING = "ping"
    CATALOG = "catalog"
    TAGS = "tags"
    MANIFEST = "manifest"
    UPLOAD = "upload"
    BLOB = "blob"


_TARGETS = tuple(
    (kind, re.compile(pattern))
    for kind, pattern in (
        (Kind.PING, "/v2/?"),
        (Kind.CATALOG, "/v2/_catalog"),
        (Kind.TAGS, rf"/v2/{_NAME}/tags/list"),
        (Kind.MANIFEST, rf"/v2/{_NAME}/manifests/(?P<which>{_TAG}|{_DIGEST})"),
        (Kind.UPLOAD, rf"/v2/{_NAME}/blobs/uploads/(?P<which>[A-Za-z0-9_.=-]*)"),
        (Kind.BLOB, rf"/v2/{_NAME}/blobs/(?P<which>{_DIGEST})"),
    )
)
_READS = frozenset({"GET", "HEAD"})
_WRITES = {
    Kind.MANIFEST: frozenset({"PUT", "DELETE"}),
    Kind.UPLOAD: frozenset({"GET", "POST", "PATCH", "PUT", "DELETE"}),
}


class Action(msgspec.Struct, frozen=True):
    """What a request does."""

    kind: Kind
    writes: bool
    repository: str = ""
    which: str = ""
    """The tag or digest of a manifest."""
    method: str = ""

    @property
    def pushes(self) -> bool:
        """Whether it gives an image a name, or adds one by its digest."""
        return self.kind is Kind.MANIFEST and self.method == "PUT"

    @property
    def deletes(self) -> bool:
        """Whether it removes a tag, or an image."""
        return self.kind is Kind.MANIFEST and self.method == "DELETE"

    @property
    def is_tag(self) -> bool:
        """Whether it names a tag, not a digest."""
        return ":" not in self.which

    @property
    def begins_upload(self) -> bool:
        """Whether it asks to send a blob."""
        return self.kind is Kind.UPLOAD and self.method == "POST"

    @property
    def reference(self) -> Reference:
        """The image that a push or removal is about. Raises InvalidArgument."""
        mark = ":" if self.is_tag else "@"
        return parse_reference(f"{name_of(self.repository)}{mark}{self.which}")


def action_of(method: str, target: str) -> Action | None:
    """What the request does; None for one that the registry does not serve to callers."""
    whole = _TARGET.fullmatch(target)
    if whole is None:
        return None
    for kind, pattern in _TARGETS:
        if (found := pattern.fullmatch(whole[1])) is None:
            continue
        named = found.groupdict()
        repository, which = named.get("repository", ""), named.get("which", "")
        if method in _WRITES.get(kind, ()):
            return Action(kind, True, repository, which, method)
        if method in _READS and kind is not Kind.UPLOAD:
            return Action(kind, False, repository, which, method)
        return None
    return None


def require_named(action: Action) -> None:
    """Raise InvalidArgument if nobody could find what this writes by the name of an image."""
    try:
        name_of(action.repository)
    except InvalidArgument as error:
        raise InvalidArgument(f"{error}: the fleet's registry has images by their names") from None
