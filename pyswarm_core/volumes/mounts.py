"""The mounts of a container spec, in the shape of Docker's Engine API. PURE values."""

from collections.abc import Iterable
from enum import StrEnum

from pyswarm_core.model import Model


class MountType(StrEnum):
    """What is mounted."""

    BIND = "bind"
    """A file or directory of the host."""
    VOLUME = "volume"
    TMPFS = "tmpfs"
    """A file system in memory."""
    IMAGE = "image"
    """The files of an image, read-only."""


class Driver(Model, frozen=True):
    """The driver of a volume."""

    name: str = ""
    """Empty: local."""
    options: dict[str, str] = {}


class BindOptions(Model, frozen=True):
    """Options of a mount of type bind."""

    propagation: str = ""
    """Empty: rprivate."""
    non_recursive: bool = False
    """Only the source, not the mounts below it."""
    create_mountpoint: bool = False
    """A source that does not exist is made, as a directory."""
    read_only_non_recursive: bool = False
    """Read-only is the source alone, not the mounts below it."""
    read_only_force_recursive: bool = False
    """Read-only are the mounts below it too, or the task fails."""
    beneath: str = ""
    """The allowed path that lets a caller who is no admin bind the source: the agent mounts nothing
    that is not beneath it. Empty: an admin bound it.
    """


class VolumeOptions(Model, frozen=True):
    """Options of a mount of type volume. Labels and driver are those of a volume that the mount
    creates.
    """

    no_copy: bool = False
    """A new volume is not filled from the image."""
    labels: dict[str, str] = {}
    driver_config: Driver = Driver()
    subpath: str = ""
    """A path in the volume, which must exist: it is mounted instead of the whole volume."""


class TmpfsOptions(Model, frozen=True):
    """Options of a mount of type tmpfs."""

    size_bytes: int = 0
    """0: the kernel's default, half of the host's memory."""
    mode: int = 0
    """Permission bits; 0: 1777 (octal)."""


class ImageOptions(Model, frozen=True):
    """Options of a mount of type image."""

    subpath: str = ""
    """A path in the image, which must exist; empty: all of it."""


class Mount(Model, frozen=True, kw_only=True):
    """Something that is mounted in a container."""

    type: MountType = MountType.VOLUME
    source: str = ""
    """A path of the host, the name of a volume, or an image; empty: a volume of the task's own."""
    target: str
    read_only: bool = False
    bind_options: BindOptions | None = None
    volume_options: VolumeOptions | None = None
    tmpfs_options: TmpfsOptions | None = None
    image_options: ImageOptions | None = None

    @property
    def volume(self) -> str:
        """The name of the volume that it mounts; empty if it names none."""
        return self.source if self.type is MountType.VOLUME else ""

    @property
    def fills(self) -> bool:
        """Whether a new volume is filled from the image."""
        options = self.volume_options
        if options is not None and (options.no_copy or options.subpath):
            return False
        return self.type is MountType.VOLUME

    @property
    def is_of_new_kind(self) -> bool:
        """Whether agents of protocol 8 ignore a part of it."""
        return bool(self.subpath) or self.type is MountType.IMAGE

    @property
    def subpath(self) -> str:
        """The path in the volume or image that is mounted; empty: all of it."""
        options = self.volume_options or self.image_options
        return options.subpath if options else ""

    @property
    def image(self) -> str:
        """The image that it mounts; empty if it mounts none."""
        return self.source if self.type is MountType.IMAGE else ""


def is_relative(source: str) -> bool:
    """Whether the source of a bind is relative to a working directory, in one of Docker's forms."""
    return source in (".", "..") or source.startswith(("./", "../"))


def volumes_of(mounts: Iterable[Mount]) -> tuple[str, ...]:
    """The names of the volumes that are mounted, each once, in order."""
    return tuple(dict.fromkeys(mount.volume for mount in mounts if mount.volume))


def writes_volumes(mounts: Iterable[Mount]) -> bool:
    """Whether a named volume is mounted read-write."""
    return any(mount.volume and not mount.read_only for mount in mounts)
