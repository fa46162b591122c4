"""What a mapping is asked for, and what it returns. PURE values."""

from collections.abc import Mapping

import msgspec

from compose.report import Remark
from compose.tree import Place
from pyswarm_core.specs import Ulimit
from pyswarm_core.stacks.spec import StackSpec


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How a model is mapped."""

    is_stack: bool = False
    """As `stack deploy` maps it: without `restart` tasks are restarted; no images are built."""
    scales: Mapping[str, int] = {}
    """`--scale`: the replicas of services, by their names in the file."""
    builds: bool = True
    """Whether the command builds images. A stack whose service only has `build` needs it."""


class Build(msgspec.Struct, frozen=True, kw_only=True):
    """How the image of a service is built."""

    image: str
    """The name that the image gets."""
    context: str
    """An absolute path, or a URL."""
    dockerfile: str = ""
    """Relative to the context."""
    dockerfile_inline: str = ""
    target: str = ""
    args: dict[str, str] = {}
    labels: dict[str, str] = {}
    tags: tuple[str, ...] = ()
    """Further names of the image."""
    platforms: tuple[str, ...] = ()
    cache_from: tuple[str, ...] = ()
    cache_to: tuple[str, ...] = ()
    network: str = ""
    no_cache: bool = False
    pull: bool = False
    privileged: bool = False
    extra_hosts: tuple[str, ...] = ()
    """`HOST=ADDRESS`."""
    shm_size: int = 0
    ulimits: tuple[Ulimit, ...] = ()


class Upload(msgspec.Struct, frozen=True):
    """A directory of this host whose files are copied into a volume before tasks start."""

    volume: str
    """The full name."""
    directory: str


class LocalBind(msgspec.Struct, frozen=True):
    """A bind whose source is a path of this host: tasks of the service run here."""

    source: str
    """Absolute."""
    written: str
    """As the file has it; the same as the source if that is absolute."""
    place: Place | None = None
    path: str = ""
    """`services.web.volumes[0]`."""


class Mapped(msgspec.Struct, frozen=True, kw_only=True):
    """A stack, and what the command line does besides applying it. Services are named as in the
    file.
    """

    spec: StackSpec
    services: Mapping[str, str]
    """To their full names, in the order of the file."""
    builds: Mapping[str, Build] = {}
    pull_policies: Mapping[str, str] = {}
    """Of services that have one: `always`, `missing`, `never`, `build`, `daily`, `every_12h`."""
    images: Mapping[str, str] = {}
    unattached: tuple[str, ...] = ()
    """Services whose logs `up` does not show (`attach: false`)."""
    container_names: Mapping[str, str] = {}
    uploads: tuple[Upload, ...] = ()
    local_binds: Mapping[str, tuple[LocalBind, ...]] = {}
    """Services that run on this host, or not at all."""
    externals: Mapping[tuple[str, str], Remark] = {}
    """Networks, volumes, secrets and configs of others, by kind and full name, with where the file
    declares them and an empty text.
    """
    objects: Mapping[str, tuple[str, str]] = {}
    """The kind and full name of what is at `services.web`, `networks.back` and the like."""
    profiles: tuple[str, ...] = ()
    """All that services name, enabled or not."""
    notices: tuple[Remark, ...] = ()
    """What has no effect on a fleet, or one that the author may not expect."""
