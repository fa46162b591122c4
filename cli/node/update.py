"""`pyswarm node update`."""

from typing import Any

import click
from msgspec.structs import replace

from cli import flags, session
from cli.lazy import Verb
from cli.node.self_ import node_of
from pyswarm_core.docker import entries
from pyswarm_core.errors import Conflict
from pyswarm_core.specs import NodeSpec
from pyswarm_core.states import Availability
from pyswarm_core.validation import node_problems, require


@click.command(
    cls=Verb,
    help="Update a node\n\n"
    "A node that is drained keeps its volumes, unless --move-volumes is given as well.\n\n"
    "Example: pyswarm node update --availability drain host2",
)
@click.option(
    "--availability",
    type=flags.AVAILABILITY,
    help="Availability of the node: active, pause (no new tasks) or drain (no tasks)",
)
@click.option(
    "--move-volumes",
    is_flag=True,
    help="With --availability drain: move the node's volumes to"
    " nodes where the tasks that mount them fit",
)
@click.option("--role", type=flags.Choice(["worker", "manager"]), help="Role of the node")
@click.option("--label-add", multiple=True, metavar="KEY=VALUE", help="Add or update a node label")
@click.option("--label-rm", multiple=True, metavar="KEY", help="Remove a node label if it exists")
@click.argument("node")
def update(*, node: str, **given: Any) -> None:
    if not any(given.values()):
        raise click.UsageError("nothing to update: specify at least one flag")
    entries.labels("--label-add", given["label_add"])
    client = session.connect()
    view = node_of(client, node)
    try:
        warnings = client.update_node(view.node, changed(view.node.spec, given))
    except Conflict:
        view = client.node(view.node.id)
        warnings = client.update_node(view.node, changed(view.node.spec, given))
    click.echo(node)
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)


def changed(spec: NodeSpec, given: dict[str, Any]) -> NodeSpec:
    """The spec changed by the flags. Raises InvalidArgument."""
    missing = [key for key in given["label_rm"] if key not in spec.labels]
    if missing:
        click.echo(f"warning: the node has no label {', '.join(missing)}", err=True)
    labels = {key: value for key, value in spec.labels.items() if key not in given["label_rm"]}
    labels |= entries.labels("--label-add", given["label_add"])
    availability = Availability(given["availability"] or spec.availability)
    was_drained = spec.move_volumes and availability is Availability.DRAIN
    spec = replace(
        spec,
        labels=labels,
        role=given["role"] or spec.role,
        availability=availability,
        move_volumes=given["move_volumes"] or was_drained,
    )
    require(node_problems(spec))
    return spec
