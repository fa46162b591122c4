"""Validation of mounts and volumes. PURE."""

from collections import Counter
from collections.abc import Iterable, Mapping

from pyswarm_core.docker.mounts import PROPAGATIONS, name_fault, text_of
from pyswarm_core.limits import NODE_MEMORY_MAX
from pyswarm_core.specs import ContainerSpec
from pyswarm_core.validation import text
from pyswarm_core.validation.isolation import has_user_namespace, is_mount_path
from pyswarm_core.validation.problem import Problem, at_most
from pyswarm_core.volumes.mounts import BindOptions, Mount, MountType, VolumeOptions
from pyswarm_core.volumes.volume import LOCAL, VolumeSpec

MOUNTS_MAX = 64
VOLUME_NAME_MAX = 255
"""As many characters as a file name may have: Docker's limit."""
_OPTIONS_EXPECTED = (
    "expected none: the local driver has no options yet; to use a mount of the nodes, mount it"
    " there and use --mount type=bind"
)


def mount_problems(spec: ContainerSpec) -> Iterable[Problem]:
    """The problems of a container's mounts."""
    yield from at_most("--mount", spec.mounts, MOUNTS_MAX)
    for mount in spec.mounts[:MOUNTS_MAX]:
        yield from _mount_problems(mount)
        if mount.type is MountType.VOLUME and has_user_namespace(spec):
            expected = f"expected no --userns {spec.userns_mode}: volumes map no ids yet"
            yield Problem("--mount", text_of(mount), expected)
    targets = [mount.target.rstrip("/") for mount in spec.mounts]
    for target, count in Counter([*targets, *(path.rstrip("/") for path in spec.tmpfs)]).items():
        if count > 1 and target in targets:
            yield Problem("--mount", target, "duplicate mount point: expected one mount", "target")


def _mount_problems(mount: Mount) -> Iterable[Problem]:
    shown = text_of(mount)
    target = mount.target.rstrip("/") or "/"
    if not is_mount_path(mount.target):
        expected = "expected an absolute target without . and .., of at most 4096 characters"
        yield Problem("--mount", shown, expected)
    elif target in ("/", "/proc") or target.startswith("/proc/"):
        yield Problem("--mount", shown, "expected a target other than / and outside of /proc")
    if mount.type is MountType.BIND:
        yield from _bind_problems(mount, shown)
    elif mount.type is MountType.VOLUME:
        yield from _of_volume(mount.source, mount.volume_options or VolumeOptions(), shown)
    elif mount.source:
        yield Problem("--mount", shown, "expected no source: it is a mount of type tmpfs")
    if (options := mount.tmpfs_options) is not None and (
        not 0 <= options.size_bytes <= NODE_MEMORY_MAX or not 0 <= options.mode <= 0o7777
    ):
        expected = f"expected tmpfs-size of 0 to {NODE_MEMORY_MAX}, and tmpfs-mode of 0 to 7777"
        yield Problem("--mount", shown, expected)


def _bind_problems(mount: Mount, shown: str) -> Iterable[Problem]:
    if not is_mount_path(mount.source):
        expected = "invalid mount path: expected a source that is an absolute path without . and .."
        yield Problem("--mount", shown, expected)
    options = mount.bind_options or BindOptions()
    if options.propagation not in ("", *PROPAGATIONS):
        expected = f"expected bind-propagation to be one of {', '.join(PROPAGATIONS)}"
        yield Problem("--mount", shown, expected)
    if (options.read_only_non_recursive or options.read_only_force_recursive) and (
        not mount.read_only or options.non_recursive
    ):
        yield Problem("--mount", shown, "expected readonly, and not bind-recursive=disabled")


def _of_volume(name: str, options: VolumeOptions, shown: str) -> Iterable[Problem]:
    if name:
        yield from volume_name_problems("--mount", name)
    driver = options.driver_config
    yield from _driver_problems("volume-driver", driver.name or LOCAL, driver.options)
    yield from text.label_problems("volume-label", options.labels)


def volume_name_problems(field: str, name: str) -> Iterable[Problem]:
    """Docker's names of volumes."""
    if fault := name_fault(name):
        yield Problem(field, name, fault, "volume name")
    elif len(name) > VOLUME_NAME_MAX:
        expected = f"expected at most {VOLUME_NAME_MAX} characters"
        yield Problem(field, name, expected, "volume name")


def _driver_problems(field: str, driver: str, options: Mapping[str, str]) -> Iterable[Problem]:
    if driver != LOCAL:
        yield Problem(field, driver, "expected local: there are no other volume drivers yet")
    for key, value in options.items():
        yield Problem("--opt", f"{key}={value}", _OPTIONS_EXPECTED)


def volume_problems(spec: VolumeSpec) -> list[Problem]:
    """The problems of a volume's spec; empty if it may be stored."""
    return [
        *volume_name_problems("name", spec.name),
        *_driver_problems("--driver", spec.driver, spec.driver_opts),
        *text.label_problems("--label", spec.labels),
    ]
