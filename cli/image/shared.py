"""The images of the fleet's registry, as `image ls` and `image rm` join them with those of nodes.
SHELL.

The content of a digest never changes, so what was read of one is kept in the user's cache.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from pyswarm_core.aio.system import home_directory
from pyswarm_core.docker.reference import Reference, parse_reference
from pyswarm_core.errors import InvalidArgument, PyswarmError, Unavailable
from pyswarm_core.registry.names import repository_of
from pyswarm_core.registry.usage import RegistryTag

if TYPE_CHECKING:
    from cli.calls.connection import Connection
    from cli.registry.opening import Endpoint

CACHED_MAX = 5_000
PLACE = "registry"
"""What the column NODES calls it."""


class Known(msgspec.Struct, frozen=True):
    """What is shown of a digest; the size is that of its compressed layers."""

    id: str = ""
    created: str = ""
    size_bytes: int = 0
    platform: str = ""


class Tagged(msgspec.Struct, frozen=True):
    """A tag of the registry."""

    reference: Reference
    digest: str


@contextmanager
def opened_or_none(connection: "Connection", *, write: bool = False) -> Iterator["Endpoint | None"]:
    """The fleet's registry; None if the fleet has none, or if it does not answer now."""
    from cli.registry.opening import opened

    opening = opened(connection, write=write)
    try:
        registry = opening.__enter__()
    except Unavailable:
        yield None
        return
    try:
        yield registry
    except BaseException as error:
        if not opening.__exit__(type(error), error, error.__traceback__):
            raise
    else:
        opening.__exit__(None, None, None)


def tagged(connection: "Connection") -> list[Tagged]:
    """Every tag of the registry with its digest; none if the fleet has no registry."""
    from cli.image.calls import registry_tags

    return named(registry_tags(connection))


def named(tags: Iterable[RegistryTag]) -> list[Tagged]:
    """The tags whose repositories are names of images."""
    found = []
    for one in tags:
        with suppress(InvalidArgument):
            name = parse_reference(one.name)
            found.append(Tagged(Reference(name.registry, name.repository, one.tag), one.digest))
    return found


def has_other_tag(connection: "Connection", reference: Reference, digest: str) -> bool:
    """Whether the registry has the digest of this tag by another tag of its repository."""
    if not reference.tag or reference.digest:
        return False
    of_it = (one.reference for one in tagged(connection) if one.digest == digest)
    return any(one.name == reference.name and one.tag != reference.tag for one in of_it)


def known(connection: "Connection", found: list[Tagged]) -> dict[str, Known]:
    """What the images of these digests are. The registry is opened for those alone that are not in
    the user's cache; if it does not answer now, nothing is known of them.
    """
    cache = _Cache()
    missing = {one.digest: one for one in found if one.digest not in cache.found}
    if not missing:
        return cache.found
    from concurrent.futures import ThreadPoolExecutor

    from cli.image.transfer.sources import AT_ONCE

    with opened_or_none(connection) as registry, ThreadPoolExecutor(AT_ONCE) as pool:
        if registry is None:
            return {**dict.fromkeys(missing, Known()), **cache.found}
        read = pool.map(lambda one: _read(registry, one), missing.values())
        cache.add(dict(zip(missing, read, strict=True)))
    return cache.found


def _read(registry: "Endpoint", one: Tagged) -> Known:
    """From its manifest and configuration; of a list of platforms the first one."""
    repository = repository_of(one.reference)
    try:
        manifest = document(registry, f"/v2/{repository}/manifests/{one.digest}")
        if "manifests" in manifest:
            first = manifest["manifests"][0]["digest"]
            manifest = document(registry, f"/v2/{repository}/manifests/{first}")
        blob = str(manifest["config"]["digest"])
        size = sum(int(layer["size"]) for layer in manifest.get("layers") or ())
        config = document(registry, f"/v2/{repository}/blobs/{blob}")
        system = (config.get("os"), config.get("architecture"), config.get("variant"))
        return Known(
            blob.removeprefix("sha256:"),
            str(config.get("created") or ""),
            size,
            "/".join(str(part) for part in system if part),
        )
    except (PyswarmError, ValueError, LookupError, TypeError, AttributeError):
        return Known()


def document(registry: "Endpoint", path: str) -> dict[str, Any]:
    """A JSON object of the registry. Raises Unavailable, ValueError."""
    import json

    from cli.image.transfer.sources import ACCEPT, require

    answer = registry.ask("GET", path, ACCEPT)
    require(answer, "the fleet's registry")
    found = json.loads(answer.content)
    if not isinstance(found, dict):
        raise ValueError("it is no object")
    return found


class _Cache:
    """A file of the user's, which any command may replace. One that cannot be read is empty."""

    def __init__(self) -> None:
        base = os.environ.get("XDG_CACHE_HOME") or home_directory() / ".cache"
        self._path = Path(base) / "pyswarm" / "manifests.json"
        self.found: dict[str, Known] = {}
        with suppress(OSError, msgspec.MsgspecError):
            self.found = msgspec.json.decode(self._path.read_bytes(), type=dict[str, Known])

    def add(self, more: dict[str, Known]) -> None:
        """Keep them, the newest first if there are too many."""
        fresh = {digest: one for digest, one in more.items() if one.id}
        self.found = {**self.found, **more}
        if not fresh:
            return
        kept = dict(list(({**fresh, **self.found}).items())[:CACHED_MAX])
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            new = self._path.with_suffix(f".{os.getpid()}")
            new.write_bytes(msgspec.json.encode({k: one for k, one in kept.items() if one.id}))
            new.replace(self._path)
