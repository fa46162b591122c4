"""Validation of mounts and volumes. PURE."""

from collections import Counter
from collections.abc import Iterable, Mapping

from pyswarm_core.docker.mounts import PROPAGATIONS, name_fault, text_of
from pyswarm_core.docker.reference import parse_reference
from pyswarm_core.errors import InvalidArgument, quoted
from pyswarm_core.limits import NODE_MEMORY_MAX
from pyswarm_core.specs import ContainerSpec
from pyswarm_core.validation import text
from pyswarm_core.validation.isolation import has_user_namespace, is_mount_path
from pyswarm_core.validation.problem import Missing, Problem, at_most
from pyswarm_core.volumes.allowed import beneath
from pyswarm_core.volumes.drivers import (
    DRIVERS,
    LOCAL,
    OptionMissing,
    OptionRefused,
    backing,
    secrets,
)
from pyswarm_core.volumes.mounts import BindOptions, Mount, MountType, VolumeOptions
from pyswarm_core.volumes.volume import VolumeSpec

MOUNTS_MAX = 64
PATH_BYTES_MAX = 4095
"""Linux's PATH_MAX, without the NUL that ends a path."""
NAME_BYTES_MAX = 255
"""Linux's NAME_MAX."""
VOLUME_NAME_MAX = 255
"""As many characters as a file name may have: Docker's limit."""


def mount_problems(spec: ContainerSpec) -> Iterable[Problem]:
    """The problems of a container's mounts."""
    yield from at_most("--mount", spec.mounts, MOUNTS_MAX)
    for mount in spec.mounts[:MOUNTS_MAX]:
        yield from _mount_problems(mount)
        if mount.type is MountType.IMAGE and has_user_namespace(spec):
            expected = f"expected no --userns {spec.userns_mode}: the kernel maps no ids of images"
            yield Problem("--mount", text_of(mount), expected)
    targets = [mount.target.rstrip("/") for mount in spec.mounts]
    for target, count in Counter([*targets, *(path.rstrip("/") for path in spec.tmpfs)]).items():
        if count > 1 and target in targets:
            yield Problem("--mount", target, "duplicate mount point: expected one mount", "target")


def is_mountable(path: str) -> bool:
    """Whether something may be mounted at this path of a container."""
    target = path.rstrip("/") or "/"
    return is_mount_path(path) and target not in ("/", "/proc") and not target.startswith("/proc/")


def _mount_problems(mount: Mount) -> Iterable[Problem]:
    shown = text_of(mount)
    if not is_mount_path(mount.target):
        expected = "expected an absolute target without . and .., of at most 4096 characters"
        yield Problem("--mount", shown, expected)
    elif not is_mountable(mount.target):
        yield Problem("--mount", shown, "expected a target other than / and outside of /proc")
    if mount.type is MountType.BIND:
        yield from _bind_problems(mount, shown)
    elif mount.type is MountType.VOLUME:
        yield from _of_volume(mount.source, mount.volume_options or VolumeOptions(), shown)
    elif mount.type is MountType.IMAGE:
        yield from _image_problems(mount, shown)
    elif mount.source:
        yield Problem("--mount", shown, "expected no source: it is a mount of type tmpfs")
    if (options := mount.tmpfs_options) is not None and (
        not 0 <= options.size_bytes <= NODE_MEMORY_MAX or not 0 <= options.mode <= 0o7777
    ):
        expected = f"expected tmpfs-size of 0 to {NODE_MEMORY_MAX}, and tmpfs-mode of 0 to 7777"
        yield Problem("--mount", shown, expected)


def _bind_problems(mount: Mount, shown: str) -> Iterable[Problem]:
    if fault := bind_source_fault(mount.source):
        yield Problem("--mount", shown, fault)
    options = mount.bind_options or BindOptions()
    if options.beneath and not beneath(mount.source, options.beneath):
        expected = f"expected a source beneath {options.beneath}, which allows the mount"
        yield Problem("--mount", shown, expected)
    if options.propagation not in ("", *PROPAGATIONS):
        expected = f"expected bind-propagation to be one of {', '.join(PROPAGATIONS)}"
        yield Problem("--mount", shown, expected)
    if (options.read_only_non_recursive or options.read_only_force_recursive) and (
        not mount.read_only or options.non_recursive
    ):
        yield Problem("--mount", shown, "expected readonly, and not bind-recursive=disabled")


