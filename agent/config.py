"""The configuration of an agent: one frozen value, made once at its start. PURE."""

import re
from collections.abc import Iterable
from ipaddress import IPv4Network
from pathlib import Path

import msgspec

from pyswarm_core.clock import MINUTE
from pyswarm_core.docker.units import format_cpus
from pyswarm_core.limits import (
    AGENT_METRICS_PORT,
    NODE_TASK_BYTES,
    NODE_TASK_FILES,
    NODE_TASK_PIDS,
    NODE_TASKS_MAX,
)
from pyswarm_core.resources import GenericResource
from pyswarm_core.validation import address_problems
from pyswarm_core.validation.node import hostname_problems
from pyswarm_core.validation.problem import Problem
from pyswarm_core.validation.resources import generic_problems

_ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s:/\[\]]+):(\d{1,5})")
_FLEET = re.compile(r"[a-z0-9]{1,5}")
_MIRROR = re.compile(r"https?://[^\s/]+/?.*")
_REGISTRY = re.compile(r"[^\s/:]+(:\d{1,5})?")


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of an agent; `python -m agent --help` describes each."""

    state_dir: Path
    run_dir: Path
    controllers: tuple[str, ...] = ()
    join_token: str = ""
    join_token_file: Path | None = None
    rejoin: bool = False
    hostname: str
    advertise_addr: str
    availability: str = "active"
    fleet: str = "psw"
    cgroup_parent: str = "/pyswarm"
    bridge_subnet: str = "10.127.0.0/16"
    data_path_port: int = 4789
    fast_path: bool = True
    nano_cpus: int
    memory_bytes: int
    max_tasks: int
    node_generic_resources: tuple[GenericResource, ...] = ()
    labels: dict[str, str] = {}
    registry_mirrors: tuple[str, ...] = ()
    insecure_registries: tuple[str, ...] = ()
    registry_auth_file: Path = Path("/root/.docker/config.json")
    pull_stall_s: float = 30.0
    image_gc_high: int = 85
    image_gc_low: int = 80
    image_gc_min_age: int = 2 * MINUTE
    image_gc_max_age: int = 0
    log_max_size: int = 10 * 1024 * 1024
    log_max_file: int = 3
    metrics_addr: str = f"127.0.0.1:{AGENT_METRICS_PORT}"
    health_addr: str = ""
    resolv_conf: Path = Path("/etc/resolv.conf")


def config_problems(config: Config) -> list[Problem]:
    """Everything that is wrong with the settings and can be checked without side effects."""
    return [
        *hostname_problems(config.hostname),
        *(() if config.rejoin else address_problems(config.advertise_addr)),
        *_shaped("--fleet", (config.fleet,), _FLEET, "1 to 5 lower-case letters and digits"),
        *_shaped("--controller", config.controllers, _ADDRESS, "HOST:PORT"),
        *_shaped("--registry-mirror", config.registry_mirrors, _MIRROR, "http(s)://HOST[:PORT]"),
        *_shaped("--insecure-registry", config.insecure_registries, _REGISTRY, "HOST[:PORT]"),
        *_path_problems(config),
        *_subnet_problems(config.bridge_subnet),
        *_size_problems(config),
        *generic_problems("--node-generic-resource", config.node_generic_resources),
    ]


def _shaped(
    field: str, values: Iterable[str], shape: re.Pattern[str], form: str
) -> Iterable[Problem]:
    return [Problem(field, v, f"expected {form}") for v in values if not shape.fullmatch(v)]


def _path_problems(config: Config) -> Iterable[Problem]:
    parts = config.cgroup_parent.split("/")
    if parts[0] or not "".join(parts) or {".", ".."} & set(parts):
        yield Problem("--cgroup-parent", config.cgroup_parent, "expected a path such as /pyswarm")


def _subnet_problems(subnet: str) -> Iterable[Problem]:
    try:
        fits = IPv4Network(subnet).prefixlen <= 29
    except ValueError:
        fits = False
    if not fits:
        yield Problem("--bridge-subnet", subnet, "expected an IPv4 subnet such as 10.127.0.0/16")


def _size_problems(config: Config) -> Iterable[Problem]:
    if config.nano_cpus <= 0:
        yield Problem("--cpus", format_cpus(config.nano_cpus), "expected more than 0")
    if config.memory_bytes <= 0:
        yield Problem("--memory", config.memory_bytes, "expected more than 0, such as 2G")
    if config.image_gc_low > config.image_gc_high:
        most = f"expected at most --image-gc-high, {config.image_gc_high}"
        yield Problem("--image-gc-low", config.image_gc_low, most)
    if config.pull_stall_s <= 0:
        yield Problem("--pull-stall", f"{config.pull_stall_s:g}s", "expected more than 0s")


def accepted_tasks(memory_bytes: int, pids: int, files: int) -> int:
    """The default of --max-tasks on a host whose agent may open `files` files."""
    fit = min(memory_bytes // NODE_TASK_BYTES, pids // NODE_TASK_PIDS, files // NODE_TASK_FILES)
    return max(1, min(fit, NODE_TASKS_MAX))
