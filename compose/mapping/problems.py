"""Problems of specs, reported at the keys of the file that made them. PURE."""

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain

from compose.mapping.scope import Scope, Service
from compose.tree import Node, Path, plain, shown_path
from pyswarm_core.specs import NetworkSpec, ServiceSpec
from pyswarm_core.validation import (
    Problem,
    network_problems,
    service_problems,
    volume_problems,
)
from pyswarm_core.volumes.volume import VolumeSpec

_LIMITS, _RESERVED = "deploy.resources.limits.", "deploy.resources.reservations."
_PLACEMENT, _RESTART = "deploy.placement.", "deploy.restart_policy."


def _below(flag: str, key: str, *names: str) -> dict[str, str]:
    return {f"{flag}-{name}": f"{key}.{name.replace('-', '_')}" for name in names}


KEYS: Mapping[str, str] = {
    "--name": "",
    "service": "",
    "image": "image",
    "args": "command",
    "--annotation": "annotations",
    "--blkio-weight": "blkio_config.weight blkio_config",
    "--blkio-weight-device": "blkio_config.weight_device",
    "--cap-add": "cap_add",
    "--cap-drop": "cap_drop",
    "--cgroupns": "cgroup",
    "--config": "configs volumes",
    "--constraint": f"{_PLACEMENT}constraints platform",
    "--container-label": "labels",
    "--cpu-period": "cpu_period",
    "--cpu-quota": "cpu_quota",
    "--cpu-shares": "cpu_shares",
    "--cpuset-cpus": "cpuset",
    "--device": "devices gpus deploy.resources.reservations.devices",
    "--device-cgroup-rule": "device_cgroup_rules",
    "--dns": "dns",
    "--dns-option": "dns_opt",
    "--dns-search": "dns_search",
    "--endpoint-mode": "deploy.endpoint_mode",
    "--entrypoint": "entrypoint",
    "--env": "environment",
    "--generic-resource": f"{_RESERVED}generic_resources",
    "--group": "group_add",
    "--host": "extra_hosts",
    "--hostname": "hostname",
    "--ipc": "ipc",
    "--label": "deploy.labels",
    "--limit-cpu": f"cpus {_LIMITS}cpus cpu_count",
    "--limit-memory": f"mem_limit {_LIMITS}memory",
    "--limit-pids": f"pids_limit {_LIMITS}pids",
    "--log-driver": "logging.driver logging",
    "--log-opt": "logging.options",
    "--memory": f"mem_limit {_LIMITS}memory",
    "--memory-swap": "memswap_limit",
    "--memory-swappiness": "mem_swappiness",
    "--mode": "deploy.mode",
    "--mount": "volumes tmpfs",
    "--network": "networks network_mode container_name",
    "--oom-score-adj": "oom_score_adj",
    "--pid": "pid",
    "--placement-pref": f"{_PLACEMENT}preferences",
    "--privileged": "privileged",
    "--publish": "ports",
    "--replicas": "deploy.replicas scale",
    "--replicas-max-per-node": f"{_PLACEMENT}max_replicas_per_node",
    "--reserve-cpu": f"{_RESERVED}cpus",
    "--reserve-memory": f"mem_reservation {_RESERVED}memory",
    "--restart-condition": f"{_RESTART}condition restart",
    "--restart-delay": f"{_RESTART}delay",
    "--restart-max-attempts": f"{_RESTART}max_attempts restart",
    "--restart-window": f"{_RESTART}window",
    "--secret": "secrets",
    "--secret-env": "secrets",
    "--security-opt": "security_opt",
    "--shm-size": "shm_size",
    "--stop-grace-period": "stop_grace_period",
    "--stop-signal": "stop_signal",
    "--sysctl": "sysctls domainname",
    "--tmpfs": "tmpfs",
    "--ulimit": "ulimits",
    "--user": "user",
    "--userns": "userns_mode",
    "--uts": "uts",
    "--workdir": "working_dir",
    "volume-driver": "volumes",
    "volume-label": "volumes",
    "volume-opt": "volumes",
    **{f"--health-{kind}": "healthcheck.test" for kind in ("cmd", "http", "tcp", "grpc")},
    **_below("--health", "healthcheck", "interval", "timeout", "retries"),
    **_below("--health", "healthcheck", "start-period", "start-interval"),
    **{
        f"--device-{kind.replace('_', '-')}": f"blkio_config.device_{kind}"
        for kind in ("read_bps", "write_bps", "read_iops", "write_iops")
    },
    **{
        f"--{change}-{name}": f"deploy.{change}_config.{name.replace('-', '_')}"
        for change in ("update", "rollback")
        for name in "parallelism delay failure-action monitor max-failure-ratio order".split()
    },
}
"""Field of a problem -> keys of a service that may have set it, by spaces."""
_OF_NETWORK: Mapping[str, str] = {
    "name": "name",
    "--label": "labels",
    "--driver": "driver",
    "--subnet": "ipam.config",
    "--gateway": "ipam.config",
    "--ip-range": "ipam.config",
    "--internal": "internal",
    "--ipv6": "enable_ipv6",
    "--opt": "driver_opts",
}
_OF_VOLUME: Mapping[str, str] = {
    "name": "name",
    "--label": "labels",
    "--driver": "driver",
    "--opt": "driver_opts",
}
_FLAG = re.compile(r"--[a-z][a-z0-9-]+")


