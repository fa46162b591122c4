"""The rows of `image ls`: the images of all nodes, each once. PURE.

A row is a name of an image. Nodes that pulled it by its digest, as services do, are shown with the
tag that it has elsewhere in the fleet.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from cli.render.listing import Layout, Row
from pyswarm_core.clock import Instant
from pyswarm_core.docker.units import ago, decimal_size, parse_time
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.images.views import NodeImages

HEADINGS = {
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "Digest": "DIGEST",
    "ID": "IMAGE ID",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "Size": "SIZE",
    "Nodes": "NODES",
    "Services": "SERVICES",
    "Platform": "PLATFORM",
    "Containers": "CONTAINERS",
    "SharedSize": "SHARED SIZE",
    "UniqueSize": "UNIQUE SIZE",
    "VirtualSize": "VIRTUAL SIZE",
}
NONE = "<none>"
NOT_KNOWN = "N/A"
_SHOWN = 4


class Entry(msgspec.Struct):
    """An image, with the names that each place gives it."""

    id: str
    created: str = ""
    size_bytes: int = 0
    digest: str = ""
    platform: str = ""
    places: dict[str, tuple[str, ...]] = {}
    """Names by node."""
    services: dict[str, None] = {}


def layout(*, digests: bool) -> Layout:
    """The columns of the table."""
    digest = ("Digest",) if digests else ()
    first = ("Repository", "Tag", *digest, "ID", "CreatedSince", "Size")
    return Layout(headings=HEADINGS, columns=(*first, "Nodes", "Services"))


def grouped(nodes: Iterable[NodeImages]) -> list[Entry]:
    """The images of these nodes, the newest first."""
    found: dict[str, Entry] = {}
    for node in nodes:
        for image in node.images:
            entry = found.get(image.id)
            if entry is None:
                entry = found[image.id] = Entry(
                    id=image.id,
                    created=image.created,
                    size_bytes=image.size_bytes,
                    digest=image.digest,
                    platform=image.platform,
                    places={},
                    services={},
                )
            entry.places[node.node_name] = image.names
            entry.services |= dict.fromkeys(image.services)
    return sorted(found.values(), key=lambda entry: (entry.created, entry.id), reverse=True)


def with_registry(
    entries: list[Entry], found: Iterable[tuple[str, str, Entry]], place: str
) -> list[Entry]:
    """The entries with the tags of a registry: each is its name, its digest, and the image of that.
    An image of nodes is the same if it has the digest; its names are completed by the tag.
    """
    by_id = {entry.id: entry for entry in entries}
    by_name: dict[str, Entry] = {}
    for entry in entries:
        for names in entry.places.values():
            by_name |= {name: entry for name in names if "@" in name}
    for name, digest, image in found:
        repository = name.rpartition(":")[0]
        pinned = f"{repository}@{digest}"
        entry = by_name.get(pinned) or by_id.setdefault(image.id, image)
        entry.places[place] = (*entry.places.get(place, ()), name, pinned)
    return sorted(by_id.values(), key=lambda entry: (entry.created, entry.id), reverse=True)


def rows(
    entries: Iterable[Entry], now: Instant, *, long: bool = False, digests: bool = False
) -> Iterator[Row]:
    """The rows of the table. `long`: nothing is cut."""
    for entry in entries:
        common = _common(entry, now, long=long)
        for (repository, tag, digest), nodes in sorted(_names(entry, digests=digests).items()):
            yield {
                "Repository": repository,
                "Tag": tag,
                "Digest": digest,
                "Nodes": _listed(sorted(nodes), long=long),
                **common,
            }


def _common(entry: Entry, now: Instant, *, long: bool) -> dict[str, str]:
    digits = entry.id.removeprefix("sha256:")
    when = created(entry.created, now)
    size = decimal_size(entry.size_bytes)
    return {
        "ID": f"sha256:{digits}" if long else digits[:12],
        "CreatedSince": ago(when, now) if when is not None else NOT_KNOWN,
        "CreatedAt": entry.created or NOT_KNOWN,
        "Size": size,
        "VirtualSize": size,
        "SharedSize": NOT_KNOWN,
        "UniqueSize": NOT_KNOWN,
        "Containers": NOT_KNOWN,
        "Platform": entry.platform,
        "Services": _listed(list(entry.services), long=long),
    }


_Name = tuple[str, str, str]


def _names(entry: Entry, *, digests: bool) -> dict[_Name, list[str]]:
    """Repository, tag and digest, and the nodes that have it. A digest is a row of its own only
    where its repository has no tag.
    """
    tags: dict[str, dict[str, None]] = {}
    found: dict[str, set[str]] = {}
    holders: dict[str, dict[str, None]] = {}
    for names, nodes in _alike(entry.places).items():
        for repository, tag, digest in map(split, names or ("",)):
            tags.setdefault(repository, {})
            found.setdefault(repository, set())
            holders.setdefault(repository, {}).update(dict.fromkeys(nodes))
            if tag:
                tags[repository][tag] = None
            if digest:
                found[repository].add(digest)
    shown: dict[_Name, list[str]] = {}
    for repository, known in tags.items():
        of_it = sorted(found[repository]) or [entry.digest or NONE]
        for tag in known or (NONE,):
            for digest in of_it if digests else of_it[:1]:
                shown[repository or NONE, tag, digest] = list(holders[repository])
    return shown


def _alike(places: Mapping[str, tuple[str, ...]]) -> dict[tuple[str, ...], list[str]]:
    """The nodes by the names that they have for an image: mostly the same ones."""
    found: dict[tuple[str, ...], list[str]] = {}
    for node, names in places.items():
        found.setdefault(names, []).append(node)
    return found


def split(name: str) -> tuple[str, str, str]:
    """Repository as users write it, tag and digest of a full name; empty if it has none. A list has
    thousands, so that they are cut and not parsed.
    """
    head, _, digest = name.partition("@")
    colon = head.find(":", head.rfind("/") + 1)
    repository, tag = (head, "") if colon < 0 else (head[:colon], head[colon + 1 :])
    short = repository.removeprefix("docker.io/")
    if short != repository:
        official = short.removeprefix("library/")
        first, slash, _ = short.partition("/")
        if "/" not in official and official != short:
            return official, tag, digest
        if slash and first != "library" and not ("." in first or first == "localhost"):
            return short, tag, digest
    return repository, tag, digest


def _listed(names: Sequence[str], *, long: bool) -> str:
    if long or len(names) <= _SHOWN:
        return ", ".join(names)
    return f"{', '.join(names[:_SHOWN])} and {len(names) - _SHOWN} more"


def created(text: str, now: Instant) -> Instant | None:
    """When an image was made; None if it does not say so."""
    try:
        return parse_time(text, now) if text else None
    except InvalidArgument:
        return None
