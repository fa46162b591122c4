"""The output of `inspect --pretty`, with Docker's headings. PURE."""

from collections.abc import Iterator, Mapping, Sequence

from cli.render.listing import one_line
from pyswarm_core.clock import Instant
from pyswarm_core.docker.generic_resources import counted, names
from pyswarm_core.docker.isolation import security
from pyswarm_core.docker.logdrivers import driver_of
from pyswarm_core.docker.units import (
    ago,
    format_bitrate,
    format_cpus,
    format_duration,
    format_time,
    human_size,
    pretty_time,
)
from pyswarm_core.objects import NodeStatus, Service, UpdateStatus
from pyswarm_core.specs import (
    ContainerSpec,
    HealthConfig,
    LogDriver,
    PortConfig,
    ReplicatedMode,
    Resources,
    TaskSpec,
    UpdateConfig,
)
from pyswarm_core.validation.isolation import modes
from pyswarm_core.views import NodeView


def service_lines(service: Service, names: Mapping[str, str], now: Instant) -> Iterator[str]:
    """The lines of a service; `names` are the names of its networks, by id."""
    spec = service.spec
    yield f"ID:             {service.id}"
    yield f"Name:           {spec.name}"
    yield from _labels(spec.labels)
    yield f"Service Mode:   {spec.mode.word.capitalize()}"
    if isinstance(spec.mode, ReplicatedMode):
        yield f" Replicas:      {spec.mode.replicas}"
    if spec.stopped:
        yield " Stopped:       true"
    if service.update_status is not None:
        yield from _status(service.update_status, now)
    yield from _placement(spec.task_template)
    yield "UpdateConfig:"
    yield from _config(spec.update_config, "Update")
    yield "RollbackConfig:"
    yield from _config(spec.rollback_config, "Rollback")
    yield from _container(spec.task_template)
    yield from _files(spec.task_template.container_spec)
    yield from _check("Healthcheck", spec.task_template.container_spec.healthcheck)
    yield from _check("Readiness", spec.task_template.container_spec.readiness)
    yield from _log_driver(spec.task_template)
    yield from _resources(spec.task_template.resources)
    yield from _restart(spec.task_template)
    joined = [network.target for network in spec.task_template.networks]
    if joined:
        yield f"Networks:       {' '.join(names.get(target, target) for target in joined)}"
    yield f"Endpoint Mode:  {spec.endpoint_spec.mode.value}"
    yield from _ports(service.endpoint.ports)


def node_lines(view: NodeView) -> Iterator[str]:
    """The lines of a node."""
    node = view.node
    resources = node.description.resources
    platform = node.description.platform
    yield f"ID:                     {node.id}"
    yield from _labels(node.spec.labels)
    yield f"Hostname:               {node.description.hostname}"
    yield f"Joined at:              {pretty_time(node.created_at)}"
    yield "Status:"
    yield from _node_status(node.status)
    yield f" Availability:          {node.spec.availability.capitalize()}"
    yield f" Address:               {node.status.addr}"
    if view.leader:
        yield "Manager Status:"
        yield " Leader:                Yes"
    yield "Platform:"
    yield f" Operating System:      {platform.os}"
    yield f" Architecture:          {platform.architecture}"
    if node.description.lacks:
        yield f" Kernel lacks:          {', '.join(node.description.lacks)}"
    yield "Resources:"
    yield f" CPUs:                  {format_cpus(resources.nano_cpus)}"
    yield f" Memory:                {human_size(resources.memory_bytes)}"
    yield f" Reserved CPUs:         {format_cpus(view.reserved.nano_cpus)}"
    yield f" Reserved Memory:       {human_size(view.reserved.memory_bytes)}"
    yield from _generic(view)
    yield f"Tasks:                  {view.tasks}"
    yield f"Engine Version:         {node.description.engine_version}"
    other = ", another than the controller's" if view.other_protocol else ""
    yield f"Protocol:               {node.description.spoken}{other}"
    if expires_at := node.certificate.expires_at:
        yield f"Certificate Expires:    {format_time(expires_at)}"
    if node.description.engine_labels:
        yield "Engine Labels:"
        yield from _pairs(node.description.engine_labels)


def _node_status(status: NodeStatus) -> Iterator[str]:
    yield f" State:                 {status.state.capitalize()}"
    if status.message:
        yield f" Message:               {one_line(status.message)}"
    for fault in status.faults:
        network = f"network {fault.network_id}: " if fault.network_id else ""
        yield f" Fault:                 {network}{one_line(fault.reason)}"
    if status.image_disk.reason:
        yield f" Image Disk:            Full: {one_line(status.image_disk.reason)}"


