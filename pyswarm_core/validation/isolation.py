"""Validation of what isolates a container from its host. PURE."""

from collections.abc import Iterable, Mapping, Sequence

from pyswarm_core.docker.isolation import security, tmpfs
from pyswarm_core.docker.isolation.cdi import is_qualified
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.specs import ContainerSpec, Device, NetworkAttachment
from pyswarm_core.validation.problem import Problem, at_most
from pyswarm_core.validation.ranges import range_problems
from pyswarm_core.validation.text import PATH_MAX

TMPFS_MAX = 64
DEVICES_MAX = 64
SECURITY_OPTS_MAX = 16
HOST, PRIVATE = "host", "private"
MODES: Mapping[str, Sequence[str]] = {
    "--pid": (HOST,),
    "--ipc": (HOST, PRIVATE, "shareable", "none"),
    "--uts": (HOST,),
    "--userns": ("auto", HOST, PRIVATE),
    "--cgroupns": (HOST, PRIVATE),
}
"""Flag -> words that it takes."""
_TAKEN = ("/", "/dev", "/proc", "/sys")
_INSIDE = ("/proc/", "/sys/")
_IPC_SYSCTLS = ("kernel.msg", "kernel.sem", "kernel.shm", "fs.mqueue.")


def isolation_problems(
    spec: ContainerSpec, networks: Sequence[NetworkAttachment]
) -> Iterable[Problem]:
    """The problems of a container's namespaces, devices and security options."""
    for flag, mode in modes(spec).items():
        yield from _mode_problems(flag, mode)
    yield from _tmpfs_problems(spec.tmpfs)
    yield from range_problems("--shm-size", spec.shm_size)
    yield from _security_problems(spec.security_opt)
    yield from _device_problems(spec)
    yield from _conflicts(spec, networks)


def modes(spec: ContainerSpec) -> dict[str, str]:
    """Flag -> mode of each namespace; empty: the default."""
    return {
        "--pid": spec.pid_mode,
        "--ipc": spec.ipc_mode,
        "--uts": spec.uts_mode,
        "--userns": spec.userns_mode,
        "--cgroupns": spec.cgroupns_mode,
    }


def has_user_namespace(spec: ContainerSpec) -> bool:
    """Whether its ids are a range of their own on the host."""
    return spec.userns_mode in ("auto", PRIVATE)


def _mode_problems(flag: str, mode: str) -> Iterable[Problem]:
    if not mode or mode in MODES[flag]:
        return
    words = " or ".join(filter(None, (", ".join(MODES[flag][:-1]), MODES[flag][-1])))
    if mode.startswith("container:"):
        words += ": a task shares its namespaces with no other container"
    yield Problem(flag, mode, f"expected {words}")


def _tmpfs_problems(mounts: Mapping[str, str]) -> Iterable[Problem]:
    yield from at_most("--tmpfs", mounts, TMPFS_MAX)
    for path, options in mounts.items():
        text = f"{path}:{options}" if options else path
        if not is_mount_path(path):
            yield Problem("--tmpfs", text, "expected an absolute path without . and ..")
        elif (path.rstrip("/") or "/") in _TAKEN or path.startswith(_INSIDE):
            yield Problem(
                "--tmpfs", text, "expected a path outside of /proc and /sys, not / or /dev"
            )
        else:
            try:
                tmpfs.mount_options(options)
            except InvalidArgument as error:
                yield Problem("--tmpfs", text, error.reason)


def is_mount_path(path: str) -> bool:
    """Whether it is absolute, printable and clean."""
    parts = path.removesuffix("/").split("/")[1:]
    clean = all(part not in ("", ".", "..") for part in parts)
    return path.startswith("/") and len(path) <= PATH_MAX and path.isprintable() and clean


def _security_problems(options: Sequence[str]) -> Iterable[Problem]:
    yield from at_most("--security-opt", options, SECURITY_OPTS_MAX)
    for option in options[:SECURITY_OPTS_MAX]:
        try:
            security.read((option,))
        except InvalidArgument as error:
            yield Problem("--security-opt", option, error.reason)


def _device_problems(spec: ContainerSpec) -> Iterable[Problem]:
    yield from at_most("--device", spec.devices, DEVICES_MAX)
    yield from at_most("--device-cgroup-rule", spec.device_cgroup_rules, DEVICES_MAX)
    for device in spec.devices:
        yield from _problems_of_device(device)
    for rule in spec.device_cgroup_rules:
        if not security.is_device_rule(rule):
            expected = "expected a rule such as 'c 10:200 rwm': a, b or c, MAJOR:MINOR, rwm"
            yield Problem("--device-cgroup-rule", rule, expected)


def _problems_of_device(device: Device) -> Iterable[Problem]:
    text = security.device_text(device)
    paths = (device.path_on_host, device.path_in_container or device.path_on_host)
    is_path = all(is_mount_path(path) and path != "/" for path in paths)
    if not is_path and not is_qualified(device.path_on_host):
        expected = "expected absolute paths without . and .., or a CDI name as vendor.com/gpu=0"
        yield Problem("--device", text, expected)
    if not security.are_permissions(device.cgroup_permissions):
        yield Problem("--device", text, "expected permissions of r, w and m, each once")


def _conflicts(spec: ContainerSpec, networks: Sequence[NetworkAttachment]) -> Iterable[Problem]:
    """Options that exclude each other."""
    if spec.hostname and spec.uts_mode == HOST:
        yield Problem("--hostname", spec.hostname, "expected no --uts host")
    if spec.shm_size and spec.ipc_mode in (HOST, "none"):
        yield Problem("--shm-size", spec.shm_size, f"expected no --ipc {spec.ipc_mode}")
    for name in spec.sysctls:
        if spec.ipc_mode == HOST and name.startswith(_IPC_SYSCTLS):
            yield Problem("--sysctl", name, "expected no --ipc host: it would change the host")
        if spec.uts_mode == HOST and name == "kernel.domainname":
            yield Problem("--sysctl", name, "expected no --uts host: it would change the host")
    if has_user_namespace(spec):
        yield from _userns_conflicts(spec, networks)


def _userns_conflicts(
    spec: ContainerSpec, networks: Sequence[NetworkAttachment]
) -> Iterable[Problem]:
    """What root of a user namespace has no power over."""
    if spec.oom_score_adj < 0:
        expected = f"expected 0 to 1000 with --userns {spec.userns_mode}"
        yield Problem("--oom-score-adj", spec.oom_score_adj, expected)
    for name in spec.sysctls:
        if name.startswith("net."):
            expected = f"expected no --userns {spec.userns_mode}: the network is the host's"
            yield Problem("--sysctl", name, expected)
    shared = [flag for flag in ("--pid", "--ipc", "--uts") if modes(spec)[flag] == HOST]
    on_host = any(network.target == HOST for network in networks)
    others = [f"{flag} host" for flag in (*shared, *(["--network"] if on_host else []))]
    for other in (*others, *(["--privileged"] if spec.privileged else [])):
        yield Problem("--userns", spec.userns_mode, f"expected no {other}")