def in_keys(text: str, keys: Mapping[str, str] = KEYS) -> str:
    """A text with keys in place of the flags that it names."""
    return _FLAG.sub(lambda match: _word(match[0], keys), text)


def _word(flag: str, keys: Mapping[str, str]) -> str:
    first = keys.get(flag, "").partition(" ")[0]
    return first or flag


def text_of(problem: Problem) -> str:
    """A problem without its field: the key is named before it."""
    return str(problem).removeprefix(f"{problem.field}: ").removeprefix("value ")


def check_service(service: Service, spec: ServiceSpec) -> None:
    """Report the problems of a service's spec, but for ports that `ports.check` reports."""
    for problem in service_problems(spec):
        if problem.field == "--publish" and problem.what == "port" and "each" in problem.expected:
            continue
        _report(service.scope, service.node, service.path, problem, KEYS)


def check_network(scope: Scope, key: str, spec: NetworkSpec) -> None:
    """Report the problems of a network's spec."""
    node = scope.objects["networks"][key]
    for problem in network_problems(spec):
        _report(scope, node, ("networks", key), problem, _OF_NETWORK)


def check_volume(scope: Scope, key: str, spec: VolumeSpec) -> None:
    """Report the problems of a volume's spec."""
    node = scope.objects["volumes"][key]
    for problem in volume_problems(spec):
        _report(scope, node, ("volumes", key), problem, _OF_VOLUME)


def _report(
    scope: Scope, node: Node, path: Path, problem: Problem, keys: Mapping[str, str]
) -> None:
    where, below = _place(node, keys.get(problem.field, "").split(), str(problem.value))
    at = (*path, *below)
    if shown_path(at) not in [fault.path for fault in scope.report.faults]:
        scope.report.fault(where, at, in_keys(text_of(problem), keys))


def _place(node: Node, candidates: Iterable[str], value: str) -> tuple[Node, Path]:
    """The node to which a value belongs, and its path: of the keys that may have it, the first that
    has it, or else the first that there is.
    """
    first: tuple[Node, Path] | None = None
    for candidate in candidates:
        keys = tuple(candidate.split("."))
        if (found := node.get(*keys)) is None:
            continue
        inner = next(chain(_leaves(found, value), _inner(found, value)), None)
        if inner is not None:
            return inner[0], (*keys, *inner[1])
        if not found.is_map and not isinstance(found.value, list) and str(found.value) == value:
            return found, keys
        first = first or (found, keys)
    return first or (node, ())


def _leaves(node: Node, value: str) -> Iterator[tuple[Node, Path]]:
    """The texts and numbers below a map or list that are the value itself."""
    children: Iterable[tuple[str | int, Node]] = ()
    if node.is_map:
        children = node.value.items()
    elif isinstance(node.value, list):
        children = enumerate(node.value)
    for key, child in children:
        if not isinstance(child.value, dict | list) and str(child.value) == value:
            yield child, (key,)
        for leaf, path in _leaves(child, value):
            yield leaf, (key, *path)


def _inner(node: Node, value: str) -> Iterator[tuple[Node, Path]]:
    """The entries of a map or list that a value names."""
    if node.is_map:
        for key, child in node.value.items():
            if value == key or value.startswith(f"{key}=") or _names(child, value):
                yield child, (key,)
    elif isinstance(node.value, list):
        for number, child in enumerate(node.value):
            if _names(child, value):
                yield child, (number,)


def _names(node: Node, value: str) -> bool:
    """Whether a value of an error is of this entry."""
    found = plain(node)
    if isinstance(found, dict):
        port = value.partition("/")[0]
        target = found.get("target")
        is_target = bool(target) and value.endswith(f"target={target}")
        return is_target or port == str(found.get("published"))
    host, sign, address = str(found).partition("=")
    return bool(sign) and value == f"{address} {host}"