def _generic(view: NodeView) -> Iterator[str]:
    offered = view.node.description.resources.generic_resources
    reserved = counted(view.reserved.generic_resources)
    for kind, count in counted(offered).items():
        named = names(offered, kind)
        offers = f"{count} ({', '.join(named)})" if named else f"{count}"
        yield f" {f'{kind}:':<22} {offers}, {reserved.get(kind, 0)} reserved"


def _labels(labels: Mapping[str, str]) -> Iterator[str]:
    if labels:
        yield "Labels:"
        yield from _pairs(labels)


def _pairs(labels: Mapping[str, str]) -> Iterator[str]:
    for key in sorted(labels):
        yield f" {key}={one_line(labels[key])}"


def _placement(template: TaskSpec) -> Iterator[str]:
    placement = template.placement
    if placement == type(placement)():
        return
    yield "Placement:"
    if placement.constraints:
        yield f" Constraints:   [{', '.join(placement.constraints)}]"
    if placement.preferences:
        yield f" Preferences:   [{', '.join('spread=' + key for key in placement.preferences)}]"
    if placement.volumes:
        yield f" Volumes:\t{placement.volumes}"
    if placement.max_replicas:
        yield f" Max Replicas Per Node: {placement.max_replicas}"


def _status(status: UpdateStatus, now: Instant) -> Iterator[str]:
    yield "UpdateStatus:"
    yield f" State:         {status.state.value}"
    yield f" Started:       {ago(status.started_at, now)}"
    if status.completed_at:
        yield f" Completed:     {ago(status.completed_at, now)}"
    yield f" Message:       {one_line(status.message)}"


def _config(config: UpdateConfig, kind: str) -> Iterator[str]:
    yield f" Parallelism:   {config.parallelism}"
    if config.delay:
        yield f" Delay:         {format_duration(config.delay)}"
    yield f" On failure:    {config.failure_action.value}"
    yield f" Monitoring Period: {format_duration(config.monitor)}"
    yield f" Max failure ratio: {config.max_failure_ratio:g}"
    yield f" {kind + ' order:':<18} {config.order.value}"


def _check(heading: str, config: HealthConfig) -> Iterator[str]:
    """What is configured; the rest is the image's, or the default."""
    if config == HealthConfig():
        return
    yield f"{heading}:"
    for name, duration in (
        ("Interval", config.interval),
        ("Timeout", config.timeout),
        ("StartPeriod", config.start_period),
        ("StartInterval", config.start_interval),
    ):
        if duration:
            yield f" {name + ':':<14} {format_duration(duration)}"
    if config.retries:
        yield f" Retries:       {config.retries}"
    if config.test:
        yield f" Test:          {one_line(' '.join(config.test))}"


def _container(template: TaskSpec) -> Iterator[str]:
    container = template.container_spec
    values = {
        "Image": container.image,
        "Entrypoint": " ".join(container.command),
        "Args": " ".join(container.args),
        "Env": " ".join(container.env),
        "Dir": container.dir,
        "User": container.user,
        "Init": "true" if container.init else "",
        "Capabilities": " ".join(
            [
                *(f"+{name}" for name in container.capability_add),
                *(f"-{name}" for name in container.capability_drop),
            ]
        ),
        **_isolation(container),
    }
    yield "ContainerSpec:"
    for name, value in values.items():
        if value:
            yield f" {name + ':':<14} {one_line(value)}"


def _files(container: ContainerSpec) -> Iterator[str]:
    """What is mounted, and which files and variables have configs and secrets."""
    if container.mounts:
        yield "Mounts:"
    for mount in container.mounts:
        yield f" Target:        {one_line(mount.target)}"
        yield f"  Source:       {one_line(mount.source)}".rstrip()
        yield f"  ReadOnly:     {str(mount.read_only).lower()}"
        yield f"  Type:         {mount.type.value}"
    references = (("Configs", container.configs), ("Secrets", container.secrets))
    for heading, used in references:
        if used:
            yield f"{heading}:"
        for one in used:
            target, name = ("Variable", one.variable) if one.variable else ("Target", one.file.name)
            yield f" {target + ':':<14} {one_line(name)}"
            yield f"  Source:       {one.source}{f'@{one.number}' if one.pinned else ''}"


