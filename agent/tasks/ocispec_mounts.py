"""The mounts of a container besides its root file system, and its masked paths. PURE."""

from collections.abc import Mapping
from typing import Any

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


def default_mounts() -> list[dict[str, Any]]:
    """The file systems that every container has, as in Docker."""
    quiet = ("nosuid", "noexec", "nodev")
    pts = ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5")
    return [
        _mount("/proc", "proc", "proc", *quiet),
        _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        _mount("/dev/pts", "devpts", "devpts", *pts),
        _mount("/sys", "sysfs", "sysfs", *quiet, "ro"),
        _mount("/sys/fs/cgroup", "cgroup", "cgroup", "ro", *quiet),
        _mount("/dev/mqueue", "mqueue", "mqueue", *quiet),
        _mount("/dev/shm", "tmpfs", "shm", *quiet, "mode=1777", f"size={SHM_BYTES}"),
    ]


def bind_mount(source: str, target: str, *, read_only: bool = False) -> dict[str, Any]:
    """A bind mount of a file or directory of the host at `target`."""
    mode = "ro" if read_only else "rw"
    return _mount(target, "bind", source, "rbind", "rprivate", mode)


def file_mounts(files: Mapping[str, str]) -> list[dict[str, Any]]:
    """Bind mounts of single files: container path to host path."""
    return [bind_mount(source, target) for target, source in sorted(files.items())]
