"""Namespaces, devices and hidden paths of a container. PURE."""

from collections.abc import Iterable, Sequence
from typing import Any

from agent.runtime.base import DeviceNode
from agent.tasks import ocispec_mounts as mounts
from agent.tasks.ocispec_seccomp import seccomp_section
from pyswarm_core.docker.isolation import seccomp, security
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.specs import ContainerSpec
from pyswarm_core.validation.isolation import has_user_namespace

HOST = "host"
IDS = 65_536
"""Ids of a user namespace: those of an image."""
_NOTHING = {"allow": False, "access": "rwm"}


def namespaces(spec: ContainerSpec, *, unified: bool) -> list[dict[str, str]]:
    """The namespaces of its own, except that of its network. `unified`: the host has cgroup v2."""
    kinds = ["mount"]
    kinds += ["pid"] if spec.pid_mode != HOST else []
    kinds += ["ipc"] if spec.ipc_mode != HOST else []
    kinds += ["uts"] if spec.uts_mode != HOST else []
    kinds += ["user"] if has_user_namespace(spec) else []
    if spec.cgroupns_mode == "private" or (unified and not spec.cgroupns_mode):
        kinds.append("cgroup")
    return [{"type": kind} for kind in kinds]


def require_mapped(spec: ContainerSpec, ids: Iterable[int]) -> None:
    """Raise InvalidArgument for a user's or group's id that a user namespace does not have."""
    if has_user_namespace(spec) and (beyond := [each for each in ids if each >= IDS]):
        raise InvalidArgument(
            f"user or group {beyond[0]}: with --userns {spec.userns_mode} ids are 0 to {IDS - 1}"
        )


def hidden_paths(spec: ContainerSpec) -> dict[str, list[str]]:
    """The `maskedPaths` and `readonlyPaths`."""
    if spec.privileged or security.read(spec.security_opt).system_paths:
        return {"maskedPaths": [], "readonlyPaths": []}
    return {
        "maskedPaths": list(mounts.MASKED_PATHS),
        "readonlyPaths": list(mounts.READONLY_PATHS),
    }


def filter_section(
    spec: ContainerSpec, capabilities: Iterable[str], machine: str, kernel: tuple[int, int]
) -> dict[str, Any] | None:
    """The `seccomp` section of a process bounded by those capabilities; None: no filter."""
    bounding, chosen = frozenset(capabilities), security.read(spec.security_opt).seccomp
    if chosen == security.UNCONFINED or (spec.privileged and not chosen):
        return None
    if chosen:
        return seccomp.section(seccomp.parse(chosen), bounding, machine, kernel)
    return seccomp_section(bounding, machine, kernel)


def device_mounts(spec: ContainerSpec, nodes: Iterable[DeviceNode]) -> list[dict[str, Any]]:
    """The host's nodes in a container with a user namespace, which can make none: crun would mount
    a node of the same path.
    """
    if not has_user_namespace(spec):
        return []
    return [
        {
            "destination": node.path,
            "type": "bind",
            "source": node.source,
            "options": ["bind", "rprivate"],
        }
        for node in nodes
    ]


def device_nodes(spec: ContainerSpec, nodes: Iterable[DeviceNode]) -> list[dict[str, Any]]:
    """The `devices` that the OCI runtime makes."""
    return (
        []
        if has_user_namespace(spec)
        else [
            {
                "path": node.path,
                "type": node.kind,
                "major": node.major,
                "minor": node.minor,
                "fileMode": node.mode,
                "uid": node.uid,
                "gid": node.gid,
            }
            for node in nodes
        ]
    )


def device_rules(spec: ContainerSpec, nodes: Sequence[DeviceNode]) -> list[dict[str, Any]]:
    """What the cgroup allows; the OCI runtime adds the devices that every container has."""
    if spec.privileged:
        return [{"allow": True, "access": "rwm"}]
    listed = [
        {
            "allow": True,
            "type": node.kind,
            "major": node.major,
            "minor": node.minor,
            "access": node.permissions,
        }
        for node in nodes
    ]
    return [_NOTHING, *listed, *map(_rule, spec.device_cgroup_rules)]


def _rule(text: str) -> dict[str, Any]:
    """`c 10:* rwm`; a number that is left out is every number."""
    kind, numbers, access = text.split(" ")
    found: dict[str, Any] = {"allow": True, "type": kind, "access": access}
    for name, number in zip(("major", "minor"), numbers.split(":"), strict=True):
        if number != "*":
            found[name] = int(number)
    return found
