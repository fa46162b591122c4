"""Makes everything of a task but its process: image, addresses, namespace, OCI config, container.
SHELL.

Calls images, network and runtime in order and decides nothing; their errors become the task's.
Invariant: what was made before a failure is removed by `undo`, which the worker calls for every
ended task.
"""

import asyncio
import os
import shlex
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from msgspec.structs import replace

from agent import etcfiles, listening
from agent.images.base import (
    Credentials,
    Image,
    ImageConfig,
    ImageError,
    Images,
    PullPhase,
    PullProgress,
)
from agent.logdrivers.plan import Forwarding, forwarding, log_limits
from agent.network.base import RESOLVER_ADDRESS
from agent.overlays.overlays import Overlays
from agent.overlays.plan import Attached
from agent.runtime.base import ContainerConfig, DeviceNode, LogLimits, Runtime, RuntimeFailed
from agent.runtime.isolation import cdi, devices
from agent.runtime.mounts import read_from_layers
from agent.runtime.running.attachments import Attachments
from agent.secrets.plan import Exposed
from agent.secrets.secrets import Exposing
from agent.tasks.events import Prepared
from agent.tasks.generic_resources import GenericResources, Held, environment
from agent.tasks.isolation.config import HOST
from agent.tasks.ocispec import HostFacts, Surroundings, oci_config
from agent.tasks.ocispec_process import command_line
from agent.tasks.ocispec_resources import interfaces, written_limits
from agent.tasks.record import InPlaceChange, Record
from agent.volumes.expanding import (
    context_of,
    paths_as_words,
    with_image_volumes,
    with_templates_expanded,
)
from agent.volumes.volumes import Mounting, Sources
from pyswarm_core.clock import seconds
from pyswarm_core.docker.reference import parse_reference
from pyswarm_core.docker.units import decimal_size, format_duration
from pyswarm_core.ids import NetworkId, TaskId, short
from pyswarm_core.limits import CREATION_MAX, DETAIL_LENGTH_MAX, PULL_STALL_MAX
from pyswarm_core.objects import clipped
from pyswarm_core.specs import ContainerSpec, PortConfig

ReportStatus = Callable[[str], None]

PREPARING_AT_ONCE = 4
"""More would only make each slower: container creation is bound by the CPU. Pulls have their own
bound: a registry that hangs must not delay tasks whose images are on the host."""

HELD_PERIOD_S = 0.2
"""How often it looks whether the resources of an ended task are free: few tasks have any."""
HOSTS = Path("/etc/hosts")


