"""Weights and limits of block IO. SHELL over cgroupfs and /sys.

Limits are those of whole disks. Weights need a scheduler that applies them: BFQ, or on v2 the
kernel's iocost. Without one they are refused, since the files accept a weight that has no effect.
"""

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from agent.runtime.base import CgroupLimits, DiskLimits, RuntimeFailed
from agent.runtime.cgroups import Hierarchies
from agent.runtime.running.writes import Write
from pyswarm_core.plaintext import split_lines

BLOCKS = Path("/sys/block")
DEVICES = Path("/sys/dev/block")
_DEFAULT_WEIGHT = 100
_V1_RATES = (
    ("read_bps", "blkio.throttle.read_bps_device"),
    ("write_bps", "blkio.throttle.write_bps_device"),
    ("read_iops", "blkio.throttle.read_iops_device"),
    ("write_iops", "blkio.throttle.write_iops_device"),
)
_V2_KEYS = (
    ("read_bps", "rbps"), ("write_bps", "wbps"), ("read_iops", "riops"), ("write_iops", "wiops")
)  # fmt: skip


def writes(hierarchies: Hierarchies, path: str, limits: CgroupLimits) -> Iterator[Write]:
    """The writes that set all of them, and take away those that are not among the limits. Raises
    RuntimeFailed for a path that is no disk of this host, and for a weight without effect.
    """
    files = hierarchies.controller("blkio" if hierarchies.v1 else "io", path)
    requested = limits.blkio_weight or limits.disks
    if files is None or not files.is_dir():
        if requested:
            raise RuntimeFailed("block IO: this host has no cgroup controller for it")
        return
    disks = {number(disk.path): disk for disk in limits.disks}
    if hierarchies.v1:
        yield from _throttles_v1(files, disks)
    else:
        yield from _throttles_v2(files, disks)
    yield from _weights(hierarchies, files, limits.blkio_weight, disks)


def number(path: str) -> str:
    """`254:0`: the number of a disk. Raises RuntimeFailed for a path that is none."""
    try:
        found = Path(path).stat()
    except OSError:
        found = None
    if found is None or not stat.S_ISBLK(found.st_mode):
        raise RuntimeFailed(f"block IO: this host has no disk {path}")
    name = f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}"
    if (DEVICES / name / "partition").exists():
        whole = (DEVICES / name).resolve().parent.name
        raise RuntimeFailed(
            f"block IO: {path} is a partition, and the kernel limits whole disks: use /dev/{whole}"
        )
    return name


def _throttles_v1(files: Path, disks: Mapping[str, DiskLimits]) -> Iterator[Write]:
    for field, name in _V1_RATES:
        file = files / name
        now = _entries(file)
        new = {disk: rate for disk, each in disks.items() if (rate := getattr(each, field))}
        for disk in dict.fromkeys((*now, *new)):
            value, before = f"{disk} {new.get(disk, 0)}", f"{disk} {now.get(disk, 0)}"
            yield Write(f"the {_words(field)} limit of {_name(disk, disks)}", file, value,
                        before=before)  # fmt: skip


def _throttles_v2(files: Path, disks: Mapping[str, DiskLimits]) -> Iterator[Write]:
    file = files / "io.max"
    now = _entries(file)
    for disk in dict.fromkeys((*now, *disks)):
        limits = disks.get(disk)
        rates = [(key, getattr(limits, field, 0)) for field, key in _V2_KEYS]
        value = " ".join(f"{key}={rate or 'max'}" for key, rate in rates)
        none = " ".join(f"{key}=max" for _, key in _V2_KEYS)
        if value != now.get(disk, none):
            before = f"{disk} {now.get(disk, none)}"
            what = f"the block IO limits of {_name(disk, disks)}"
            yield Write(what, file, f"{disk} {value}", before=before)


def _weights(
    hierarchies: Hierarchies, files: Path, weight: int, disks: Mapping[str, DiskLimits]
) -> Iterator[Write]:
    weights = {disk: each.weight for disk, each in disks.items() if each.weight}
    names = ("blkio.bfq", "blkio") if hierarchies.v1 else ("io.bfq", "io")
    stem = next((each for each in names if (files / f"{each}.weight").exists()), "")
    if weight or weights:
        _require_scheduler(hierarchies, weights, disks)
        if not stem:
            raise RuntimeFailed("block IO weight: this kernel has none (no blkio.bfq.weight)")
    if not stem:
        return
    scale = _cost_weight if stem == "io" else int
    default = "" if hierarchies.v1 else "default "
    file = files / f"{stem}.weight"
    now = _entries(file).get("default") or file.read_text().strip()
    new = str(scale(weight or _DEFAULT_WEIGHT))
    if new != now:
        yield Write("the block IO weight", file, default + new, before=default + now)
    file = files / f"{stem}.weight_device" if hierarchies.v1 else file
    found = _entries(file)
    for disk in dict.fromkeys((*found, *weights)):
        if disk == "default":
            continue
        value = str(scale(weights[disk])) if disk in weights else "default"
        what = f"the block IO weight of {_name(disk, disks)}"
        yield Write(what, file, f"{disk} {value}", before=f"{disk} {found.get(disk, 'default')}")


def _cost_weight(weight: int) -> int:
    """Docker's weight (10 to 1,000) as iocost's (1 to 10,000), as OCI runtimes convert it."""
    return 1 + (weight - 10) * 9999 // 990


def _require_scheduler(
    hierarchies: Hierarchies, weights: Mapping[str, int], disks: Mapping[str, DiskLimits]
) -> None:
    """Raises RuntimeFailed if a weight would have no effect."""
    costs = {} if hierarchies.v1 else _entries(Path(hierarchies.unified, "io.cost.qos"))
    if any("enable=1" in settings for settings in costs.values()):
        return
    for disk in weights:
        scheduler = DEVICES / disk / "queue/scheduler"
        if not _is_bfq(scheduler):
            raise RuntimeFailed(f"block IO weight of {_name(disk, disks)}: {_WITHOUT_BFQ}")
    if not weights and not any(map(_is_bfq, BLOCKS.glob("*/queue/scheduler"))):
        raise RuntimeFailed(f"block IO weight: {_WITHOUT_BFQ}")


_WITHOUT_BFQ = (
    "it has no effect, since this host does not use the scheduler bfq (echo bfq >"
    " /sys/block/DISK/queue/scheduler); use --device-read-bps and --device-write-bps"
)


def _is_bfq(scheduler: Path) -> bool:
    try:
        return "[bfq]" in scheduler.read_text()
    except OSError:
        return False


def _entries(file: Path) -> dict[str, str]:
    """The lines of a file by their first word; none if it does not exist."""
    try:
        lines = split_lines(file.read_text())
    except OSError:
        return {}
    found = (line.strip().partition(" ") for line in lines)
    return {key: value for key, _, value in found if key and value}


def _name(disk: str, disks: Mapping[str, DiskLimits]) -> str:
    return disks[disk].path if disk in disks else f"disk {disk}"


def _words(field: str) -> str:
    """`read_bps` -> `read bps`."""
    return field.replace("_", " ")
