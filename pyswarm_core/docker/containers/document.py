"""Containers in the form of Docker's API, as `inspect` shows them. PURE.

Docker's keys with Docker's defaults, for templates and tools; `Node` and `Service` are pyswarm's
own. What the image sets is in the document only as far as the spec repeats it.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from pyswarm_core.clock import SECOND, Instant
from pyswarm_core.docker.containers import views as containers
from pyswarm_core.docker.containers.views import DEFAULT_NETWORK, ContainerState
from pyswarm_core.docker.documents import pruned
from pyswarm_core.docker.logdrivers import driver_of
from pyswarm_core.docker.objects import Addresses, check_document
from pyswarm_core.docker.units import format_time
from pyswarm_core.docker.volumes import of_mount
from pyswarm_core.ids import NetworkId
from pyswarm_core.model import Model, to_json_value
from pyswarm_core.objects import Service
from pyswarm_core.specs import (
    ContainerSpec,
    HealthConfig,
    NetworkAttachment,
    PortConfig,
    Resources,
    RestartCondition,
    TaskSpec,
)
from pyswarm_core.states import is_terminal
from pyswarm_core.views import TaskCheck, TaskView

SHM_SIZE = 64 << 20
"""Docker's size of /dev/shm."""
NEVER = "0001-01-01T00:00:00Z"
"""Go's time of something that did not happen."""
_RESTARTS = {
    RestartCondition.NONE: "no",
    RestartCondition.ON_FAILURE: "on-failure",
    RestartCondition.ANY: "always",
}


class Inspected(msgspec.Struct, frozen=True):
    """What is known of a container."""

    service: Service
    view: TaskView | None
    """Its newest task; None: it was never started."""
    networks: Mapping[str, str]
    """Names of its networks, by id."""
    checks: tuple[TaskCheck, ...] = ()
    """As its agent has them."""

    @property
    def template(self) -> TaskSpec:
        """What it is made from."""
        made_from = self.view.spec if self.view else None
        return made_from or self.service.spec.task_template


def of_container(found: Inspected, addresses: Addresses) -> dict[str, Any]:
    """Docker's document of a container."""
    service, view, template = found.service, found.view, found.template
    task = view.task if view else None
    spec = template.container_spec
    words = containers.command_of(spec, task)
    return {
        "Id": containers.id_of(service, task),
        "Created": format_time(containers.created_at(service, task)),
        "Path": words[0] if words else "",
        "Args": list(words[1:]),
        "State": _state(found),
        "Image": spec.image.partition("@")[2] or spec.image,
        "Name": f"/{containers.name_of(service, task)}",
        "RestartCount": task.restarts if task else 0,
        "Driver": "overlay",
        "Platform": "linux",
        "HostConfig": _host_config(found),
        "Mounts": [of_mount(mount) for mount in (*spec.mounts, *containers.image_volumes(task))],
        "Config": _config(found),
        "NetworkSettings": _network_settings(found, addresses),
        "Node": {
            "ID": task.node_id if task else "",
            "Name": view.node_name if view else "",
        },
        "Service": None
        if service.spec.mode.is_container
        else {"ID": service.id, "Name": service.spec.name, "Slot": task.slot if task else 0},
    }


def _state(found: Inspected) -> dict[str, Any]:
    task = found.view.task if found.view else None
    state = containers.state_of(found.service, task)
    is_up = state in (ContainerState.RUNNING, ContainerState.PAUSED)
    started, finished = _times(found)
    document: dict[str, Any] = {
        "Status": state.value,
        "Running": is_up or state is ContainerState.RESTARTING,
        "Paused": state is ContainerState.PAUSED,
        "Restarting": state is ContainerState.RESTARTING,
        "OOMKilled": bool(task and task.detail.oom),
        "Dead": state is ContainerState.DEAD,
        "Pid": task.detail.pid if task and is_up else 0,
        "ExitCode": task.detail.exit_code if task else 0,
        "Error": task.detail.error if task else "",
        "StartedAt": format_time(started) if started else NEVER,
        "FinishedAt": format_time(finished) if finished else NEVER,
    }
    health = next((check for check in found.checks if check.kind == "health"), None)
    if health is not None:
        document["Health"] = check_document(health)
    elif task is not None and task.detail.health:
        document["Health"] = {"Status": task.detail.health.value, "FailingStreak": 0, "Log": []}
    return document