class Preparation:
    """Prepares tasks on one host."""

    def __init__(
        self,
        *,
        images: Images,
        overlays: Overlays,
        runtime: Runtime,
        host: HostFacts,
        hostname: str,
        cgroup_parent: str,
        resolv_conf: Path,
        log_limits: LogLimits,
        attachments: Attachments,
        forward: Callable[[str, Forwarding], None],
        volumes: Mounting,
        generic: GenericResources,
        secrets: Exposing,
    ) -> None:
        self._images = images
        self._overlays = overlays
        self._runtime = runtime
        self._host = host
        self._hostname = hostname
        self._cgroup_parent = cgroup_parent.rstrip("/")
        self._resolv_conf = resolv_conf
        self._log_limits = log_limits
        self._attachments = attachments
        self._forward = forward
        self._volumes = volumes
        self._generic = generic
        self._secrets = secrets
        self._slots = asyncio.Semaphore(PREPARING_AT_ONCE)

    async def prepare(self, record: Record, report: ReportStatus) -> Prepared:
        """Make everything but the running process; `report` is called with each progress message.

        Raises ImageError, NetworkFailed, RuntimeFailed or InvalidArgument, each with one line for
        users.
        """
        record = with_templates_expanded(record, self._hostname, self._host.machine)
        image = await self._image(record, record.spec.container_spec.image, report)
        mounted = {
            mount.image: await self._image(record, mount.image, report)
            for mount in record.spec.container_spec.mounts
            if mount.image
        }
        declared = await self._volumes.declared(record, image.config.volumes)
        asked = len(record.spec.container_spec.mounts)
        record = with_image_volumes(record, declared)
        made = paths_as_words(record.spec.container_spec.mounts[asked:])
        # Outside the slots: a network that cannot be made must not delay tasks of other networks.
        await self._overlays.ready(_networks(record))
        await self._overlays.released(record.task_id, record.spec.task_ips)
        if record.layer and (taken := await asyncio.to_thread(listening.conflict, record.ports)):
            raise RuntimeFailed(taken)
        held = await self._held(record, report)
        context = context_of(record, self._hostname, self._host.machine)
        secrets = await self._secrets.ready(record, context, report)
        with ExitStack() as opened:
            layers = {name: one.layers for name, one in mounted.items()}
            sources = await self._volumes.ready(record, image.layers, report, opened, layers)
            prepared = await self._create_in_turn(record, image, sources, held, secrets)
            ids = tuple(one.id for one in mounted.values())
            prepared = replace(prepared, mounted_images=ids, image_volumes=made)
        await self._attachments.until(record.task_id, record.spec.container_spec.attach_by)
        return prepared

    async def _create_in_turn(
        self, record: Record, image: Image, sources: Sources, held: Held, secrets: Exposed
    ) -> Prepared:
        async with self._slots:
            timeout = asyncio.timeout(seconds(CREATION_MAX))
            try:
                async with timeout:
                    return await self._create(record, image, sources, held, secrets)
            except TimeoutError:
                if not timeout.expired():
                    raise
                took = f"took longer than {format_duration(CREATION_MAX)}"
                raise RuntimeFailed(f"making its namespace and container {took}") from None

    async def _image(self, record: Record, name: str, report: ReportStatus) -> Image:
        """An image, pulled if needed. Fails once the pull makes no progress for PULL_STALL_MAX."""
        now = asyncio.get_running_loop().time
        timeout = asyncio.timeout(seconds(PULL_STALL_MAX))
        last: PullProgress | None = None

        def on_progress(progress: PullProgress) -> None:
            nonlocal last
            report(_pulling(progress))
            if progress != last and not timeout.expired():
                timeout.reschedule(now() + seconds(PULL_STALL_MAX))
            last = progress

        login = _credentials(record, name)
        try:
            async with timeout:
                return await self._images.resolve(name, login, progress=on_progress)
        except TimeoutError:
            if not timeout.expired():
                raise
            where = _pulling(last) if last else "looking for it on this host"
            stalled = f"no progress for {format_duration(PULL_STALL_MAX)}"
            raise ImageError(f"image {name}: {stalled} ({where})") from None

    async def undo(self, task_id: TaskId, *, keep_logs: bool) -> None:
        """Remove what was made of a task, or of one that is unknown. Raises RuntimeFailed,
        NetworkFailed, OSError; to be called again then.
        """
        await self._runtime.remove(task_id, keep_logs=keep_logs)
        await self._overlays.detach(task_id)
        self._secrets.released(task_id)

    async def _held(self, record: Record, report: ReportStatus) -> Held:
        """The resources that users define, once other tasks that had them have ended."""
        while (held := self._generic.choose(record)) is None:
            report("waiting for the generic resources of tasks that end")
            await asyncio.sleep(HELD_PERIOD_S)
        return held

    async def _create(
        self, record: Record, image: Image, sources: Sources, held: Held, secrets: Exposed
    ) -> Prepared:
        container = (spec := record.spec).container_spec
        attached = await self._overlays.attach(
            record.task_id,
            _networks(record),
            container.dns_config.nameservers,
            calls_api=spec.allow_fleet_api,
            interfaces=interfaces(spec),
        )
        ports = self._overlays.claim(record.task_id, record.ports)
        in_host = not attached.netns_path
        hostname = self._name(record, in_host=in_host)
        files = self._files(record, hostname, attached)
        passwd, group = _accounts(image.config, record, image.layers)
        found, added = await asyncio.to_thread(_devices, container)
        around = Surroundings(
            hostname=hostname,
            cgroups_path=f"{self._cgroup_parent}/{record.task_id}",
            netns_path=attached.netns_path,
            host_network=in_host,
            files={f"/etc/{name}": self._runtime.file_path(record.task_id, name) for name in files},
            passwd=passwd,
            group=group,
            sources=sources.paths,
            env=(*environment(held), *added.env, *secrets.env),
            devices=found,
            extra_mounts=(*secrets.mounts, *added.mounts),
            hooks=added.hooks,
        )
        pid = await self._runtime.create(
            ContainerConfig(
                id=record.task_id,
                oci=oci_config(image.config, spec, self._host, around),
                layers=image.layers,
                log_limits=log_limits(spec.log_driver, self._log_limits),
                files=files,
                terminal=container.tty,
                limits=written_limits(spec.resources),
                stdin=container.open_stdin,
                stdin_once=container.stdin_once,
                layer=record.layer,
                volatile=record.volatile,
                binds=sources.binds,
            )
        )
        if (sent := forwarding(record, image.id, image.config)) is not None:
            self._forward(record.task_id, sent)
        return replace(_prepared(record, image, pid, attached, ports), generic_resources=held)

    async def networks_changed(self, record: Record, before: Attached, after: Attached) -> None:
        """Change the files in /etc of a running container that name its addresses and its resolver.
        A resolv.conf that the container has edited stays as it is. Raises OSError.
        """
        hostname = self._name(record, in_host=False)
        was, now = (self._files(record, hostname, one) for one in (before, after))
        for name in ("hosts", "resolv.conf"):
            if was[name] == now[name]:
                continue

            def edit(present: bytes, name: str = name) -> bytes:
                if name == "resolv.conf" and present != was[name]:
                    return present
                return etcfiles.edited(present, was[name], now[name])

            await self._runtime.edit_file(record.task_id, name, edit)

    async def files_changed(self, record: Record, change: InPlaceChange) -> bool:
        """Replace the secrets and configs of a running container that differ from those of the
        change; whether any did. Raises RuntimeFailed and InvalidArgument.
        """
        record = replace(record, spec=change.with_references(record.spec))
        record = with_templates_expanded(record, self._hostname, self._host.machine)
        context = context_of(record, self._hostname, self._host.machine)
        return await self._secrets.swap(record, context, _unheard)

    def files_kept(self, task_id: TaskId) -> None:
        """The task's record has the secrets and configs that its container has now."""
        self._secrets.trim(task_id)

    def _name(self, record: Record, *, in_host: bool) -> str:
        return _hostname(
            record, self._hostname if in_host else short(record.layer or record.task_id)
        )

    def _files(self, record: Record, hostname: str, attached: Attached) -> dict[str, bytes]:
        spec = record.spec.container_spec
        extra = etcfiles.extra_hosts(spec.hosts, attached.gateway)
        of_host = _read(self._resolv_conf)
        if attached.has_resolver:
            resolv = etcfiles.resolver_conf(of_host, spec.dns_config, RESOLVER_ADDRESS)
        else:
            in_host = not attached.netns_path
            resolv = etcfiles.resolv_conf(of_host, spec.dns_config, loopback=in_host)
        if attached.netns_path:
            names = (hostname, record.name, f"{record.name}.{record.task_id}")
            hosts = etcfiles.hosts(names, attached.own, extra)
        else:
            hosts = etcfiles.hosts_of_host(_read(HOSTS), extra)
        return {
            "hosts": hosts,
            "hostname": etcfiles.hostname_file(hostname),
            "resolv.conf": resolv,
        }


