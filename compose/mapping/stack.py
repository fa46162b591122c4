"""A loaded model as a stack. PURE but for `Files`, which has the data of secrets and configs."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from compose.keys.fates import Ending, Kind, endings
from compose.mapping import (
    builds,
    container,
    dependencies,
    deploy,
    isolation,
    mounts,
    networks,
    payloads,
    ports,
    problems,
    resources,
)
from compose.mapping.mapped import Mapped, Options
from compose.mapping.scope import Scope, Service
from compose.model import Loaded
from compose.projects import Files
from compose.report import near
from compose.tree import Node
from pyswarm_core.errors import invalid
from pyswarm_core.specs import ContainerSpec, NetworkSpec, ServiceSpec, TaskSpec
from pyswarm_core.stacks import labels
from pyswarm_core.stacks.spec import StackSpec
from pyswarm_core.validation.text import name_problems
from pyswarm_core.volumes.volume import VolumeSpec

T = TypeVar("T")


def stack_of(loaded: Loaded, options: Options, files: Files) -> Mapped:
    """The stack of a model. Raises compose.report.Refused with every fault, or InvalidArgument for
    a flag. `files` are those of the load.
    """
    scope = Scope(loaded, options, files)
    _check_scales(scope)
    _endings(scope, loaded.tree)
    _check_name(scope, loaded.tree)
    scope.own_keys(loaded.tree, ())
    for section in ("networks", "secrets", "configs"):
        for key, node in scope.objects[section].items():
            scope.own_keys(node, (section, key))
    ports.check(scope)
    aliases = networks.further_aliases(scope)
    services = [_service(service, aliases[service.short]) for service in scope.services.values()]
    spec = StackSpec(
        name=scope.stack,
        services=_sorted(services, lambda one: one.name),
        networks=_sorted(_networks(scope), lambda one: one.name),
        volumes=_sorted(_volumes(scope), lambda one: one.name),
        secrets=_sorted(payloads.payloads(scope, "secrets"), lambda one: one.spec.name),
        configs=_sorted(payloads.payloads(scope, "configs"), lambda one: one.spec.name),
    )
    made = {name: builds.build(service) for name, service in scope.services.items()}
    scope.report.check()
    return Mapped(
        spec=spec,
        services={name: service.full for name, service in scope.services.items()},
        builds={name: one for name, one in made.items() if one is not None},
        pull_policies=_words(scope, "pull_policy"),
        images={name: builds.image_of(service) for name, service in scope.services.items()},
        unattached=tuple(
            name for name, one in scope.services.items() if one.value("attach") is False
        ),
        container_names=_words(scope, "container_name"),
        uploads=tuple(scope.uploads.values()),
        local_binds={
            name: tuple(service.local_binds)
            for name, service in scope.services.items()
            if service.local_binds
        },
        externals=scope.externals(),
        objects=scope.paths(),
        profiles=loaded.profiles,
        notices=(*loaded.notices, *scope.report.notices),
    )


def _sorted(found: Iterable[T], name: Callable[[T], str]) -> tuple[T, ...]:
    """By name, so that the order of keys in a file changes nothing."""
    return tuple(sorted(found, key=name))


def _words(scope: Scope, key: str) -> dict[str, str]:
    found = {name: service.value(key) for name, service in scope.services.items()}
    return {name: word for name, word in found.items() if word}


def _service(service: Service, aliases: dict[str, tuple[str, ...]]) -> ServiceSpec:
    _check_container_name(service)
    service.scope.own_keys(service.node, service.path)
    made = mounts.mounts(service)
    fields = {
        **container.container(service),
        **isolation.isolation(service),
        "mounts": tuple(made.mounts),
        "secrets": payloads.secrets(service),
        "configs": (*payloads.configs(service), *made.configs),
    }
    label = {labels.SERVICE: service.short}
    if (image := service.get("image")) is not None:
        label[labels.IMAGE] = image.value
    if (name := service.value("container_name")) is not None:
        label[labels.CONTAINER_NAME] = name
    spec = ServiceSpec(
        name=service.full,
        labels=service.scope.labels(service.get("deploy", "labels"), **label),
        mode=deploy.mode(service),
        task_template=TaskSpec(
            container_spec=ContainerSpec(image=builds.image_of(service), **fields),
            resources=resources.resources(service),
            restart_policy=deploy.restart_policy(service),
            placement=deploy.placement(service),
            networks=networks.attachments(service, aliases),
            log_driver=container.log_driver(service),
        ),
        endpoint_spec=ports.endpoint(service),
        update_config=deploy.changes(service, "update_config"),
        rollback_config=deploy.changes(service, "rollback_config"),
        depends_on=dependencies.dependencies(service),
    )
    problems.check_service(service, spec)
    return spec


def _networks(scope: Scope) -> Iterator[NetworkSpec]:
    by_name = {scope.named("networks", key): key for key in scope.objects["networks"]}
    for spec in networks.networks(scope):
        problems.check_network(scope, by_name[spec.name], spec)
        yield spec


def _volumes(scope: Scope) -> Iterator[VolumeSpec]:
    by_name = {scope.named("volumes", key): key for key in scope.objects["volumes"]}
    for spec in mounts.volumes(scope):
        if spec.name in by_name:
            problems.check_volume(scope, by_name[spec.name], spec)
        yield spec


def _check_scales(scope: Scope) -> None:
    for name in scope.options.scales:
        if name not in scope.services:
            hint = near(name, scope.services)
            raise invalid("--scale", name, f"there is no such service{hint}", "service")


def _check_name(scope: Scope, tree: Node) -> None:
    for problem in name_problems("name", scope.stack):
        scope.report.fault(tree.get("name"), ("name",), str(problem).removeprefix("name: "))


def _check_container_name(service: Service) -> None:
    name, scaled = service.get("container_name"), service.scope.options.scales.get(service.short)
    if name is not None and scaled is not None and scaled > 1:
        told = f"the name resolves to all {scaled} replicas; exec and logs take the first"
        service.notice(name, ("container_name",), told)


def _endings(scope: Scope, tree: Node) -> None:
    """Report the keys that a fleet refuses, and those that have no effect on it."""
    for one in endings(tree):
        if _is_of_unused_build(scope, one):
            continue
        if one.fate.kind is Kind.REFUSED:
            scope.report.fault(one.node, one.path, f"a fleet does not have it: {one.fate.text}")
        else:
            scope.report.notice(one.node, one.path, one.fate.text)


def _is_of_unused_build(scope: Scope, ending: Ending) -> bool:
    return not scope.options.builds and ending.path[2:3] == ("build",)