def _times(found: Inspected) -> tuple[Instant, Instant]:
    """When its process started and ended; 0: it has not."""
    task = found.view.task if found.view else None
    if task is None or not task.status_at:
        return Instant(0), Instant(0)
    if is_terminal(task.state):
        started = Instant(task.status_at - task.detail.ran) if task.detail.ran else Instant(0)
        return started, task.status_at
    is_up = containers.state_of(found.service, task) in (
        ContainerState.RUNNING,
        ContainerState.PAUSED,
    )
    return (task.status_at if is_up else Instant(0)), Instant(0)


def _config(found: Inspected) -> dict[str, Any]:
    service, spec = found.service, found.template.container_spec
    task = found.view.task if found.view else None
    labels = spec.labels
    if task is not None and not service.spec.mode.is_container:
        labels = labels | containers.swarm_labels(service, task)
    host, _, domain = spec.hostname.partition(".")
    return {
        "Hostname": host,
        "Domainname": domain,
        "User": spec.user,
        "AttachStdin": False,
        "AttachStdout": False,
        "AttachStderr": False,
        "ExposedPorts": {_port_key(port): {} for port in service.spec.endpoint_spec.ports},
        "Tty": spec.tty,
        "OpenStdin": spec.open_stdin,
        "StdinOnce": spec.stdin_once,
        "Env": list(spec.env),
        "Cmd": list(spec.args) or None,
        "Healthcheck": _healthcheck(spec.healthcheck),
        "Image": spec.image.partition("@")[0],
        "Volumes": None,
        "WorkingDir": spec.dir,
        "Entrypoint": list(spec.command) or None,
        "Labels": labels,
        "StopSignal": spec.stop_signal,
        "StopTimeout": spec.stop_grace_period // SECOND,
    }


def _healthcheck(config: HealthConfig) -> dict[str, Any] | None:
    if config == HealthConfig():
        return None
    return {
        "Test": list(config.test),
        "Interval": config.interval,
        "Timeout": config.timeout,
        "StartPeriod": config.start_period,
        "StartInterval": config.start_interval,
        "Retries": config.retries,
    }


def _host_config(found: Inspected) -> dict[str, Any]:
    template, spec = found.template, found.template.container_spec
    first = _attachments(found)[0].target
    return {
        "Binds": None,
        **({"Mounts": [pruned(mount) for mount in spec.mounts]} if spec.mounts else {}),
        "NetworkMode": found.networks.get(first, first),
        "PortBindings": _bindings(found.service.endpoint.ports),
        "RestartPolicy": _restart_policy(found),
        "AutoRemove": bool(getattr(found.service.spec.mode, "auto_remove", False)),
        "LogConfig": {
            "Type": driver_of(template.log_driver),
            "Config": template.log_driver.options,
        },
        "CapAdd": list(spec.capability_add) or None,
        "CapDrop": list(spec.capability_drop) or None,
        "Dns": list(spec.dns_config.nameservers),
        "DnsOptions": list(spec.dns_config.options),
        "DnsSearch": list(spec.dns_config.search),
        "ExtraHosts": [_extra_host(line) for line in spec.hosts] or None,
        "GroupAdd": list(spec.groups) or None,
        "Init": spec.init,
        "OomScoreAdj": spec.oom_score_adj,
        "ReadonlyRootfs": spec.read_only,
        "Sysctls": spec.sysctls,
        "Ulimits": [{"Name": one.name, "Hard": one.hard, "Soft": one.soft} for one in spec.ulimits],
        "Isolation": "",
        **_isolation(spec),
        **_resources(template.resources, spec),
    }


def _isolation(spec: ContainerSpec) -> dict[str, Any]:
    return {
        "Privileged": spec.privileged,
        "SecurityOpt": list(spec.security_opt) or None,
        "Tmpfs": spec.tmpfs or None,
        "ShmSize": spec.shm_size or SHM_SIZE,
        "PidMode": spec.pid_mode,
        "IpcMode": spec.ipc_mode or "private",
        "UTSMode": spec.uts_mode,
        "UsernsMode": spec.userns_mode,
        "CgroupnsMode": spec.cgroupns_mode,
        "Devices": [
            {
                "PathOnHost": device.path_on_host,
                "PathInContainer": device.path_in_container or device.path_on_host,
                "CgroupPermissions": device.cgroup_permissions,
            }
            for device in spec.devices
        ],
        "DeviceCgroupRules": list(spec.device_cgroup_rules) or None,
    }


