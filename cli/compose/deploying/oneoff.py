"""The container of `compose run`: a service's spec with what the flags change. PURE."""

import shlex
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from cli.compose.names import IMAGE_LABEL, ONEOFF_LABEL
from pyswarm_core.clock import Instant
from pyswarm_core.docker import entries, publishing
from pyswarm_core.docker.mounts import mounts
from pyswarm_core.errors import invalid
from pyswarm_core.specs import (
    ContainerMode,
    ContainerSpec,
    EndpointSpec,
    HealthConfig,
    NetworkAttachment,
    RestartCondition,
    RestartPolicy,
    ServiceSpec,
    UpdateConfig,
)

NO_CHECK = HealthConfig(test=("NONE",))


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What the flags say about the container."""

    name: str
    command: tuple[str, ...] = ()
    entrypoint: str | None = None
    env: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    user: str = ""
    workdir: str = ""
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    publish: tuple[str, ...] = ()
    service_ports: bool = False
    use_aliases: bool = False
    auto_remove: bool = False
    terminal: bool = False
    interactive: bool = True
    attach_by: Instant = Instant(0)
    """When it starts without a client that is attached; 0: at once."""


def container(spec: ServiceSpec, asked: Asked) -> ServiceSpec:
    """The spec of the container. Raises InvalidArgument."""
    template = spec.task_template
    added = entries.labels("--label", asked.labels)
    own = {ONEOFF_LABEL: "True", **added}
    kept = {key: value for key, value in spec.labels.items() if key != IMAGE_LABEL}
    ports = publishing.ports(asked.publish)
    if asked.service_ports:
        ports = (*spec.endpoint_spec.ports, *ports)
    return replace(
        spec,
        name=asked.name,
        labels={**kept, **template.container_spec.labels, **own},
        mode=ContainerMode(auto_remove=asked.auto_remove),
        task_template=replace(
            template,
            container_spec=_container(template.container_spec, asked, own),
            restart_policy=RestartPolicy(condition=RestartCondition.NONE),
            placement=replace(template.placement, max_replicas=0),
            networks=tuple(_joined(one, asked) for one in template.networks),
            force_update=0,
        ),
        endpoint_spec=EndpointSpec(ports=ports),
        update_config=UpdateConfig(),
        rollback_config=UpdateConfig(),
        stopped=False,
        depends_on=(),
    )


def _container(spec: ContainerSpec, asked: Asked, labels: Mapping[str, str]) -> ContainerSpec:
    command, args = spec.command, spec.args
    if asked.entrypoint is not None:
        command, args = _words("--entrypoint", asked.entrypoint), ()
    given: dict[str, Any] = {
        "user": asked.user or spec.user,
        "dir": asked.workdir or spec.dir,
        "capability_add": (*spec.capability_add, *asked.cap_add),
        "capability_drop": (*spec.capability_drop, *asked.cap_drop),
    }
    more = mounts((), asked.volumes)
    targets = {mount.target for mount in more}
    return replace(
        spec,
        **given,
        command=command,
        args=asked.command or args,
        env=(*spec.env, *asked.env),
        labels={**spec.labels, **labels},
        tty=asked.terminal,
        open_stdin=asked.interactive,
        stdin_once=asked.interactive and asked.attach_by > 0,
        attach_by=asked.attach_by,
        healthcheck=NO_CHECK,
        readiness=HealthConfig(),
        mounts=(*(one for one in spec.mounts if one.target not in targets), *more),
    )


def _joined(one: NetworkAttachment, asked: Asked) -> NetworkAttachment:
    """Without --use-aliases the names of the service are those of its replicas alone; its address
    always is.
    """
    return replace(one, ip="", aliases=one.aliases if asked.use_aliases else ())


def _words(flag: str, text: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text))
    except ValueError:
        raise invalid(flag, text, "expected words, with each quote closed") from None
