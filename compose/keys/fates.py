"""What a fleet does with each key: it maps it, names it in a notice, or refuses it. PURE.

One row per path of keys below a service or a section of the top level; what a row says holds for
everything below its path that has no row of its own. docs/compose.md has the same table, and a
test compares them.
"""

from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from typing import Any, NamedTuple

from compose.tree import Node, Path, plain
from pyswarm_core.docker.logdrivers import DRIVERS


class Kind(Enum):
    """How a key ends."""

    MAPPED = "mapped"
    NOTICE = "notice"
    """Without an effect on a fleet, and harmless: named once."""
    REFUSED = "refused"
    """Leaving it out would change what the program does."""
    READ = "read"
    """The command line reads it and is done with it."""


class Fate(NamedTuple):
    """A row of the table."""

    kind: Kind
    text: str
    """What it becomes; of a notice why it has no effect; of a refusal what to write instead."""
    when: Callable[[Any], bool] | None = None
    """On which plain values the row counts; on others the key is mapped."""


def _mapped(text: str) -> Fate:
    return Fate(Kind.MAPPED, text)


def _notice(text: str, when: Callable[[Any], bool] | None = None) -> Fate:
    return Fate(Kind.NOTICE, text, when)


def _refused(text: str, when: Callable[[Any], bool] | None = None) -> Fate:
    return Fate(Kind.REFUSED, text, when)


def _read(text: str) -> Fate:
    return Fate(Kind.READ, text)


def _other_than(*values: Any) -> Callable[[Any], bool]:
    return lambda value: value not in values


def _is(word: str) -> Callable[[Any], bool]:
    return lambda value: value == word


def _begins(*kinds: str) -> Callable[[Any], bool]:
    return lambda value: str(value).startswith(kinds)


def _has_beginning(kind: str) -> Callable[[Any], bool]:
    return lambda values: any(str(value).startswith(kind) for value in values)


_SHARED = "two services' tasks may be on two nodes: join a network of theirs"

