"""The mounts of a container besides its root file system, and its masked paths. PURE."""

from collections.abc import Mapping, Sequence
from typing import Any

from pyswarm_core.docker.isolation import tmpfs
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.specs import ContainerSpec
from pyswarm_core.validation.isolation import has_user_namespace
from pyswarm_core.volumes.mounts import BindOptions, Mount, MountType, TmpfsOptions

SHM_BYTES = 64 * 1024 * 1024

MASKED_PATHS = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)

READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

INIT_PATH = "/sbin/docker-init"
_RECURSIVE_READ_ONLY = (5, 12)
"""The kernel that makes the mounts below a mount read-only too (mount_setattr(2))."""


def _mount(target: str, kind: str, source: str, *options: str) -> dict[str, Any]:
    return {"destination": target, "type": kind, "source": source, "options": list(options)}


def default_mounts(
    spec: ContainerSpec, given: Sequence[dict[str, Any]] = ()
) -> list[dict[str, Any]]:
    """The file systems that every container has, as in Docker, those of `--tmpfs`, and the `given`
    ones: one at the same path replaces the default.
    """
    quiet = ("nosuid", "noexec", "nodev")
    pts = ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5")
    mode = "rw" if spec.privileged else "ro"
    found = [
        _mount("/proc", "proc", "proc", *quiet),
        _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        _mount("/dev/pts", "devpts", "devpts", *pts),
        _mount("/sys", "sysfs", "sysfs", *quiet, mode),
        _mount("/sys/fs/cgroup", "cgroup", "cgroup", mode, *quiet),
        _mount("/dev/mqueue", "mqueue", "mqueue", *quiet),
        *_shared_memory(spec, quiet),
    ]
    paths = {path.rstrip("/"): options for path, options in spec.tmpfs.items()}
    taken = paths.keys() | {each["destination"] for each in given}
    kept = [each for each in found if each["destination"] not in taken]
    own = [
        _mount(path, "tmpfs", "tmpfs", *tmpfs.mount_options(options))
        for path, options in paths.items()
    ]

    def depth(each: dict[str, Any]) -> int:
        return str(each["destination"]).count("/")

    # A parent before its children.
    return sorted([*kept, *own, *given], key=depth) if given else kept + sorted(own, key=depth)


def spec_mounts(
    spec: ContainerSpec, sources: Mapping[str, str], kernel: tuple[int, int]
) -> list[dict[str, Any]]:
    """The mounts of the spec; `sources` are their paths on the host, by target.

    Raises InvalidArgument if this host's kernel cannot make one.
    """
    found = [_spec_mount(mount, sources.get(mount.target, ""), kernel) for mount in spec.mounts]
    if has_user_namespace(spec):
        for mount, made in zip(spec.mounts, found, strict=True):
            if mount.type is MountType.VOLUME:  # owners are those of the image, and of others
                made["options"].append("idmap")
    return found


def _spec_mount(mount: Mount, source: str, kernel: tuple[int, int]) -> dict[str, Any]:
    target = mount.target.rstrip("/")
    mode = "ro" if mount.read_only else "rw"
    if mount.type is MountType.TMPFS:
        options = mount.tmpfs_options or TmpfsOptions()
        size = (f"size={options.size_bytes}",) if options.size_bytes else ()
        bits = f"mode={options.mode or 0o1777:o}"
        return _mount(target, "tmpfs", "tmpfs", *tmpfs.DEFAULTS, bits, *size, mode)
    if mount.type is MountType.IMAGE:  # read-only whatever is given, as in Docker
        return bind_mount(source, target, read_only=True)
    if mount.type is MountType.VOLUME:
        return bind_mount(source, target, read_only=mount.read_only)
    bind = mount.bind_options or BindOptions()
    recursive = mount.read_only and not (bind.read_only_non_recursive or bind.non_recursive)
    if recursive and kernel >= _RECURSIVE_READ_ONLY:
        mode = "rro"
    elif bind.read_only_force_recursive:
        wanted = ".".join(map(str, _RECURSIVE_READ_ONLY))
        raise InvalidArgument(f"bind-recursive=readonly: this host's kernel is older than {wanted}")
    kind = "bind" if bind.non_recursive else "rbind"
    return _mount(target, "bind", source, kind, bind.propagation or "rprivate", mode)


def _shared_memory(spec: ContainerSpec, quiet: tuple[str, ...]) -> list[dict[str, Any]]:
    if spec.ipc_mode == "none":
        return []
    if spec.ipc_mode == "host":
        return [bind_mount("/dev/shm", "/dev/shm")]
    size = spec.shm_size or SHM_BYTES
    return [_mount("/dev/shm", "tmpfs", "shm", *quiet, "mode=1777", f"size={size}")]


def bind_mount(source: str, target: str, *, read_only: bool = False) -> dict[str, Any]:
    """A bind mount of a file or directory of the host at `target`."""
    mode = "ro" if read_only else "rw"
    return _mount(target, "bind", source, "rbind", "rprivate", mode)


def file_mounts(files: Mapping[str, str]) -> list[dict[str, Any]]:
    """Bind mounts of single files: container path to host path."""
    return [bind_mount(source, target) for target, source in sorted(files.items())]
