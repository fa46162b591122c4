"""The image interface of the agent: values, errors and the `Images` protocol. PURE: values only.

`store.py` (real: containers-storage and skopeo) and `fake.py` (in memory) implement `Images` and
pass the same contract tests. Invariant: an `Image` never changes; a moved tag names another one.
"""

from collections.abc import Callable, Collection
from enum import StrEnum
from typing import Protocol

import msgspec

from pyswarm_core.specs import HealthConfig


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


class PullProgress(msgspec.Struct, frozen=True, kw_only=True):
    """The number of `blobs` begun and of `bytes` received so far; the totals are not known."""

    reference: str
    phase: PullPhase
    blobs: int = 0
    bytes: int = 0


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
    ) -> Image:
        """`resolve` with PullPolicy.ALWAYS."""
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

    async def list(self) -> tuple[Image, ...]:
        """Every complete image that has a name, in the order of ids."""
        ...

    async def remove(self, reference: str, in_use: Collection[str] = ()) -> None:
        """Remove the name, and with the last name the image and the layers that no other image has.

        Raises ImageNotFound if no local image has the reference, ImageInUse if it is the last name
        of an image whose id is `in_use`.
        """
        ...
