"""Volumes and mounts in the form of Docker's API, as `inspect` shows them. PURE."""

from collections.abc import Sequence
from typing import Any

from pyswarm_core.docker.units import format_time
from pyswarm_core.volumes.mounts import BindOptions, Mount, MountType
from pyswarm_core.volumes.volume import LOCAL, Volume


def of_volume(volume: Volume, hosts: Sequence[str]) -> dict[str, Any]:
    """Docker's document of a volume, then the keys of pyswarm alone. `hosts` have its copies, each
    at the mountpoint, which is below the agent's state directory.
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
        "Nodes": list(hosts),
    }


def of_mount(mount: Mount) -> dict[str, Any]:
    """An entry of a container's `Mounts`, as Docker's MountPoint."""
    found: dict[str, Any] = {"Type": mount.type.value}
    if mount.type is MountType.VOLUME:
        found["Name"] = mount.source
    source = mount.source if mount.type is MountType.BIND else ""
    found |= {"Source": source, "Destination": mount.target}
    options = mount.volume_options
    if mount.type is MountType.VOLUME:
        found["Driver"] = (options.driver_config.name if options else "") or LOCAL
    bind = mount.bind_options or BindOptions()
    is_bind = mount.type is MountType.BIND
    return {
        **found,
        "Mode": "ro" if mount.read_only else "",
        "RW": not mount.read_only,
        "Propagation": (bind.propagation or "rprivate") if is_bind else "",
    }
