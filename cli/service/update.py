"""`pyswarm service update`."""

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click
from msgspec.structs import replace

from cli import converge, flags, session
from cli.converge import Watched
from cli.lazy import Verb
from cli.service.change import changed, rolled_back, tell_stopped
from cli.service.spec import (
    digests,
    edits,
    log_options,
    logins,
    mount_options,
    options,
    reference_options,
    resource_options,
    security_options,
)
from cli.service.spec.options import many
from cli.service.spec.template import put, replicas, typed, values
from pyswarm_core.docker import entries, mounts, networking
from pyswarm_core.errors import InvalidArgument, as_flag, invalid
from pyswarm_core.objects import Service
from pyswarm_core.specs import NetworkAttachment, RegistryLogin, ServiceSpec

if TYPE_CHECKING:
    from cli.client import Client


@click.command(
    cls=Verb,
    help="Update a service and wait for it to converge\n\n"
    "Without flags it resumes a paused update.\n\n"
    "Example: pyswarm service update --replicas 5 --env-add LEVEL=debug web",
)
@options.template
@click.option("--image", metavar="IMAGE", help="Service image tag")
@click.option("--args", metavar="COMMAND", help="Service command args")
@click.option("--force", is_flag=True, help="Update the service even if no field changed")
@many("--constraint-add", metavar="KEY==VALUE", help="Add a placement constraint")
@many("--constraint-rm", metavar="KEY==VALUE", help="Remove a constraint")
@many("--placement-pref-add", metavar="spread=LABEL", help="Add a placement preference")
@many("--placement-pref-rm", metavar="spread=LABEL", help="Remove a placement preference")
@many("--env-add", metavar="NAME=VALUE", help="Add or update an environment variable")
@many("--env-rm", metavar="NAME", help="Remove an environment variable")
@many("--label-add", metavar="KEY=VALUE", help="Add or update a service label")
@many("--label-rm", metavar="KEY", help="Remove a label by its key")
@many("--container-label-add", metavar="KEY=VALUE", help="Add or update a container label")
@many("--container-label-rm", metavar="KEY", help="Remove a container label by its key")
@many(
    "--network-add",
    metavar="NETWORK",
    help="Add a network: NAME or name=NAME,alias=ALIAS,ip=ADDRESS",
)
@many("--network-rm", metavar="NETWORK", help="Remove a network")
@many("--publish-add", metavar="PORT", help="Add or update a published port")
@many("--publish-rm", metavar="TARGET", help="Remove a published port by its target port")
@many("--dns-add", metavar="IP", help="Add or update a custom DNS server")
@many("--dns-rm", metavar="IP", help="Remove a custom DNS server")
@many("--dns-search-add", metavar="DOMAIN", help="Add or update a custom DNS search domain")
@many("--dns-search-rm", metavar="DOMAIN", help="Remove a DNS search domain")
@many("--dns-option-add", metavar="OPTION", help="Add or update a DNS option")
@many("--dns-option-rm", metavar="OPTION", help="Remove a DNS option")
@many("--host-add", metavar="NAME:IP", help="Add a custom host-to-IP mapping")
@many("--host-rm", metavar="NAME[:IP]", help="Remove a custom host-to-IP mapping")
@many(
    "--group-add",
    metavar="GROUP",
    help="Add an additional supplementary user group to the container",
)
@many(
    "--group-rm",
    metavar="GROUP",
    help="Remove a previously added supplementary user group from the container",
)
@many("--cap-add", metavar="CAPABILITY", help="Add Linux capabilities")
@many("--cap-drop", metavar="CAPABILITY", help="Drop Linux capabilities")
@many("--sysctl-add", metavar="KEY=VALUE", help="Add or update a Sysctl option")
@many("--sysctl-rm", metavar="KEY", help="Remove a Sysctl option")
@many("--ulimit-add", metavar="NAME=SOFT[:HARD]", help="Add or update a ulimit option")
@many("--ulimit-rm", metavar="NAME", help="Remove a ulimit option")
@security_options.changes
@mount_options.changes
@reference_options.changes
@resource_options.list_changes
@click.option("--rollback", is_flag=True, help="Rollback to previous specification")
@options.with_registry_auth
@digests.no_resolve_image
@flags.detach
@flags.quiet_progress
@click.argument("service")
def update(
    *,
    detach: bool,
    quiet: bool,
    with_registry_auth: bool,
    no_resolve_image: bool,
    service: str,
    **given: Any,
) -> None:
    is_rollback = given.pop("rollback")
    if is_rollback:
        switches = {"with_registry_auth": with_registry_auth, "no_resolve_image": no_resolve_image}
        _require_none({**given, **switches})
    # What no spec may have is refused before the service is read.
    values(given)
    replicas(given)
    reference_options.tell(given["secret_env_add"])
    client = session.connect()
    if is_rollback:
        found = rolled_back(client, service)
    else:
        found = _updated(
            client,
            service,
            given,
            login_of=logins.requested(with_registry_auth),
            query_registry=_names_images(given) and not no_resolve_image,
            quiet=quiet,
        )
    click.echo(service)
    tell_stopped(found)
    if not detach:
        converge.until_converged(client, [Watched.of(found)], quiet=quiet)


def _names_images(given: Mapping[str, Any]) -> bool:
    """Whether the service or a mount gets another image."""
    if given["image"] is not None:
        return True
    return any(mounts.mount(text, "--mount-add").image for text in given["mount_add"])


def _require_none(given: Mapping[str, object]) -> None:
    """Raises InvalidArgument for the first flag that was given beside --rollback."""
    for name, value in given.items():
        if value is not None and value is not False and value != ():
            raise InvalidArgument(
                f"--rollback conflicts with {as_flag(name)}: expected one of them"
            )


def _updated(
    client: "Client",
    ref: str,
    given: Mapping[str, Any],
    *,
    login_of: Callable[[ServiceSpec], RegistryLogin | None],
    query_registry: bool,
    quiet: bool,
) -> Service:
    """The service after the flags' changes; without flags it resumes a paused update, as in Docker.

    Raises InvalidArgument, NotFound and Conflict.
    """
    added = tuple(map(entries.network, given["network_add"]))

    isolate, mount = security_options.changed(given), mount_options.changed(given)
    refer = reference_options.changed(given)

    def change(spec: ServiceSpec) -> ServiceSpec:
        spec = edits.updated(spec, given, os.environ)
        container = refer(mount(isolate(spec.task_template.container_spec)))
        spec = put(spec, "task_template.container_spec", container)
        spec = _on_networks(client, spec, added, given)
        spec = log_options.with_log_driver(spec, given)
        return resource_options.with_lists(spec, given)

    return changed(
        client,
        ref,
        change,
        login_of,
        typed=typed(given),
        query_registry=query_registry,
        quiet=quiet,
    )


def _on_networks(
    client: "Client",
    spec: ServiceSpec,
    added: tuple[NetworkAttachment, ...],
    given: Mapping[str, Any],
) -> ServiceSpec:
    """The spec with networks added and removed; their names are replaced by ids."""
    find, target = client.network, networking.target
    joined = [replace(network, target=target(network.target, find)) for network in added]
    left = [target(ref, find) for ref in given["network_rm"]]
    targets = {attachment.target for attachment in spec.task_template.networks}
    for ref, network_id in zip(given["network_rm"], left, strict=True):
        if network_id not in targets:
            raise invalid("--network-rm", ref, "expected a network of the service")
    return edits.with_networks(spec, joined, left)