def _isolation(container: ContainerSpec) -> dict[str, str]:
    """What isolates the container, or opens it; a seccomp profile by its name alone."""
    mounts = (f"{path}:{options}".rstrip(":") for path, options in container.tmpfs.items())
    return {
        "Privileged": "true" if container.privileged else "",
        "Read Only": "true" if container.read_only else "",
        "Tmpfs": " ".join(mounts),
        "Shm Size": human_size(container.shm_size) if container.shm_size else "",
        "Namespaces": " ".join(
            f"{flag[2:]}={mode}" for flag, mode in modes(container).items() if mode
        ),
        "Devices": " ".join(
            [*map(security.device_text, container.devices), *container.device_cgroup_rules]
        ),
        "Security": " ".join(
            "seccomp=FILE" if option.startswith("seccomp={") else option
            for option in container.security_opt
        ),
    }


def _log_driver(template: TaskSpec) -> Iterator[str]:
    driver = template.log_driver
    if driver == LogDriver():
        return
    yield "Log Driver:"
    yield f" Name:          {one_line(driver_of(driver))}"
    if driver.options:
        options = (f"{key}={value}" for key, value in sorted(driver.options.items()))
        yield f" LogOpts:       {one_line(' '.join(options))}"


def _resources(resources: Resources) -> Iterator[str]:
    if resources == Resources():
        return
    yield "Resources:"
    limits, reserved = resources.limits, resources.reservations
    for name, nano_cpus, memory in (
        ("Reservations", reserved.nano_cpus, reserved.memory_bytes),
        ("Limits", limits.nano_cpus, limits.memory_bytes),
    ):
        if nano_cpus or memory:
            yield f" {name}:"
        if nano_cpus:
            yield f"  CPU:          {format_cpus(nano_cpus)}"
        if memory:
            yield f"  Memory:       {human_size(memory)}"
    if limits.pids:
        yield f" Pids:          {limits.pids}"
    yield from _other_limits(resources)


def _other_limits(resources: Resources) -> Iterator[str]:
    limits = resources.limits
    values = {
        "CPU shares": str(limits.cpu_shares or ""),
        "CPU quota": f"{limits.cpu_quota}us" if limits.cpu_quota else "",
        "CPU period": f"{limits.cpu_period}us" if limits.cpu_period else "",
        "CPUs": limits.cpuset_cpus,
        "NUMA nodes": limits.cpuset_mems,
        "Soft memory": human_size(limits.memory_reservation) if limits.memory_reservation else "",
        "OOM killer": "disabled" if resources.oom_kill_disable else "",
        "IO weight": str(limits.blkio_weight or ""),
        "Egress": format_bitrate(limits.net_egress) if limits.net_egress else "",
        "Ingress": format_bitrate(limits.net_ingress) if limits.net_ingress else "",
    }
    for name, value in values.items():
        if value:
            yield f" {name + ':':<14} {one_line(value)}"
    for weight in limits.blkio_weight_device:
        yield f" IO weight:     {weight.weight} of {one_line(weight.path)}"
    for name, rates, unit in (
        ("Read", limits.blkio_device_read_bps, "bytes"),
        ("Write", limits.blkio_device_write_bps, "bytes"),
        ("Read", limits.blkio_device_read_iops, "operations"),
        ("Write", limits.blkio_device_write_iops, "operations"),
    ):
        for rate in rates:
            yield f" {name + ':':<14} {rate.rate} {unit}/s of {one_line(rate.path)}"


def _ports(ports: Sequence[PortConfig]) -> Iterator[str]:
    if ports:
        yield "Ports:"
    for port in ports:
        yield f" PublishedPort = {port.published_port or 'chosen by the node'}"
        yield f"  Protocol = {port.protocol.value}"
        yield f"  TargetPort = {port.target_port}"
        yield f"  PublishMode = {port.publish_mode.value}"
        if port.host_ip:
            yield f"  HostIP = {port.host_ip}"


def _restart(template: TaskSpec) -> Iterator[str]:
    policy = template.restart_policy
    yield "RestartPolicy:"
    yield f" Condition:     {policy.condition.value}"
    yield f" Delay:         {format_duration(policy.delay)}"
    yield f" Max attempts:  {policy.max_attempts}"
    if policy.window:
        yield f" Window:        {format_duration(policy.window)}"
    if policy.max_delay:
        yield f" Max delay:     {format_duration(policy.max_delay)}"
