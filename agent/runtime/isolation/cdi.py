"""Devices that files of this host describe by the Container Device Interface. SHELL, reads
/etc/cdi and /var/run/cdi.

Such a file belongs to the host's administrator, as the agent does: all that it adds to a container
is added, also programs of the host as hooks.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from agent.runtime.base import DeviceNode, RuntimeFailed
from agent.runtime.isolation.devices import node_at
from pyswarm_core.docker.isolation.cdi import is_qualified
from pyswarm_core.errors import reason_of
from pyswarm_core.specs import ContainerSpec

DIRECTORIES = (Path("/etc/cdi"), Path("/var/run/cdi"))
FILE_BYTES_MAX = 4 << 20
_SHOWN = 10
_HOOKS = frozenset(
    {"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"}
)


class Injection(NamedTuple):
    """What the devices add to a container."""

    env: tuple[str, ...] = ()
    devices: tuple[DeviceNode, ...] = ()
    mounts: tuple[dict[str, Any], ...] = ()
    """OCI mounts."""
    hooks: Mapping[str, list[dict[str, Any]]] = {}
    """OCI hooks."""


def injected(spec: ContainerSpec, directories: Iterable[Path] = DIRECTORIES) -> Injection:
    """What the spec's devices by CDI names add. Raises RuntimeFailed naming a device that no file
    describes, or the file that is not valid.
    """
    wanted = [one.path_on_host for one in spec.devices if is_qualified(one.path_on_host)]
    if not wanted:
        return Injection()
    known = _known(directories)
    edits: list[dict[str, Any]] = []
    for name in dict.fromkeys(wanted):
        if name not in known:
            listed = ", ".join(sorted(known)[:_SHOWN])
            there = f"there: {listed}" if known else "none has any device"
            where = " and ".join(map(str, directories))
            raise RuntimeFailed(f"device {name}: no CDI file in {where} describes it; {there}")
        edits += known[name]
    try:
        return _merged(edits)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        names = ", ".join(wanted)
        raise RuntimeFailed(f"device {names}: its CDI file is not valid: {error!r}") from error


def _known(directories: Iterable[Path]) -> dict[str, list[dict[str, Any]]]:
    """The edits of each device, those of its file first; of two files with one device, the last in
    order of directories and names counts.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for path in _files(directories):
        content = _read(path)
        kind, common = content.get("kind"), content.get("containerEdits") or {}
        for device in content.get("devices") or ():
            if not isinstance(device, dict) or not isinstance(common, dict):
                raise RuntimeFailed(f"CDI file {path}: devices and containerEdits are to be maps")
            own = device.get("containerEdits") or {}
            found[f"{kind}={device.get('name')}"] = [common, own]
    return found


def _files(directories: Iterable[Path]) -> Iterator[Path]:
    for directory in directories:
        if directory.is_dir():
            entries = (one for one in directory.iterdir() if one.suffix in (".json", ".yaml"))
            yield from sorted(entries)


def _read(path: Path) -> dict[str, Any]:
    import yaml  # few hosts have such devices

    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX)
        found = json.loads(data) if path.suffix == ".json" else yaml.safe_load(data)
    except (OSError, ValueError, yaml.YAMLError) as error:
        told, line = str(path), str(error).partition("\n")[0]
        reason = reason_of(error, named=told) if isinstance(error, OSError) else line
        raise RuntimeFailed(f"CDI file {path}: {reason}") from error
    if not isinstance(found, dict):
        raise RuntimeFailed(f"CDI file {path}: expected a map")
    return found


def _merged(edits: Iterable[Mapping[str, Any]]) -> Injection:
    env: list[str] = []
    devices: dict[str, DeviceNode] = {}
    mounts: dict[str, dict[str, Any]] = {}
    hooks: dict[str, list[dict[str, Any]]] = {}
    for one in edits:
        env += [str(entry) for entry in one.get("env") or ()]
        for node in one.get("deviceNodes") or ():
            devices[node["path"]] = _node(node)
        for mount in one.get("mounts") or ():
            mounts[mount["containerPath"]] = _mount(mount)
        for hook in one.get("hooks") or ():
            if hook["hookName"] not in _HOOKS:
                raise ValueError(f"unknown hook {hook['hookName']}")
            kept = {key: hook[key] for key in ("path", "args", "env", "timeout") if key in hook}
            if kept not in hooks.setdefault(hook["hookName"], []):
                hooks[hook["hookName"]].append(kept)
    return Injection(tuple(env), tuple(devices.values()), tuple(mounts.values()), hooks)


def _node(node: Mapping[str, Any]) -> DeviceNode:
    host = str(node.get("hostPath") or node["path"])
    try:
        found = node_at(Path(host), str(node["path"]), str(node.get("permissions") or "rwm"))
    except OSError as error:
        raise RuntimeFailed(f"device {host} of a CDI file: {reason_of(error)}") from error
    if found is None:
        raise RuntimeFailed(f"device {host} of a CDI file: it is no device")
    return found


def _mount(mount: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "destination": str(mount["containerPath"]),
        "type": str(mount.get("type") or "bind"),
        "source": str(mount["hostPath"]),
        "options": [str(option) for option in mount.get("options") or ("rbind", "ro", "nosuid")],
    }
