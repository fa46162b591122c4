"""`pyswarm service update`."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click
from msgspec.structs import replace

from cli import converge, flags, session
from cli.converge import Watched
from cli.lazy import Verb
from cli.service import digests, edits, logins, options
from cli.service.change import changed
from cli.service.options import many
from pyswarm_core.docker import entries
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.specs import PREDEFINED_NETWORKS, NetworkAttachment, ServiceSpec

if TYPE_CHECKING:
    from cli.client import Client


@click.command(
    cls=Verb,
    help="Change a service and wait until it runs so.\n\n"
    "Example: pyswarm service update --replicas 5 --env-add LEVEL=debug web",
)
@options.template
@click.option("--image", metavar="IMAGE", help="Another image")
@click.option("--args", metavar="COMMAND", help="Other arguments of the image's command")
@click.option("--force", is_flag=True, help="Replace all tasks even if nothing changed")
@many("--constraint-add", metavar="KEY==VALUE", help="Add placement constraints")
@many("--constraint-rm", metavar="KEY==VALUE", help="Remove placement constraints")
@many("--placement-pref-add", metavar="spread=LABEL", help="Add placement preferences")
@many("--placement-pref-rm", metavar="spread=LABEL", help="Remove placement preferences")
@many("--env-add", metavar="NAME=VALUE", help="Add or change environment")
@many("--env-rm", metavar="NAME", help="Remove environment")
@many("--label-add", metavar="KEY=VALUE", help="Add or change labels of the service")
@many("--label-rm", metavar="KEY", help="Remove labels of the service")
@many("--container-label-add", metavar="KEY=VALUE", help="Add or change labels of containers")
@many("--container-label-rm", metavar="KEY", help="Remove labels of containers")
@many("--network-add", metavar="NETWORK", help="Join NAME, or name=NAME,alias=ALIAS,ip=ADDRESS")
@many("--network-rm", metavar="NETWORK", help="Leave a network")
@many("--publish-add", metavar="PORT", help="Publish a port, or change what is published there")
@many("--publish-rm", metavar="TARGET", help="No longer publish a target port")
@many("--dns-add", metavar="IP", help="Add name servers")
@many("--dns-rm", metavar="IP", help="Remove name servers")
@many("--dns-search-add", metavar="DOMAIN", help="Add domains in which names are looked up")
@many("--dns-search-rm", metavar="DOMAIN", help="Remove domains in which names are looked up")
@many("--dns-option-add", metavar="OPTION", help="Add options of the resolver")
@many("--dns-option-rm", metavar="OPTION", help="Remove options of the resolver")
@many("--host-add", metavar="NAME:IP", help="Add names to /etc/hosts")
@many("--host-rm", metavar="NAME[:IP]", help="Remove names from /etc/hosts")
@many("--group-add", metavar="GROUP", help="Add further groups of the user")
@many("--group-rm", metavar="GROUP", help="Remove further groups of the user")
@many("--cap-add", metavar="CAPABILITY", help="Add Linux capabilities")
@many("--cap-drop", metavar="CAPABILITY", help="Drop Linux capabilities")
@many("--sysctl-add", metavar="KEY=VALUE", help="Add or change kernel settings")
@many("--sysctl-rm", metavar="KEY", help="Remove kernel settings")
@many("--ulimit-add", metavar="NAME=SOFT[:HARD]", help="Add or change resource limits")
@many("--ulimit-rm", metavar="NAME", help="Remove resource limits")
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
    if not with_registry_auth and not any(_was_given(value) for value in given.values()):
        raise click.UsageError("nothing to change: give at least one flag")
    added = tuple(map(entries.network, given["network_add"]))
    client = session.connect()

    def change(spec: ServiceSpec) -> ServiceSpec:
        return _on_networks(client, edits.updated(spec, given, os.environ), added, given)

    asked = given["image"] is not None and not no_resolve_image
    login_of = logins.asked_for(with_registry_auth)
    found = changed(client, service, change, login_of, query_registry=asked, quiet=quiet)
    click.echo(service)
    if not detach:
        converge.until_converged(client, [Watched(found.id, found.spec.name)], quiet=quiet)


def _was_given(value: object) -> bool:
    return value is not None and value is not False and value != ()


def _on_networks(
    client: "Client",
    spec: ServiceSpec,
    added: tuple[NetworkAttachment, ...],
    given: Mapping[str, Any],
) -> ServiceSpec:
    """Specs hold ids of networks, users say names: only the controller knows both."""
    joined = [replace(network, target=_target(client, network.target)) for network in added]
    left = [_target(client, ref) for ref in given["network_rm"]]
    targets = {attachment.target for attachment in spec.task_template.networks}
    for ref, network_id in zip(given["network_rm"], left, strict=True):
        if network_id not in targets:
            raise InvalidArgument(f"--network-rm {ref!r}: the service is not on that network")
    return edits.with_networks(spec, joined, left)


def _target(client: "Client", ref: str) -> str:
    return ref if ref in PREDEFINED_NETWORKS else client.network(ref).id
