"""The filters of `image ls`: what the controller is sent for the nodes, and which images of the
fleet's registry pass. SHELL: it looks up the images that filters name.
"""

import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import msgspec

from cli.times import instant
from pyswarm_core.clock import Instant
from pyswarm_core.docker.reference import Reference
from pyswarm_core.docker.units import format_time, parse_time
from pyswarm_core.errors import InvalidArgument, NotFound

if TYPE_CHECKING:
    from cli.calls.connection import Connection
    from cli.image.shared import Known

_DIGITS = re.compile(r"[0-9a-f]{4,64}")
_RELATIVE = ("since", "before")
_OF_TAGS = (*_RELATIVE, "until", "reference", "id", "dangling")
"""Filters that an image of the registry can pass: no labels are known of it, and no node has it."""


class Filters(msgspec.Struct, frozen=True):
    """Filters with the times of the images that they name."""

    sent: tuple[str, ...]
    """As the controller takes them."""
    by_key: dict[str, list[str]]
    times: dict[str, list[Instant]]

    @property
    def ask_registry(self) -> bool:
        """Whether an image of the registry, which has a tag, can pass."""
        known = all(key in _OF_TAGS for key in (*self.by_key, *self.times))
        return known and "true" not in self.by_key.get("dangling", ())

    def passes_name(self, reference: Reference) -> bool:
        """Whether the tag passes."""
        patterns = self.by_key.get("reference", ())
        familiar = reference.familiar
        texts = (str(reference), familiar, familiar.rpartition(":")[0])
        return not patterns or any(fnmatchcase(t, p) for t in texts for p in patterns)

    def passes(self, image: "Known", image_id: str) -> bool:
        """Whether what the tag names passes."""
        ids = [value.removeprefix("sha256:") for value in self.by_key.get("id", ())]
        if ids and not any(image_id.startswith(one) for one in ids):
            return False
        created = _instant(image.created)
        until = self.times.get("until", ())
        return (
            all(created > at for at in self.times.get("since", ()))
            and all(created < at for at in self.times.get("before", ()))
            and (not until or any(created < at for at in until))
        )


def parsed(connection: "Connection", texts: tuple[str, ...]) -> Filters:
    """Filters that name images are looked up on the nodes and in the registry, so that they compare
    with either. Raises InvalidArgument, NotFound.
    """
    sent: list[str] = []
    by_key: dict[str, list[str]] = {}
    times: dict[str, list[Instant]] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if equals and key in _RELATIVE:
            at = _made(connection, value)
        elif equals and key == "until":
            at = instant("--filter", value)
        else:
            by_key.setdefault(key, []).append(value)
            sent.append(text)
            continue
        times.setdefault(key, []).append(at)
        sent.append(f"{key}={format_time(at)}")
    return Filters(tuple(sent), by_key, times)


def _made(connection: "Connection", text: str) -> Instant:
    """When the image of that name or id was made."""
    from cli.image.finding import inspected

    try:
        config = inspected(connection, text).details.config
    except NotFound:
        if (created := _of_registry(connection, text.removeprefix("sha256:"))) is None:
            raise
        return _instant(created)
    try:
        return _instant(msgspec.json.decode(config, type=dict[str, object]).get("created"))
    except msgspec.MsgspecError:
        return Instant(0)


def _of_registry(connection: "Connection", text: str) -> str | None:
    """When the image of the registry was made whose id begins with the text; None if none does."""
    from cli.image import shared

    if not _DIGITS.fullmatch(text):
        return None
    known = shared.known(connection, tagged := shared.tagged(connection))
    found = (known[one.digest] for one in tagged)
    return next((one.created for one in found if one.id.startswith(text)), None)


def _instant(text: object) -> Instant:
    """0 of an image that does not say."""
    try:
        return parse_time(text, Instant(0)) if isinstance(text, str) and text else Instant(0)
    except InvalidArgument:
        return Instant(0)
