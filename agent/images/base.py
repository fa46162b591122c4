"""The agent's one view of images: values, errors and the `Images` protocol.

PURE: values only. `store.py` (real: containers-storage and skopeo) and `fake.py` (in memory)
implement `Images` and pass the same contract tests. Invariant: an `Image` never changes; a tag
that moves yields another one.
"""

from collections.abc import Callable, Collection
from enum import StrEnum
from typing import Protocol

import msgspec


class ImageError(Exception):
    """An image could not be had. The text is one line, fit for a task's message.

    `temporary` says whether the same request may succeed later though nobody changes anything.
    """

    temporary = False


class ImageNotFound(ImageError):
    """The registry answered: no such repository, tag or digest."""


class Unauthorized(ImageError):
    """The registry wants (other) credentials."""


class InvalidImage(ImageError):
    """The registry has it, but it is corrupt, of an unknown kind, or for another platform."""


class DiskFull(ImageError):
    """No space left on this host for the image; another host may have it."""


class RegistryUnavailable(ImageError):
    """No registry answered, or one broke off. The only error worth repeating here."""

    temporary = True


class ImageInUse(ImageError):
    """Refused to remove an image that a task here still needs."""


class PullPolicy(StrEnum):
    """When to ask the registry."""

    MISSING = "missing"
    """Only if no local image answers to the reference."""
    ALWAYS = "always"
    """Every time, unless the reference names a digest that is here: a digest cannot move."""


class PullPhase(StrEnum):
    """Where a pull stands."""

    WAITING = "waiting"
    CONNECTING = "connecting"
    COPYING = "copying"
    STORING = "storing"


class PullProgress(msgspec.Struct, frozen=True, kw_only=True):
    """`blobs` were begun, `bytes` went through so far; neither has a promised total."""

    reference: str
    phase: PullPhase
    blobs: int = 0
    bytes: int = 0


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """A registry login. Never printed, on a command line, or in a file that outlives the pull."""

    username: str
    password: str

    def __repr__(self) -> str:
        return f"Credentials(username={self.username!r})"


class HealthConfig(msgspec.Struct, frozen=True, kw_only=True):
    """HEALTHCHECK: `test` as Docker stores it (NONE, CMD … or CMD-SHELL …); 0 means the default."""

    test: tuple[str, ...] = ()
    interval_ns: int = 0
    timeout_ns: int = 0
    start_period_ns: int = 0
    start_interval_ns: int = 0
    retries: int = 0


class ImageConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What the image says about running it. `env` is `NAME=value`, `exposed_ports` is `80/tcp`."""

    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    user: str = ""
    workdir: str = ""
    stop_signal: str = ""
    labels: dict[str, str] = {}
    exposed_ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    healthcheck: HealthConfig | None = None


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """An image that is here in full.

    `id` is the configuration's digest without `sha256:`; `digest` is the manifest's, with it.
    `names` are full references (`docker.io/library/web:1`, `…@sha256:…`). `layers` are unpacked
    directories, the uppermost first, by their short names: a deep image fits one mount's options.
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
    """Finds, fetches, lists and removes images. References come as users write them.

    Every method raises InvalidArgument for a malformed reference, before it asks anyone.
    """

    async def resolve(
        self,
        reference: str,
        credentials: Credentials | None = None,
        progress: ReportProgress | None = None,
        policy: PullPolicy = PullPolicy.MISSING,
    ) -> Image:
        """The image, pulled if need be; a local hit costs one stat. Raises ImageError.

        Concurrent callers of one reference share one pull, and each is told of its progress; it
        ends when the last caller is cancelled.
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
        """The manifest digest the registry has for it now; fetches no layer. Raises ImageError."""
        ...

    async def list(self) -> tuple[Image, ...]:
        """Every complete image that has a name, in the order of ids."""
        ...

    async def remove(self, reference: str, in_use: Collection[str] = ()) -> None:
        """Take the name away, and with the last name the image and the layers nobody else has.

        Raises ImageNotFound if no local image answers to it, ImageInUse if it is the last name of
        an image whose id is `in_use`.
        """
        ...
