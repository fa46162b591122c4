"""The image interface of the agent: values, errors and the `Images` protocol. PURE: values only.

`store.py` (real: containers-storage and skopeo) and `fake.py` (in memory) implement `Images` and
pass the same contract tests. Invariant: an `Image` never changes; a moved tag names another one.
"""

from collections.abc import Callable, Collection
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

import msgspec

from pyswarm_core.specs import HealthConfig

if TYPE_CHECKING:
    from agent.images.building.buildah import Builds


class ImageError(Exception):
    """An image could not be pulled, found or removed. The text is one line, fit for a task's error.

    `temporary`: whether the same request may succeed later without a change.
    """

    temporary = False


class ImageNotFound(ImageError):
    """The registry answered that the repository, tag or digest does not exist."""


class Unauthorized(ImageError):
    """The registry requires credentials, or refused those that it got."""


class InvalidImage(ImageError):
    """The registry's image is corrupt, of an unknown format, or for another platform."""


class DiskFull(ImageError):
    """This host has no space for the image; another host may have."""


class RegistryUnavailable(ImageError):
    """No registry answered, or a connection broke. The only error that is worth a retry."""

    temporary = True


class ImageInUse(ImageError):
    """The image was not removed: a task on this host uses it."""


class Removed(msgspec.Struct, frozen=True, kw_only=True):
    """The names that an image lost; and the bytes of its layers, if it is gone."""

    untagged: tuple[str, ...] = ()
    deleted: bool = False
    reclaimed_bytes: int = 0


class ImageBlob(msgspec.Struct, frozen=True, kw_only=True):
    """An image's configuration, as its registry has it, and the unpacked bytes of its layers, the
    lowest first.
    """

    config: bytes
    layer_sizes: tuple[int, ...] = ()


class PullPolicy(StrEnum):
    """When to pull from the registry."""

    MISSING = "missing"
    """Only if no local image has the reference."""
    ALWAYS = "always"
    """Every time, unless the reference names the digest of a local image: a digest cannot move."""


class PullPhase(StrEnum):
    """The phase of a pull."""

    WAITING = "waiting"
    CONNECTING = "connecting"
    COPYING = "copying"
    STORING = "storing"


class LayerState(StrEnum):
    """How far a layer is."""

    PENDING = "pending"
    EXISTS = "exists"
    """This host had it."""
    DOWNLOADING = "downloading"
    DONE = "done"


class LayerProgress(msgspec.Struct, frozen=True, kw_only=True):
    """One layer of a pull: the first digits of its digest, and its compressed bytes; a total of 0
    is not known.
    """

    id: str
    state: LayerState = LayerState.PENDING
    done_bytes: int = 0
    total_bytes: int = 0


class PullProgress(msgspec.Struct, frozen=True, kw_only=True):
    """The number of `blobs` begun and of `bytes` received so far, and the `layers` begun."""

    reference: str
    phase: PullPhase
    blobs: int = 0
    bytes: int = 0
    layers: tuple[LayerProgress, ...] = ()

    @property
    def total_bytes(self) -> int:
        """Of the layers that were begun."""
        return sum(layer.total_bytes for layer in self.layers)


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """A registry login. Never printed, on a command line, or in a file that remains after the
    pull.
    """

    username: str
    password: str

    def __repr__(self) -> str:
        return f"Credentials(username={self.username!r})"


class ImageConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The run configuration of an image. `env` is `NAME=value`, `exposed_ports` is `80/tcp`."""

    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    user: str = ""
    workdir: str = ""
    stop_signal: str = ""
    labels: dict[str, str] = {}
    exposed_ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    healthcheck: HealthConfig = HealthConfig()
    """As Docker stores HEALTHCHECK: `test` is empty (none), NONE, CMD ... or CMD-SHELL ..."""


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """A complete local image.

    `id` is the configuration's digest without `sha256:`; `digest` is the manifest's, with it.
    `names` are full references (`docker.io/library/web:1`, `…@sha256:…`). `layers` are the unpacked
    directories, the uppermost first, by short paths: those of a deep image fit one mount's options.
    """

    id: str
    digest: str
    names: tuple[str, ...]
    layers: tuple[str, ...]
    config: ImageConfig
    size_bytes: int = 0
    created: str = ""
    architecture: str = ""
    os: str = ""
    variant: str = ""
    layer_bytes: tuple[int, ...] = ()
    """Of each of `layers`."""
    parent: str = ""
    """The id of the image of the step before, if a build made it."""
    unique_bytes: int = 0
    """Of layers that no other image here has; only in what `Images.stored` returns."""

    @property
    def platform(self) -> str:
        """OS/ARCH[/VARIANT]."""
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


class LooseLayer(msgspec.Struct, frozen=True):
    """A layer that no image here has: of a pull that did not end, or of a build."""

    id: str
    bytes: int = 0


class Stored(msgspec.Struct, frozen=True):
    """All that is stored. `bytes` counts each layer once."""

    images: tuple[Image, ...] = ()
    """Every complete one, also without a name, in the order of ids."""
    loose: tuple[LooseLayer, ...] = ()
    """Each before the layer that it lies on."""
    bytes: int = 0


ReportProgress = Callable[[PullProgress], None]


class Images(Protocol):
    """Finds, pulls, lists and removes images. References are as users write them.

    Every method raises InvalidArgument for a malformed reference, before it contacts a registry.
    """

    async def resolve(
        self,
        reference: str,
        credentials: Credentials | None = None,
        progress: ReportProgress | None = None,
        policy: PullPolicy = PullPolicy.MISSING,
    ) -> Image:
        """The image, pulled if needed; a local hit costs one stat. Raises ImageError.

        Concurrent callers of one reference share one pull, and each gets its progress. The pull is
        cancelled with its last caller.
        """
        ...

    async def pull(
        self,
        reference: str,
        credentials: Credentials | None = None,
        progress: ReportProgress | None = None,
        platform: str = "",
    ) -> Image:
        """`resolve` with PullPolicy.ALWAYS; for another platform than this host's, if it is given
        as OS[/ARCH[/VARIANT]].
        """
        ...

    async def tags(self, reference: str, credentials: Credentials | None = None) -> tuple[str, ...]:
        """The tags of the reference's repository in its registry. Raises ImageError."""
        ...

    async def resolve_digest(self, reference: str, credentials: Credentials | None = None) -> str:
        """The digest of the registry's current manifest; pulls no layer. Raises ImageError."""
        ...

    async def configuration(
        self, reference: str, credentials: Credentials | None = None
    ) -> ImageConfig:
        """The run configuration of the local image, else of the registry's current one; pulls no
        layer. Raises ImageError.
        """
        ...

    def fleet_changed(self, registries: tuple[str, ...], password: str, roots: str) -> None:
        """The fleet's registries, which are asked first; what they require, and the certificates by
        which they are verified.
        """
        ...

    async def blob(self, image_id: str) -> ImageBlob:
        """The image's configuration. Raises ImageNotFound."""
        ...

    async def save(self, image_id: str, names: Collection[str], descriptor: int) -> None:
        """Write the image with these names to the descriptor, as an archive of `docker save`.

        Raises ImageError. The image may be removed meanwhile.
        """
        ...

    async def push(self, image_id: str, to: str, password: str) -> None:
        """Push the image to `to`, HOST:PORT/REPOSITORY:TAG of a registry without TLS that requires
        the password. Raises ImageError.
        """
        ...

    async def delete(
        self, image_id: str, names: Collection[str] = (), in_use: Collection[str] = ()
    ) -> Removed:
        """Remove these full names (none: all) of an image, and the image with its last one.

        Raises ImageNotFound, ImageInUse if it would go and its id is `in_use`, and ImageError if a
        container of another tool has it.
        """
        ...

    async def delete_layer(self, layer_id: str) -> None:
        """Delete a loose layer. Raises ImageError, also if it is not there."""
        ...

    async def stored(self) -> Stored:
        """All images and layers; reads nothing if nothing changed."""
        ...

    @property
    def builds(self) -> "Builds | None":
        """Builds in the storage of these images; None if there can be none."""
        ...

    @property
    def pulling(self) -> bool:
        """Whether a pull or a build is running."""
        ...
