"""Binds of `run` and `create` whose source is on the host on which the command runs. SHELL."""

import os
from collections.abc import Sequence
from pathlib import Path

import click

from cli.client import Client
from cli.container.spec import sources
from cli.container.spec.sources import Here, Local
from cli.service.spec.template import put
from pyswarm_core.aio import thisnode
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.specs import ServiceSpec
from pyswarm_core.volumes.mounts import MountType, is_relative

_MOUNTS = "task_template.container_spec.mounts"
_CONSTRAINTS = "task_template.placement.constraints"


def resolved(spec: ServiceSpec) -> tuple[ServiceSpec, tuple[Local, ...]]:
    """The spec with absolute sources, and those that mean this host. Raises InvalidArgument."""
    mounts = spec.task_template.container_spec.mounts
    if not any(mount.type is MountType.BIND for mount in mounts):
        return spec, ()
    relative = any(is_relative(mount.source) for mount in mounts)
    if not (folders := _folders()):
        if relative:
            raise InvalidArgument("the working directory does not exist: use an absolute source")
        return spec, ()
    absolute = put(spec, _MOUNTS, sources.resolved(mounts, folders[0]))
    return absolute, sources.local(mounts, folders)


def pinned(client: Client, spec: ServiceSpec, local: Sequence[Local]) -> ServiceSpec:
    """The spec with a constraint of this host's node if sources mean this host, which is printed.

    Raises InvalidArgument if this host is no node of the fleet, or another one is demanded.
    """
    if not local:
        return spec
    found = here(client)
    constraints, why = sources.pinned(local, spec.task_template.placement.constraints, found)
    if not why or isinstance(found, str):
        return spec
    for notice in sources.notices(why, found):
        click.echo(notice, err=True)
    return put(spec, _CONSTRAINTS, constraints)


def _folders() -> list[str]:
    """The names of the working directory: the real one, and the one with the links that the shell
    went through, which `$(pwd)` prints. Empty if it was removed.
    """
    try:
        real = str(Path.cwd())
    except OSError:
        return []
    shell = os.environ.get("PWD", "")
    if shell == real or not shell.startswith("/") or os.path.normpath(shell) != shell:
        return [real]
    try:
        return [real, shell] if Path(shell).samefile(real) else [real]
    except (OSError, ValueError):
        return [real]


def here(client: Client) -> Here | str:
    """This host; a reason if it is no node of the fleet."""
    if (node := thisnode.read()) is None:
        return "this host is no node"
    if node.cluster_id != client.info().cluster.id:
        return "this host is a node of another fleet"
    return Here(node.node_id, node.hostname)
