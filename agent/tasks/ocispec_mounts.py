"""The mounts of a container besides its root file system, and its masked paths. PURE."""

from collections.abc import Mapping
from typing import Any

from pyswarm_core.docker.isolation import tmpfs
from pyswarm_core.specs import ContainerSpec

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


def _mount(target: str, kind: str, source: str, *options: str) -> dict[str, Any]:
    return {"destination": target, "type": kind, "source": source, "options": list(options)}


def default_mounts(spec: ContainerSpec) -> list[dict[str, Any]]:
    """The file systems that every container has, as in Docker, and those of `--tmpfs`: one at the
    same path replaces the default.
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
    kept = [each for each in found if each["destination"] not in paths]
    # A parent before its children.
    return kept + [
        _mount(path, "tmpfs", "tmpfs", *tmpfs.mount_options(paths[path]))
        for path in sorted(paths, key=lambda each: each.count("/"))
    ]


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
