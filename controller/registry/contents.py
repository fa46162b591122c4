"""What the registry holds, and what of it nobody needs. PURE."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping

import msgspec

from pyswarm_core.clock import HOUR, Instant
from pyswarm_core.registry.usage import RegistryRepository, RegistryUsage

YOUNG = 1 * HOUR
"""A manifest without a name stays for this long: who pushes by digest deploys it afterwards."""
MANIFEST_BYTES_MAX = 4 * 1024 * 1024
"""The distribution's limit."""


class Described(msgspec.Struct, frozen=True):
    """What a manifest says of a blob or of another manifest."""

    digest: str = ""


class Manifest(msgspec.Struct, frozen=True):
    """The parts of a manifest, or of a list of manifests, that name others."""

    config: Described | None = None
    layers: tuple[Described, ...] | None = None
    manifests: tuple[Described, ...] | None = None
    """Tools in Go write null for none."""

    @property
    def blobs(self) -> tuple[str, ...]:
        """The digests of its configuration and layers."""
        found = (self.config or Described(), *(self.layers or ()))
        return tuple(one.digest for one in found if one.digest)

    @property
    def parts(self) -> tuple[str, ...]:
        """The digests of a list's manifests."""
        return tuple(one.digest for one in self.manifests or ())


class Repository(msgspec.Struct, frozen=True):
    """The images of one name."""

    name: str
    tags: Mapping[str, str] = {}
    """Tag to digest."""
    manifests: Mapping[str, Instant] = {}
    """By digest, when it was pushed."""


class Contents(msgspec.Struct, frozen=True):
    """All of it."""

    repositories: tuple[Repository, ...] = ()
    manifests: Mapping[str, Manifest] = {}
    """By digest; one that cannot be read is left out, and its repository stays as it is."""
    blobs: Mapping[str, int] = {}
    """Bytes by digest, manifests too."""

    @property
    def size(self) -> int:
        """Bytes of all blobs."""
        return sum(self.blobs.values())

    @property
    def is_readable(self) -> bool:
        """Whether every manifest was read."""
        return all(
            digest in self.manifests for one in self.repositories for digest in one.manifests
        )


def superfluous(
    contents: Contents, needed: Collection[str], now: Instant
) -> tuple[tuple[str, str], ...]:
    """Repositories and digests of the manifests that no tag, no list that stays and no service
    names. `needed`: the digests that specs of services, and earlier ones, name.
    """
    found: list[tuple[str, str]] = []
    for repository in contents.repositories:
        if not all(digest in contents.manifests for digest in repository.manifests):
            continue  # a list that cannot be read may have any of them
        kept = _kept(contents, repository, needed, now)
        found += [(repository.name, one) for one in repository.manifests if one not in kept]
    return tuple(found)


def usage_of(contents: Contents, needed: Collection[str], now: Instant) -> RegistryUsage:
    """What it uses, without its disk. `needed`: as `superfluous`, and REPOSITORY:TAG of specs that
    name no digest.
    """
    freed = _freed(contents, superfluous(contents, needed, now))
    holders = Counter(digest for one in contents.repositories for digest in _named(contents, one))
    found = [_repository(contents, one, holders, freed) for one in contents.repositories]
    found.sort(key=lambda one: (-one.size, one.name))
    return RegistryUsage(
        images=sum(one.tags for one in found),
        active=sum(
            digest in needed or f"{one.name}:{tag}" in needed
            for one in contents.repositories
            for tag, digest in one.tags.items()
        ),
        size=contents.size,
        reclaimable=sum(freed.values()),
        loose_bytes=sum(size for one, size in freed.items() if one not in holders),
        repositories=tuple(found),
    )


def _repository(
    contents: Contents,
    repository: Repository,
    holders: Mapping[str, int],
    freed: Mapping[str, int],
) -> RegistryRepository:
    sizes = {digest: contents.blobs.get(digest, 0) for digest in _named(contents, repository)}
    return RegistryRepository(
        name=repository.name,
        tags=len(repository.tags),
        manifests=len(repository.manifests),
        size=sum(sizes.values()),
        unique_bytes=sum(size for one, size in sizes.items() if holders[one] == 1),
        reclaimable=sum(size for one, size in sizes.items() if one in freed),
    )


def _named(
    contents: Contents, repository: Repository, removed: Collection[tuple[str, str]] = ()
) -> dict[str, None]:
    """The digests of its manifests, and of what they name, but for those that are removed."""
    found: dict[str, None] = {}
    for digest in repository.manifests:
        if (repository.name, digest) not in removed:
            found[digest] = None
            found |= dict.fromkeys(contents.manifests.get(digest, Manifest()).blobs)
    return found


def _freed(contents: Contents, gone: Iterable[tuple[str, str]]) -> dict[str, int]:
    """The blobs that nothing names once these manifests are removed, with their bytes."""
    if not contents.is_readable:
        return {}
    removed = frozenset(gone)
    used: dict[str, None] = {}
    for repository in contents.repositories:
        used |= _named(contents, repository, removed)
    return {digest: size for digest, size in contents.blobs.items() if digest not in used}


def _kept(
    contents: Contents, repository: Repository, needed: Collection[str], now: Instant
) -> frozenset[str]:
    begun = [*repository.tags.values()]
    begun += [
        digest
        for digest, pushed_at in repository.manifests.items()
        if digest in needed or now - pushed_at < YOUNG
    ]
    kept: dict[str, None] = {}
    while begun:
        digest = begun.pop()
        if digest not in kept and digest in repository.manifests:
            kept[digest] = None
            begun += contents.manifests[digest].parts
    return frozenset(kept)