SERVICE_FATES: Mapping[str, Fate] = {
    "annotations": _mapped("OCI annotations of the container"),
    "attach": _read("whether `up` shows its logs"),
    "blkio_config": _mapped("limits of block devices"),
    "build": _read("builds and pushes the image"),
    "build.additional_contexts": _refused("copy what it has into the context"),
    "build.entitlements": _notice("the builder knows no entitlements"),
    "build.isolation": _notice("it is for Windows containers"),
    "build.no_cache_filter": _notice("the builder has no filter of its cache"),
    "build.provenance": _notice("the builder makes no attestations"),
    "build.sbom": _notice("the builder makes no attestations"),
    "build.secrets": _refused("fetch what is secret when the container starts"),
    "build.ssh": _refused("fetch what needs the key before the build"),
    "cap_add": _mapped("`capability_add`"),
    "cap_drop": _mapped("`capability_drop`"),
    "cgroup": _refused("a cgroup namespace of the host's: remove it", _other_than("private")),
    "cgroup_parent": _notice("the agent owns the cgroups of its containers"),
    "command": _mapped("`args`"),
    "configs": _mapped("configs of the task"),
    "container_name": _notice("replicas have names of their own; it becomes an alias"),
    "cpu_count": _mapped("the limit of CPUs, without `cpus`"),
    "cpu_percent": _notice("it is for Windows containers"),
    "cpu_period": _mapped("the limit of CPUs, with `cpu_quota`"),
    "cpu_quota": _mapped("the limit of CPUs"),
    "cpu_rt_period": _notice("cgroup v2 has no limit of real-time scheduling"),
    "cpu_rt_runtime": _notice("cgroup v2 has no limit of real-time scheduling"),
    "cpu_shares": _mapped("the weight of CPU time"),
    "cpus": _mapped("the limit of CPUs"),
    "cpuset": _mapped("the CPUs that the task may use"),
    "credential_spec": _notice("it is for Windows containers"),
    "depends_on": _mapped("what the service waits for"),
    "deploy.endpoint_mode": _mapped("the endpoint mode"),
    "deploy.labels": _mapped("labels of the service"),
    "deploy.mode": _refused(
        "there are no jobs: mode replicated with `restart: no` runs once",
        _begins("replicated-job", "global-job"),
    ),
    "deploy.placement": _mapped("placement"),
    "deploy.replicas": _mapped("the number of replicas"),
    "deploy.resources": _mapped("limits and reservations"),
    "deploy.restart_policy": _mapped("the restart policy"),
    "deploy.rollback_config": _mapped("how a rollback proceeds"),
    "deploy.update_config": _mapped("how an update proceeds"),
    "develop": _refused("run `up --build` after a change"),
    "device_cgroup_rules": _mapped("device rules of the task"),
    "devices": _mapped("devices of the task"),
    "dns": _mapped("name servers"),
    "dns_opt": _mapped("options of the resolver"),
    "dns_search": _mapped("search domains"),
    "domainname": _mapped("the domain name of the container"),
    "entrypoint": _mapped("`command`"),
    "env_file": _read("into the environment"),
    "environment": _mapped("`env`"),
    "expose": _mapped("nothing: all ports are open on a network"),
    "extends": _read("merged below the service"),
    "external_links": _refused("share a network, and give the other service an alias"),
    "extra_hosts": _mapped("lines of /etc/hosts"),
    "gpus": _mapped("devices of the task"),
    "group_add": _mapped("groups of the process"),
    "healthcheck": _mapped("the health check"),
    "hostname": _mapped("the hostname"),
    "image": _mapped("the image"),
    "init": _mapped("an init process"),
    "ipc": _refused(_SHARED, _begins("service:", "container:")),
    "isolation": _notice("it is for Windows containers", _other_than("default")),
    "label_file": _read("into the labels"),
    "labels": _mapped("labels of the containers"),
    "links": _notice("the alias is one of the service, for all on the network"),
    "logging": _mapped("the log driver"),
    "logging.driver": _refused(f"expected one of {', '.join(DRIVERS)}", _other_than(*DRIVERS)),
    "mac_address": _notice("tasks have addresses of their own"),
    "mem_limit": _mapped("the limit of memory"),
    "mem_reservation": _mapped("the reservation of memory"),
    "mem_swappiness": _mapped("the swappiness"),
    "memswap_limit": _mapped("the limit of swap"),
    "models": _refused("run the model as a service"),
    "network_mode": _refused(_SHARED, _begins("service:", "container:")),
    "networks": _mapped("networks and aliases"),
    "networks.*.driver_opts": _notice("an attachment has no options"),
    "networks.*.gw_priority": _notice("the gateway follows from the networks"),
    "networks.*.interface_name": _notice("interfaces are numbered"),
    "networks.*.ipv6_address": _notice("it follows from the IPv4 address"),
    "networks.*.link_local_ips": _notice("interfaces have no further addresses"),
    "networks.*.mac_address": _notice("tasks have addresses of their own"),
    "networks.*.priority": _notice("networks are joined in the order of their names"),
    "oom_kill_disable": _notice("cgroup v2 has no such switch"),
    "oom_score_adj": _mapped("the OOM score"),
    "pid": _refused(_SHARED, _begins("service:", "container:")),
    "pids_limit": _mapped("the limit of processes"),
    "platform": _mapped("the platform of nodes"),
    "ports": _mapped("published ports"),
    "ports.app_protocol": _notice("it says nothing to the routing mesh"),
    "ports.name": _notice("ports have no names"),
    "post_start": _refused("there are no hooks: a service with restart: no runs a command once"),
    "pre_start": _refused("there are no hooks: a service with restart: no runs a command once"),
    "pre_stop": _refused("there are no hooks: handle the stop signal"),
    "privileged": _mapped("all capabilities and devices"),
    "profiles": _read("which services count"),
    "provider": _refused("a fleet runs containers: give an image"),
    "pull_policy": _read("when the digest is looked up"),
    "pull_refresh_after": _notice("`pull` looks the digest up again"),
    "read_only": _mapped("a root file system that cannot be written to"),
    "restart": _mapped("the restart policy"),
    "runtime": _notice("agents run crun, or else runc", _other_than("crun", "runc")),
    "scale": _mapped("the number of replicas"),
    "secrets": _mapped("secrets of the task"),
    "security_opt": _mapped("security options"),
    "shm_size": _mapped("the size of /dev/shm"),
    "stdin_open": _mapped("an open standard input"),
    "stop_grace_period": _mapped("the stop grace period"),
    "stop_signal": _mapped("the stop signal"),
    "storage_opt": _notice("a writable layer has no options"),
    "sysctls": _mapped("sysctls"),
    "tmpfs": _mapped("mounts of type tmpfs"),
    "tty": _mapped("a terminal"),
    "ulimits": _mapped("ulimits"),
    "use_api_socket": _refused("a container has no access to the fleet"),
    "user": _mapped("the user of the process"),
    "userns_mode": _mapped("the user namespace"),
    "uts": _refused(_SHARED, _begins("service:", "container:")),
    "volumes": _mapped("mounts"),
    "volumes.bind.selinux": _notice("hosts apply no SELinux labels"),
    "volumes.consistency": _notice("mounts of Linux are always consistent"),
    "volumes.type": _refused("expected volume, bind, tmpfs, image", _begins("npipe", "cluster")),
    "volumes_from": _refused("name a service", _has_beginning("container:")),
    "working_dir": _mapped("the working directory"),
}

