"""Makes an OCI config.json from an image's configuration and a task's spec. PURE.

Facts of the host (its cgroups, its kernel, paths of files) are arguments. Invariants: the same
inputs give the same bytes, and nothing is granted that Docker does not grant by default unless the
spec requests it.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from agent.images.base import ImageConfig
from agent.runtime.base import DeviceNode
from agent.runtime.program.users import resolve_user
from agent.tasks import ocispec_mounts as mounts
from agent.tasks import ocispec_process as process
from agent.tasks.isolation import config as isolation
from agent.tasks.isolation.capabilities import EVERY, of_container
from agent.tasks.ocispec_resources import resources_section
from pyswarm_core.docker.isolation import security
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.specs import ContainerSpec, TaskSpec


class HostFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The facts that are the same for every container of a host."""

    machine: str = "x86_64"
    kernel: tuple[int, int] = (6, 1)
    unified_cgroups: bool = False
    swap_accounted: bool = True
    capabilities: frozenset[str] = EVERY
    """Those that the agent can give."""
    apparmor: bool = False
    init_path: str = ""
    """The path of a static init on the host, for `--init`; empty if there is none."""


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """The facts of one container that are not in its spec.

    An empty `netns_path` means an empty network namespace of its own, `host_network` the host's.
    `files` maps container paths (/etc/hosts) to host paths. `passwd` and `group` are the image's.
    `devices` are the nodes of the spec's devices; of a privileged container, also all of the host.
    `sources` maps the targets of the spec's mounts to paths of the host. `extra_mounts` are OCI
    mounts. `env` is what the host adds to the environment, NAME=value, `hooks` are OCI hooks.
    """

    hostname: str
    cgroups_path: str
    netns_path: str = ""
    host_network: bool = False
    files: Mapping[str, str] = {}
    passwd: bytes = b""
    group: bytes = b""
    sources: Mapping[str, str] = {}
    extra_mounts: tuple[dict[str, Any], ...] = ()
    devices: tuple[DeviceNode, ...] = ()
    env: tuple[str, ...] = ()
    hooks: Mapping[str, list[dict[str, Any]]] = {}


def oci_config(
    image: ImageConfig, task: TaskSpec, host: HostFacts, around: Surroundings
) -> dict[str, Any]:
    """The config.json without `root.path`, which the runtime sets.

    Raises InvalidArgument if the image has no command or lacks the user, the host has no init for
    `--init` or no AppArmor for its profile, or a task on the host's network sets its sysctls.
    """
    spec = task.container_spec
    user = resolve_user(spec.user or image.user, spec.groups, around.passwd, around.group)
    isolation.require_mapped(spec, (user.uid, user.gid, *user.additional_gids))
    hostname = spec.hostname or around.hostname
    words = process.command_line(image, spec)
    shown = mounts.default_mounts(spec, mounts.spec_mounts(spec, around.sources, host.kernel))
    if spec.init:
        words = (mounts.INIT_PATH, "--", *words)
        shown.append(mounts.bind_mount(_init_path(host), mounts.INIT_PATH, read_only=True))
    shown += isolation.device_mounts(spec, around.devices)
    own = {mount.target.rstrip("/") for mount in spec.mounts}
    files = {path: source for path, source in around.files.items() if path not in own}
    shown += [*mounts.file_mounts(files), *around.extra_mounts]
    env = process.environment(image, spec, hostname, user.home, around.env)
    if security.needs_apparmor(spec.security_opt) and not host.apparmor:
        raise InvalidArgument("security-opt apparmor: this host's kernel has no AppArmor")
    bounding = of_container(spec, host.capabilities)
    section = process.process_section(words, env, user, image, spec, bounding=bounding)
    own_name = {} if spec.uts_mode == isolation.HOST else {"hostname": hostname}
    annotations = {"annotations": dict(spec.annotations)} if spec.annotations else {}
    return {
        "ociVersion": "1.0.2",
        "process": section,
        "root": {"readonly": spec.read_only},
        **own_name,
        "mounts": shown,
        "linux": _linux_section(task, host, around, bounding),
        **annotations,
        **({"hooks": dict(around.hooks)} if around.hooks else {}),
    }


def _init_path(host: HostFacts) -> str:
    if not host.init_path:
        raise InvalidArgument(
            "init: this host has no static init; install the Debian package tini or catatonit"
        )
    return host.init_path


def _linux_section(
    task: TaskSpec, host: HostFacts, around: Surroundings, capabilities: tuple[str, ...]
) -> dict[str, Any]:
    spec: ContainerSpec = task.container_spec
    resources = resources_section(
        task.resources, swap_accounted=host.swap_accounted, unified=host.unified_cgroups
    )
    section: dict[str, Any] = {
        "cgroupsPath": around.cgroups_path,
        "namespaces": [
            *isolation.namespaces(spec, unified=host.unified_cgroups),
            *_network_namespace(around),
        ],
        "resources": {**resources, "devices": isolation.device_rules(spec, around.devices)},
        **isolation.hidden_paths(spec),
    }
    if nodes := isolation.device_nodes(spec, around.devices):
        section["devices"] = nodes
    if around.host_network and (theirs := [n for n in spec.sysctls if n.startswith("net.")]):
        raise InvalidArgument(
            f"sysctl {theirs[0]}: a task on the network host cannot change the host's network"
        )
    if spec.sysctls:
        section["sysctl"] = dict(spec.sysctls)
    if found := isolation.filter_section(spec, capabilities, host.machine, host.kernel):
        section["seccomp"] = found
    return section


def _network_namespace(around: Surroundings) -> list[dict[str, str]]:
    if around.netns_path:
        return [{"type": "network", "path": around.netns_path}]
    return [] if around.host_network else [{"type": "network"}]