def _image_problems(mount: Mount, shown: str) -> Iterable[Problem]:
    if mount.subpath and not is_mount_path(f"/{mount.subpath}"):
        expected = "expected a relative path in the image without . and .., of at most 4095"
        yield Problem("--mount", mount.subpath, f"{expected} characters", "image-subpath")
    try:
        parse_reference(mount.source)
    except InvalidArgument as error:
        yield Problem("--mount", shown, error.reason)


def bind_source_fault(source: str) -> str:
    """What is wrong with the source of a bind; empty: nothing."""
    if not source.startswith("/"):
        return (
            f"invalid mount path: {quoted(source)} mount path must be absolute: expected an"
            " absolute path of the nodes, or a volume (tasks of a service run on any node)"
        )
    if not source.isprintable():
        return "invalid mount path: expected a source of printable characters, in UTF-8"
    if len(source.encode()) > PATH_BYTES_MAX:
        return f"invalid mount path: expected a source of at most {PATH_BYTES_MAX} bytes"
    if any(len(name.encode()) > NAME_BYTES_MAX for name in source.split("/")):
        return f"invalid mount path: expected names of at most {NAME_BYTES_MAX} bytes in the source"
    if not is_mount_path(source):
        return "invalid mount path: expected a source that is an absolute path without . and .."
    return ""


def _of_volume(name: str, options: VolumeOptions, shown: str) -> Iterable[Problem]:
    yield from _subpath_problems(name, options.subpath, shown)
    if name:
        yield from volume_name_problems("--mount", name)
    driver = options.driver_config
    yield from _driver_problems("volume-driver", "volume-opt", driver.name or LOCAL, driver.options)
    if not name and (driver.options or driver.name not in ("", LOCAL)):
        yield Problem("--mount", shown, "expected a source: only a named volume has driver options")
    if secrets(driver.options):
        expected = (
            "expected no password: specs of services show it. Create the volume with pyswarm volume"
            " create, and mount it by its name"
        )
        yield Problem("volume-opt", next(iter(secrets(driver.options))), expected, "option")
    yield from text.label_problems("volume-label", options.labels)


def _subpath_problems(name: str, subpath: str, shown: str) -> Iterable[Problem]:
    if not subpath:
        return
    if not is_mount_path(f"/{subpath}"):
        expected = "expected a relative path in the volume without . and .., of at most 4095"
        yield Problem("--mount", subpath, f"{expected} characters", "volume-subpath")
    if not name:
        expected = "expected a source as well, in which volume-subpath exists"
        yield Problem("--mount", shown, expected)


def volume_name_problems(field: str, name: str) -> Iterable[Problem]:
    """Docker's names of volumes."""
    if fault := name_fault(name):
        yield Problem(field, name, fault, "volume name")
    elif len(name) > VOLUME_NAME_MAX:
        expected = f"expected at most {VOLUME_NAME_MAX} characters"
        yield Problem(field, name, expected, "volume name")


def _driver_problems(
    driver_field: str, field: str, driver: str, options: Mapping[str, str]
) -> Iterable[Problem]:
    if driver not in DRIVERS:
        expected = f"expected one of {', '.join(DRIVERS)}: there are no plugins"
        yield Problem(driver_field, driver, expected)
        return
    try:
        backing(driver, options)
    except OptionMissing as error:
        yield Missing(field, error.option, error.reason, "option")
    except OptionRefused as error:
        yield Problem(field, error.option, error.reason, error.what)


def volume_problems(spec: VolumeSpec) -> list[Problem]:
    """The problems of a volume's spec; empty if it may be stored."""
    return [
        *volume_name_problems("name", spec.name),
        *_driver_problems("--driver", "--opt", spec.driver, spec.driver_opts),
        *text.label_problems("--label", spec.labels),
    ]
