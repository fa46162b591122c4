"""`pyswarm service create`."""

import os
from collections.abc import Mapping
from typing import Any

import click
from msgspec.structs import replace

from cli import converge, flags, session
from cli.converge import Watched
from cli.lazy import Verb
from cli.service.spec import (
    digests,
    logins,
    mount_options,
    options,
    reference_options,
    resource_options,
    security_options,
)
from cli.service.spec.checks import with_checks
from cli.service.spec.environment import environment
from cli.service.spec.log_options import with_log_driver
from cli.service.spec.options import many
from cli.service.spec.template import replicas, typed, with_replicas, with_single
from pyswarm_core.docker import entries, publishing
from pyswarm_core.specs import (
    SERVICE_MODES,
    ContainerSpec,
    DnsConfig,
    EndpointSpec,
    Placement,
    ServiceSpec,
    TaskSpec,
)
from pyswarm_core.validation import as_typed, require, service_problems


@click.command(
    cls=Verb,
    context_settings={"allow_interspersed_args": False},
    help="Create a new service and wait for it to converge\n\n"
    "Example: pyswarm service create --name web --replicas 3 --network app web:1",
)
@click.option("--name", default="", metavar="NAME", help="Service name")
@click.option(
    "--mode", type=flags.Choice(["replicated", "global"]), default="replicated", show_default=True,
    help="Service mode",
)  # fmt: skip
@options.template
@many("--constraint", metavar="KEY==VALUE", help="Placement constraints")
@many("--placement-pref", metavar="spread=LABEL", help="Add a placement preference")
@many("-e", "--env", metavar="NAME=VALUE", help="Set environment variables")
@many("--env-file", metavar="FILE", help="Read in a file of environment variables")
@many("-l", "--label", metavar="KEY=VALUE", help="Service labels")
@many("--container-label", metavar="KEY=VALUE", help="Container labels")
@many(
    "--network",
    metavar="NETWORK",
    help="Network attachments: NAME or name=NAME,alias=ALIAS,ip=ADDRESS",
)
@many(
    "-p",
    "--publish",
    metavar="PORT",
    help="Publish a port as a node port: [PUBLISHED:]TARGET[/PROTOCOL], or target=,…",
)
@many("--dns", metavar="IP", help="Set custom DNS servers")
@many("--dns-search", metavar="DOMAIN", help="Set custom DNS search domains")
@many("--dns-option", metavar="OPTION", help="Set DNS options, such as ndots:2")
@many("--host", metavar="NAME:IP", help="Set one or more custom host-to-IP mappings")
@many(
    "--group",
    "--group-add",
    metavar="GROUP",
    help="Set one or more supplementary user groups for the container",
)
@many("--cap-add", metavar="CAPABILITY", help="Add Linux capabilities")
@many("--cap-drop", metavar="CAPABILITY", help="Drop Linux capabilities")
@many("--sysctl", metavar="KEY=VALUE", help="Sysctl options")
@many("--ulimit", metavar="NAME=SOFT[:HARD]", help="Ulimit options")
@security_options.lists
@mount_options.lists
@reference_options.lists
@resource_options.lists
@options.with_registry_auth
@digests.no_resolve_image
@flags.detach
@flags.quiet_progress
@click.argument("image")
@click.argument("args", nargs=-1, type=click.UNPROCESSED, metavar="[COMMAND] [ARG...]")
def create(
    *, detach: bool, quiet: bool, with_registry_auth: bool, no_resolve_image: bool, **given: Any
) -> None:
    spec = spec_of(given, os.environ)
    named = spec if spec.name else replace(spec, name="chosen-by-the-controller")
    require(as_typed(service_problems(named), typed(given)))
    mount_options.tell(given["volume"])
    reference_options.tell(given["secret_env"])
    login = logins.requested(with_registry_auth)(spec)
    client = session.connect()
    query = not no_resolve_image
    with digests.lookup(spec, announced=query and not quiet):
        service, warnings = client.create_service(spec, login, query_registry=query)
    digests.warn(warnings)
    click.echo(service.id)
    if not detach:
        converge.until_converged(client, [Watched.of(service)], quiet=quiet)


def spec_of(given: Mapping[str, Any], own: Mapping[str, str]) -> ServiceSpec:
    """The spec of the flags; `own` is the environment. Raises InvalidArgument."""
    spec = ServiceSpec(
        name=given["name"],
        labels=entries.labels("--label", given["label"]),
        mode=SERVICE_MODES[given["mode"]](),
        task_template=TaskSpec(
            container_spec=_container(given, own),
            placement=Placement(
                constraints=given["constraint"],
                preferences=entries.preferences(given["placement_pref"]),
            ),
            networks=tuple(map(entries.network, given["network"])),
        ),
        endpoint_spec=EndpointSpec(ports=publishing.ports(given["publish"])),
    )
    spec = with_log_driver(with_checks(with_single(spec, given), given), given)
    return resource_options.with_lists(with_replicas(spec, replicas(given)), given)


def _container(given: Mapping[str, Any], own: Mapping[str, str]) -> ContainerSpec:
    container = ContainerSpec(
        image=given["image"],
        args=given["args"],
        env=environment(given["env"], given["env_file"], own),
        labels=entries.labels("--container-label", given["container_label"]),
        groups=given["group"],
        capability_add=given["cap_add"],
        capability_drop=given["cap_drop"],
        sysctls=entries.labels("--sysctl", given["sysctl"]),
        ulimits=tuple(map(entries.ulimit, given["ulimit"])),
        hosts=tuple(map(entries.host, given["host"])),
        dns_config=DnsConfig(
            nameservers=given["dns"], search=given["dns_search"], options=given["dns_option"]
        ),
    )
    container = mount_options.with_lists(security_options.with_lists(container, given), given)
    return reference_options.with_lists(container, given)
