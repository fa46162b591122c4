"""What the fleet's registry has and uses, as the API shows it. PURE values."""

import msgspec


class RegistryTag(msgspec.Struct, frozen=True):
    """A tag, of an image named as in `docker.io/library/web`."""

    name: str
    tag: str
    digest: str


class RegistryRepository(msgspec.Struct, frozen=True, kw_only=True):
    """The images of one name; sizes are bytes of packed layers."""

    name: str
    tags: int = 0
    manifests: int = 0
    """Images, and lists of them."""
    size: int = 0
    unique_bytes: int = 0
    """Of blobs that no other repository has."""
    reclaimable: int = 0
    """Of blobs that a collection of garbage frees."""


class RegistryUsage(msgspec.Struct, frozen=True, kw_only=True):
    """What all of it uses, in bytes; each blob counts once."""

    address: str = ""
    """HOST:PORT where nodes reach it; empty: the fleet has none."""
    images: int = 0
    """Names with a tag."""
    active: int = 0
    """Those that a service needs, or may return to."""
    size: int = 0
    reclaimable: int = 0
    """Bytes that a collection of garbage frees."""
    loose_bytes: int = 0
    """Of blobs that no manifest names."""
    disk_bytes: int = 0
    """Of its disk; 0: unknown."""
    disk_free: int = 0
    quota: int = 0
    """Bytes above which pushes are refused; 0: none."""
    repositories: tuple[RegistryRepository, ...] = ()
    """The largest first."""
    more: int = 0
    """The number of further repositories."""