def _resources(resources: Resources, spec: ContainerSpec) -> dict[str, Any]:
    limits, swap = resources.limits, resources.swap_bytes
    memory = limits.memory_bytes
    disks: Mapping[str, tuple[Model, ...]] = {
        "BlkioWeightDevice": limits.blkio_weight_device,
        "BlkioDeviceReadBps": limits.blkio_device_read_bps,
        "BlkioDeviceWriteBps": limits.blkio_device_write_bps,
        "BlkioDeviceReadIOps": limits.blkio_device_read_iops,
        "BlkioDeviceWriteIOps": limits.blkio_device_write_iops,
    }
    total = -1 if swap < 0 else memory + (swap or memory) if memory else 0
    return {
        "NanoCpus": limits.nano_cpus,
        "CpuShares": limits.cpu_shares,
        "CpuPeriod": limits.cpu_period,
        "CpuQuota": limits.cpu_quota,
        "CpusetCpus": limits.cpuset_cpus,
        "CpusetMems": limits.cpuset_mems,
        "Memory": memory,
        "MemoryReservation": limits.memory_reservation,
        "MemorySwap": total,
        "MemorySwappiness": None
        if resources.memory_swappiness < 0
        else resources.memory_swappiness,
        "OomKillDisable": resources.oom_kill_disable,
        "PidsLimit": limits.pids or None,
        "BlkioWeight": limits.blkio_weight,
        **{key: [to_json_value(one) for one in devices] or None for key, devices in disks.items()},
        "Annotations": spec.annotations,
    }


def _restart_policy(found: Inspected) -> dict[str, Any]:
    policy = found.template.restart_policy
    name = _RESTARTS[policy.condition]
    if name == "always" and getattr(found.service.spec.mode, "unless_stopped", False):
        name = "unless-stopped"
    return {"Name": name, "MaximumRetryCount": policy.max_attempts}


def _extra_host(line: str) -> str:
    """`NAME:IP` of a line of /etc/hosts."""
    address, _, name = line.partition(" ")
    return f"{name}:{address}"


def _attachments(found: Inspected) -> tuple[NetworkAttachment, ...]:
    return found.template.networks or (NetworkAttachment(target=DEFAULT_NETWORK),)


def _network_settings(found: Inspected, addresses: Addresses) -> dict[str, Any]:
    networks = _networks(found, addresses)
    first = next((one for one in networks.values() if one["IPAddress"]), None)
    task = found.view.task if found.view else None
    return {
        "SandboxID": task.id if task and first else "",
        "Ports": _bindings(containers.published(found.service, task)),
        "IPAddress": first["IPAddress"] if first else "",
        "GlobalIPv6Address": first["GlobalIPv6Address"] if first else "",
        "Gateway": "",
        "MacAddress": found.template.container_spec.mac_address,
        "Networks": networks,
    }


def _networks(found: Inspected, addresses: Addresses) -> dict[str, Any]:
    task = found.view.task if found.view else None
    held = {one.network_id: one.address for one in task.detail.addresses} if task else {}
    documents = {}
    for attachment in _attachments(found):
        address = held.get(NetworkId(attachment.target))
        given = addresses(NetworkId(attachment.target), address) if address else ()
        documents[found.networks.get(attachment.target, attachment.target)] = _endpoint(
            attachment, given
        )
    return documents


def _endpoint(attachment: NetworkAttachment, addresses: Iterable[str]) -> dict[str, Any]:
    four = next((one for one in addresses if ":" not in one), "")
    six = next((one for one in addresses if ":" in one), "")
    return {
        "IPAMConfig": {"IPv4Address": attachment.task_ip} if attachment.task_ip else None,
        "Links": None,
        "Aliases": list(attachment.aliases) or None,
        "NetworkID": attachment.target,
        "EndpointID": "",
        "Gateway": "",
        "IPAddress": four,
        "IPPrefixLen": 0,
        "GlobalIPv6Address": six,
        "MacAddress": "",
    }


def _port_key(port: PortConfig) -> str:
    return f"{port.target_port}/{port.protocol.value}"


def _bindings(ports: Iterable[PortConfig]) -> dict[str, Any]:
    """Docker's map of published ports: `80/tcp` to where it is published."""
    found: dict[str, Any] = {}
    for port in ports:
        found.setdefault(_port_key(port), []).append(
            {"HostIp": port.host_ip or "0.0.0.0", "HostPort": str(port.published_port)}
        )
    return found