TOP_FATES: Mapping[str, Fate] = {
    "configs": _mapped("configs"),
    "include": _read("merged below the files"),
    "models": _refused("run the model as a service"),
    "name": _read("the name of the project"),
    "networks": _mapped("networks"),
    "networks.*.driver": _notice("it means overlay: the network reaches every node", _is("bridge")),
    "networks.*.enable_ipv4": _refused("a network has IPv4 addresses", _other_than(True)),
    "networks.*.ipam.config.aux_addresses": _refused(
        "addresses of the subnet outside ip_range are assigned to no task: use ip_range"
    ),
    "networks.*.ipam.driver": _notice("agents assign the addresses", _other_than("default")),
    "networks.*.ipam.options": _notice("agents assign the addresses"),
    "secrets": _mapped("secrets"),
    "secrets.*.driver": _refused("there are no plugins: expected file or environment"),
    "secrets.*.driver_opts": _refused("there are no plugins: expected file or environment"),
    "services": _mapped("services"),
    "version": _read("how `stack` merges"),
    "volumes": _mapped("volumes"),
}


class Ending(NamedTuple):
    """A key of a model that is not mapped."""

    fate: Fate
    node: Node
    path: Path


class _Table:
    """Fates by key, and the keys that have others below them."""

    def __init__(self, fates: Mapping[str, Fate]) -> None:
        self.fates = fates
        rows = [row.split(".") for row in fates]
        self.above = frozenset(".".join(row[:end]) for row in rows for end in range(1, len(row)))


_TOP = _Table(TOP_FATES)
_SERVICE = _Table(SERVICE_FATES)


def endings(tree: Node) -> Iterator[Ending]:
    """Every key of a model that a fleet refuses or has no effect on it, in order."""
    for key, node in tree.items():
        yield from _of(node, key, (key,), _TOP)
    for name, service in tree.items("services"):
        for key, node in service.items():
            yield from _of(node, key, ("services", name, key), _SERVICE)


def _of(node: Node, key: str, path: Path, table: _Table) -> Iterator[Ending]:
    fate = table.fates.get(key)
    if fate is not None and fate.kind in (Kind.NOTICE, Kind.REFUSED):
        if fate.when is None or fate.when(plain(node)):
            yield Ending(fate, node, path)
        return
    if key in table.above:
        yield from _below(node, key, path, table)


def _below(node: Node, key: str, path: Path, table: _Table) -> Iterator[Ending]:
    star = f"{key}.*" in table.above
    if isinstance(node.value, list):
        for number, entry in enumerate(node.value):
            yield from _below(entry, key, (*path, number), table)
    elif node.is_map:
        for name, child in node.value.items():
            inner = f"{key}.{'*' if star else name}"
            yield from _of(child, inner, (*path, name), table)
