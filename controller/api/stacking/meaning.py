"""What a spec means, whatever the order in which its file writes it. PURE.

An apply touches only services whose meaning changed. What the file does not say stays as users
have set it: restarts, versions that running containers got, digests of images that are written as
before.
"""

from collections.abc import Iterable
from typing import TypeVar

from msgspec.structs import replace

from pyswarm_core.payloads.references import Reference
from pyswarm_core.specs import ContainerSpec, ReplicatedMode, ServiceSpec, TaskSpec
from pyswarm_core.stacks.spec import StackSpec
from pyswarm_core.stacks.stack import StackContent

R = TypeVar("R", bound=Reference)
IMAGE_LABEL = "com.docker.stack.image"
"""A service's image as its file writes it."""


def meaning(spec: ServiceSpec) -> ServiceSpec:
    """The spec with its lists in one order, where order has no meaning."""
    template, ports = spec.task_template, spec.endpoint_spec.ports
    template = replace(
        template,
        container_spec=_container(template.container_spec),
        networks=tuple(
            replace(one, aliases=tuple(sorted(one.aliases)))
            for one in sorted(template.networks, key=lambda one: one.target)
        ),
        placement=replace(
            template.placement, constraints=tuple(sorted(template.placement.constraints))
        ),
    )
    ports = tuple(sorted(ports, key=lambda one: (one.target_port, one.published_port, repr(one))))
    return replace(
        spec,
        task_template=template,
        endpoint_spec=replace(spec.endpoint_spec, ports=ports),
        depends_on=tuple(sorted(spec.depends_on, key=lambda one: one.service)),
    )


def _container(spec: ContainerSpec) -> ContainerSpec:
    env = {one.partition("=")[0]: one for one in spec.env}  # the last one wins
    return replace(
        spec,
        env=tuple(env[name] for name in sorted(env)),
        capability_add=tuple(sorted(spec.capability_add)),
        capability_drop=tuple(sorted(spec.capability_drop)),
        ulimits=tuple(sorted(spec.ulimits, key=lambda one: one.name)),
        groups=tuple(sorted(spec.groups)),
        devices=tuple(sorted(spec.devices, key=lambda one: one.path_on_host)),
        mounts=tuple(sorted(spec.mounts, key=lambda one: one.target)),
        secrets=tuple(sorted(spec.secrets, key=_place)),
        configs=tuple(sorted(spec.configs, key=_place)),
    )


def _place(reference: Reference) -> tuple[str, str]:
    return reference.variable, reference.path


def kept(new: ServiceSpec, old: ServiceSpec) -> ServiceSpec:
    """The new spec, with what its file does not say as it is now. References of both have ids."""
    container, before = new.task_template.container_spec, old.task_template.container_spec
    container = replace(
        container,
        secrets=tuple(_versions(container.secrets, before.secrets)),
        configs=tuple(_versions(container.configs, before.configs)),
    )
    again = new.task_template.force_update or old.task_template.force_update
    template = replace(new.task_template, container_spec=container, force_update=again)
    return replace(new, task_template=template)


def _versions(new: Iterable[R], old: Iterable[R]) -> Iterable[R]:
    """References to the version that tasks have stay as they are, as after `--reload`."""
    known = {(_place(one), one.id): one for one in old}
    for one in new:
        before = known.get((_place(one), one.id))
        if before is not None and replace(before, made_with="", reload="") == one:
            yield before
        else:
            yield one


def with_old_image(new: ServiceSpec, old: ServiceSpec) -> ServiceSpec:
    """The new spec with the digest that the service has, if the file writes the image as before and
    no other digest is known.
    """
    image, before = (one.task_template.container_spec.image for one in (new, old))
    if "@" in image or written_image(new) != written_image(old):
        return new
    return with_image(new, before)


def written_image(spec: ServiceSpec) -> str:
    """The image as the file writes it."""
    image = spec.task_template.container_spec.image
    return spec.labels.get(IMAGE_LABEL, image.partition("@")[0])


def with_image(spec: ServiceSpec, image: str) -> ServiceSpec:
    """The spec with another image."""
    container = replace(spec.task_template.container_spec, image=image)
    return replace(spec, task_template=replace(spec.task_template, container_spec=container))


def with_force(spec: ServiceSpec, number: int) -> ServiceSpec:
    """The spec with another number of forced updates."""
    template: TaskSpec = replace(spec.task_template, force_update=number)
    return replace(spec, task_template=template)


def numbered(spec: ServiceSpec, resolved: ServiceSpec) -> ServiceSpec:
    """The spec with the numbers of the versions that its references were resolved to, and without
    ids, as a stack keeps it.
    """
    known = resolved.task_template.container_spec
    secrets = {_place(one): one.number for one in known.secrets}
    configs = {_place(one): one.number for one in known.configs}
    container = spec.task_template.container_spec
    if not container.references:
        return spec
    container = replace(
        container,
        secrets=tuple(_at(one, secrets.get(_place(one), 0)) for one in container.secrets),
        configs=tuple(_at(one, configs.get(_place(one), 0)) for one in container.configs),
    )
    return replace(spec, task_template=replace(spec.task_template, container_spec=container))


def _at(reference: R, number: int) -> R:
    return reference.at("", number or reference.number)


def replicas_of(spec: ServiceSpec | None) -> int | None:
    """The number of replicas; None: the service has none."""
    if spec is None or not isinstance(spec.mode, ReplicatedMode):
        return None
    return spec.mode.replicas


def spec_of(content: StackContent) -> StackSpec:
    """What is applied to return to a version; its secrets and configs are there already."""
    return StackSpec(
        name=content.name,
        services=content.services,
        networks=content.networks,
        volumes=content.volumes,
    )
