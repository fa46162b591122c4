"""What opens a container to its host or confines it: devices, GPUs, security options. PURE."""

import json
from collections.abc import Iterator
from posixpath import join, normpath
from typing import Any

from compose.mapping.scope import Service
from compose.tree import Node, Path
from pyswarm_core.docker.isolation import cdi, security
from pyswarm_core.docker.isolation.seccomp import PROFILE_BYTES_MAX
from pyswarm_core.errors import InvalidArgument, quoted, reason_of
from pyswarm_core.specs import Device

_GPU = ("gpu", "nvidia")
_REQUESTS: tuple[Path, ...] = (("gpus",), ("deploy", "resources", "reservations", "devices"))


def isolation(service: Service) -> dict[str, Any]:
    """The fields of ContainerSpec of devices and security options."""
    return {
        "devices": tuple(_devices(service)),
        "security_opt": tuple(_security(service)),
    }


def _devices(service: Service) -> Iterator[Device]:
    for entry in service.node.list("devices"):
        yield Device(
            path_on_host=entry.text("source"),
            path_in_container=entry.text("target") or entry.text("source"),
            cgroup_permissions=entry.text("permissions") or "rwm",
        )
    for path in _REQUESTS:
        for number, request in enumerate(service.node.list(*map(str, path))):
            for name in _requested(service, request, (*path, number)):
                yield Device(path_on_host=name, path_in_container=name)


def _requested(service: Service, request: Node, keys: Path) -> tuple[str, ...]:
    """The CDI names of a device request. A host that CDI describes numbers its GPUs from 0."""
    driver = request.text("driver")
    wanted = [one.value for one in request.list("capabilities")]
    names = [one.value for one in request.list("device_ids")]
    if driver == "cdi":
        if not names:
            service.fault(request, keys, "driver cdi: expected device_ids, as in vendor.com/gpu=0")
        return tuple(names)
    if driver not in ("", "nvidia") or (wanted and not set(wanted) & {*_GPU}):
        what = f"driver {quoted(driver)}" if driver not in ("", "nvidia") else ", ".join(wanted)
        expected = "expected capabilities: [gpu], or driver: cdi with device_ids of the host's CDI"
        service.fault(request, keys, f"{what}: no such devices: {expected}")
        return ()
    if options := request.get("options"):
        service.notice(options, (*keys, "options"), "GPUs have no options: they have no effect")
    count = request.get("count")
    text = f"device={','.join(names)}" if names else str(count.value if count else "all")
    at = service.at(*keys)
    return service.scope.parsed(request.at(text), at, cdi.gpus, text) or ()


def _security(service: Service) -> Iterator[str]:
    for number, node in enumerate(service.node.list("security_opt")):
        name = security.key(node.value)
        value = node.value[len(name) + 1 :]
        if name == security.SECCOMP and value not in ("", security.UNCONFINED, "builtin"):
            profile = _profile(service, node, value, ("security_opt", number))
            if profile:
                yield f"{name}={profile}"
        else:
            yield f"{name}={value}" if value else node.value


def _profile(service: Service, node: Node, path: str, keys: Path) -> str:
    """The JSON of the file, without its blanks; empty after a fault."""
    scope = service.scope
    try:
        content = scope.files.read(normpath(join(scope.directory, path)))
        if len(content) > 4 * PROFILE_BYTES_MAX:
            raise InvalidArgument(f"expected at most {PROFILE_BYTES_MAX >> 8} KiB")
        return json.dumps(json.loads(content), separators=(",", ":"))
    except OSError as error:
        reason = f"the profile cannot be read: {reason_of(error)}"
    except InvalidArgument as error:
        reason = str(error)
    except (ValueError, RecursionError) as error:
        reason = f"expected JSON in the profile: {error}"
    service.fault(node, keys, f"{quoted(node.value)} is not valid: {reason}")
    return ""