def _unheard(message: str) -> None:
    """What a running task waits for is no message of its state."""


def _networks(record: Record) -> list[NetworkId]:
    return [NetworkId(network.target) for network in record.spec.networks]


def _read(path: Path) -> str:
    """The content of a host's file; empty if it does not exist."""
    try:
        return path.read_text(errors="replace")
    except FileNotFoundError:
        return ""


def _credentials(record: Record, image: str) -> Credentials | None:
    """The service's login, if it is for the registry of this image."""
    login = record.login
    if login is None or parse_reference(image).registry != login.registry:
        return None
    return Credentials(username=login.username, password=login.password)


def _pulling(progress: PullProgress) -> str:
    if progress.phase is PullPhase.WAITING:
        return "waiting for other pulls"
    if progress.phase is PullPhase.CONNECTING:
        return "pulling: connecting to the registry"
    return f"pulling: {decimal_size(progress.bytes)} of {progress.blobs} blobs so far"


def _command(image: ImageConfig, spec: ContainerSpec) -> str:
    """The command line, if the image decides a part of it."""
    words = command_line(image, spec)
    if words == (*spec.command, *spec.args):
        return ""
    return clipped(shlex.join(words), DETAIL_LENGTH_MAX)


def _hostname(record: Record, own_name: str) -> str:
    container = record.spec.container_spec
    return os.uname().nodename if container.uts_mode == HOST else container.hostname or own_name


def _prepared(
    record: Record, image: Image, pid: int, attached: Attached, ports: tuple[PortConfig, ...]
) -> Prepared:
    container = record.spec.container_spec
    return Prepared(
        image_id=image.id,
        stop_signal=container.stop_signal or image.config.stop_signal or "SIGTERM",
        pid=pid,
        addresses=attached.addresses,
        ports=ports,
        healthcheck=image.config.healthcheck,
        command=_command(image.config, container),
    )


def _devices(container: ContainerSpec) -> tuple[tuple[DeviceNode, ...], cdi.Injection]:
    """The devices of the container, and what else those by CDI names add."""
    added = cdi.injected(container)
    return (*devices.of_container(container), *added.devices), added


def _accounts(image: ImageConfig, record: Record, layers: Sequence[str]) -> tuple[bytes, bytes]:
    """The image's passwd and group, read only if the spec or the image names a user or group."""
    spec = record.spec.container_spec
    if not (spec.user or image.user or spec.groups):
        return b"", b""
    passwd, group = (read_from_layers(layers, f"etc/{name}") for name in ("passwd", "group"))
    return passwd or b"", group or b""
