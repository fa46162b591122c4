"""`--security-opt` and `--device`: Docker's forms of what confines a container. PURE."""

import re
from collections.abc import Iterable, Iterator

import msgspec

from pyswarm_core.docker.isolation import seccomp
from pyswarm_core.docker.mounts import text_of
from pyswarm_core.errors import unfit
from pyswarm_core.specs import ContainerSpec, Device
from pyswarm_core.volumes.drivers import LOCAL, reaches_host
from pyswarm_core.volumes.mounts import Driver, Mount, MountType

NAMESPACES = ("--pid", "--ipc", "--uts", "--cgroupns")
POWERS = (
    "--privileged",
    *NAMESPACES,
    "--device",
    "--device-cgroup-rule",
    "--security-opt",
    "--mount",
)
"""The flags of `powers`."""
UNCONFINED = "unconfined"
SECCOMP, APPARMOR, LABEL, SYSTEMPATHS = "seccomp", "apparmor", "label", "systempaths"

_OPTION = re.compile(r"(?P<name>[a-z-]+)(?:[=:](?P<value>.*))?", re.DOTALL)
_EXPECTED = (
    "expected no-new-privileges[=true|false], seccomp=FILE|unconfined|builtin,"
    " apparmor=PROFILE|unconfined, label=disable or systempaths=unconfined"
)
_PROFILE = re.compile(r"[A-Za-z0-9_./@+:-]{1,255}")
_PERMISSIONS = re.compile(r"[rwm]{1,3}")
_RULE = re.compile(r"[abc] (?:[0-9]{1,9}|\*):(?:[0-9]{1,9}|\*) [rwm]{1,3}")


class SecurityOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What `--security-opt` requests."""

    no_new_privileges: bool | None = None
    """None: the default."""
    seccomp: str = ""
    """Empty: the default profile; `unconfined`; or a profile's JSON."""
    apparmor: str = ""
    """A profile, `unconfined`, or empty: the kernel's default."""
    system_paths: bool = False
    """No path of /proc and /sys is masked or read-only."""


def key(option: str) -> str:
    """The name of the option: a later one of the same name replaces it."""
    found = _OPTION.match(option)
    return found["name"] if found else option


def read(options: Iterable[str]) -> SecurityOptions:
    """The meaning of the options. Raises InvalidArgument for the first that is not valid."""
    found = SecurityOptions()
    for option in options:
        found = msgspec.structs.replace(found, **_read(option))
    return found


def _read(option: str) -> dict[str, object]:
    parts = _OPTION.fullmatch(option)
    name, value = (parts["name"], parts["value"] or "") if parts else ("", "")
    match name:
        case "no-new-privileges" if value in ("", "true", "false"):
            return {"no_new_privileges": value != "false"}
        case "seccomp" if value in ("builtin", UNCONFINED):
            return {"seccomp": "" if value == "builtin" else value}
        case "seccomp" if value:
            seccomp.parse(value)
            return {"seccomp": value}
        case "apparmor" if _PROFILE.fullmatch(value):
            return {"apparmor": value}
        case "systempaths" if value == UNCONFINED:
            return {"system_paths": True}
        case "label" if value == "disable":
            return {}
        case "label":
            raise unfit("expected label=disable: hosts apply no SELinux labels")
        case _:
            raise unfit(_EXPECTED)


def needs_apparmor(options: Iterable[str]) -> bool:
    """Whether one of the options names a profile of AppArmor."""
    mine = [option for option in options if key(option) == APPARMOR]
    return bool(mine) and not mine[-1].endswith(UNCONFINED)


def powers(spec: ContainerSpec) -> Iterator[tuple[str, str]]:
    """The flags, and their values, that give the container power over its host, or open it to
    attacks on the host's kernel.
    """
    modes = (spec.pid_mode, spec.ipc_mode, spec.uts_mode, spec.cgroupns_mode)
    if spec.privileged:
        yield "--privileged", "true"
    for flag, mode in zip(NAMESPACES, modes, strict=True):
        if mode == "host":
            yield flag, mode
    for found in spec.devices:
        yield "--device", found.path_on_host
    for rule in spec.device_cgroup_rules:
        yield "--device-cgroup-rule", rule
    for mount in spec.mounts:
        if mount.type is MountType.BIND or _reaches_host(mount):
            yield "--mount", text_of(mount)
    for option in spec.security_opt:
        name, value = key(option), option[len(key(option)) + 1 :]
        if name in (APPARMOR, SYSTEMPATHS) or (name == SECCOMP and value != "builtin"):
            yield "--security-opt", option if len(option) < 80 else f"{name}=FILE"


def _reaches_host(mount: Mount) -> bool:
    """Whether it may create a volume that shows what is on the host."""
    driver = mount.volume_options.driver_config if mount.volume_options else Driver()
    return bool(reaches_host(driver.name or LOCAL, driver.options))


def device(text: str) -> Device:
    """`HOST[:CONTAINER][:rwm]`, as Docker reads it. Raises InvalidArgument."""
    host, *rest = text.split(":")
    permissions = "rwm"
    if len(rest) > 2 or not host:
        raise unfit("expected HOST[:CONTAINER[:PERMISSIONS]]")
    if len(rest) == 2 or (rest and _PERMISSIONS.fullmatch(rest[-1])):
        permissions = rest.pop()
    return Device(
        path_on_host=host,
        path_in_container=rest[0] if rest else host,
        cgroup_permissions=permissions,
    )


def device_text(found: Device) -> str:
    """The device as `--device` gives it."""
    inside = found.path_in_container or found.path_on_host
    return f"{found.path_on_host}:{inside}:{found.cgroup_permissions}"


def are_permissions(text: str) -> bool:
    """Whether it is one or more of r, w and m, each once."""
    return bool(_PERMISSIONS.fullmatch(text)) and len(set(text)) == len(text)


def is_device_rule(text: str) -> bool:
    """Whether it is a rule such as `c 10:200 rwm`."""
    return _RULE.fullmatch(text) is not None
