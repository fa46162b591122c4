"""Volumes and mounts in the form of Docker's API, as `inspect` shows them. PURE."""

from collections.abc import Callable
from typing import Any

from pyswarm_core.docker.units import format_time
from pyswarm_core.ids import NodeId
from pyswarm_core.volumes.drivers import LOCAL
from pyswarm_core.volumes.mounts import BindOptions, Mount, MountType
from pyswarm_core.volumes.moves import VolumeMove
from pyswarm_core.volumes.volume import Volume, VolumeWorkKind


def of_volume(volume: Volume, name: Callable[[NodeId], str]) -> dict[str, Any]:
    """Docker's document of a volume, then the keys of pyswarm alone. `name` names a node; those
    with a copy have it at the mountpoint, which is below the agent's state directory.
    """
    spec = volume.spec
    return {
        "CreatedAt": format_time(volume.created_at),
        "Driver": spec.driver,
        "Labels": spec.labels,
        "Mountpoint": f"volumes/{volume.id}/_data",
        "Name": spec.name,
        "Options": spec.driver_opts,
        "Scope": "local",
        "ID": volume.id,
        "Placement": spec.placement.value,
        "Nodes": list(map(name, volume.copies)),
        "Status": of_status(volume, name),
        "UsageData": {"Size": -1 if volume.size is None else volume.size, "RefCount": -1},
        "Usage": [
            {
                "Node": name(one.node_id),
                "Size": one.bytes,
                "Inodes": one.inodes,
                "MeasuredAt": format_time(one.measured_at),
                "LastUsedAt": format_time(one.last_used_at) if one.last_used_at else "",
            }
            for one in volume.usage
        ],
    }


def of_status(volume: Volume, name: Callable[[NodeId], str]) -> dict[str, Any]:
    """Docker's `Status`: what is going on with the volume. `name` names a node."""
    work = volume.work
    found: dict[str, Any] = {"State": state_of(volume)}
    if work is not None:
        found["StartedAt"] = format_time(work.started_at)
        if work.kind is VolumeWorkKind.MOVE:
            found["To"] = name(work.to)
        else:
            found |= {"Reason": work.reason, "Until": format_time(work.until)}
    if volume.failure:
        found["Failure"] = volume.failure
    if volume.leaving:
        found["Leaving"] = list(map(name, volume.leaving))
    if volume.forgotten:
        found["Forgotten"] = list(map(name, volume.forgotten))
    return found


def of_progress(move: VolumeMove) -> dict[str, Any]:
    """What the leader alone has in memory of a move that is under way."""
    return {
        "Phase": move.phase,
        "WaitsFor": list(move.waits_for),
        "Copied": move.copied,
        "Total": move.total,
        "BytesPerSecond": move.rate,
    }


def state_of(volume: Volume) -> str:
    """One word: moving, held, removing, or ready."""
    if volume.removing:
        return "removing"
    if volume.work is None:
        return "ready"
    return "moving" if volume.work.kind is VolumeWorkKind.MOVE else "held"


def of_mount(mount: Mount) -> dict[str, Any]:
    """An entry of a container's `Mounts`, as Docker's MountPoint."""
    found: dict[str, Any] = {"Type": mount.type.value}
    if mount.type is MountType.VOLUME:
        found["Name"] = mount.source
    source = mount.source if mount.type in (MountType.BIND, MountType.IMAGE) else ""
    found |= {"Source": source, "Destination": mount.target}
    options = mount.volume_options
    if mount.type is MountType.VOLUME:
        found["Driver"] = (options.driver_config.name if options else "") or LOCAL
    bind = mount.bind_options or BindOptions()
    is_bind = mount.type is MountType.BIND
    return {
        **found,
        "Mode": "ro" if mount.read_only else "",
        "RW": not mount.read_only and mount.type is not MountType.IMAGE,
        "Propagation": (bind.propagation or "rprivate") if is_bind else "",
    }
