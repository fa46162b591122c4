"""`pyswarm node ls`."""

import click

from cli import flags, session
from cli.lazy import Verb
from cli.render import listing
from cli.render.listing import Layout, Row
from cli.render.output import echo_lines
from pyswarm_core.docker.objects import manager_status
from pyswarm_core.docker.units import format_cpus, human_size
from pyswarm_core.objects import NodeStatus
from pyswarm_core.views import NodeView

LAYOUT = Layout(
    headings={
        "ID": "ID",
        "Hostname": "HOSTNAME",
        "Status": "STATUS",
        "Availability": "AVAILABILITY",
        "ManagerStatus": "MANAGER STATUS",
        "EngineVersion": "ENGINE VERSION",
        "Self": "SELF",
        "Address": "ADDRESS",
        "Tasks": "TASKS",
        "CPUs": "CPUS",
        "Memory": "MEMORY",
        "ReservedCPUs": "RESERVED CPUS",
        "ReservedMemory": "RESERVED MEMORY",
    },
    columns=("ID", "Hostname", "Status", "Availability", "ManagerStatus", "EngineVersion"),
)


@click.command(
    name="ls",
    cls=Verb,
    help="List nodes in the fleet\n\n"
    "Example: pyswarm node ls --format 'table {{.Hostname}}\\t{{.Tasks}}\\t{{.ReservedMemory}}'",
)
@flags.quiet_ids
@flags.filter_
@flags.format_
def ls_(*, quiet: bool, filters: tuple[str, ...], form: str) -> None:
    found = session.connect().nodes(filters)
    mark = not quiet and form in ("", "table")
    echo_lines(listing.show(LAYOUT, [row(view, mark=mark) for view in found], form, quiet=quiet))


def _status(status: NodeStatus) -> str:
    count = len(status.faults)
    notes = [f"{count} fault{'s' if count > 1 else ''}"] if count else []
    notes += ["image disk full"] if status.image_disk.reason else []
    return status.state.capitalize() + (f" ({', '.join(notes)})" if notes else "")


def engine_version(view: NodeView) -> str:
    """The agent's version, and its protocol if that is not the controller's."""
    description = view.node.description
    other = f" (protocol {description.spoken})" if view.other_protocol else ""
    return f"{description.engine_version}{other}"


def row(view: NodeView, *, mark: bool = False) -> Row:
    """A row of the list; `mark` appends Docker's star to the id of the controller's node."""
    node = view.node
    resources = node.description.resources
    star = (" *" if view.leader else "  ") if mark else ""
    return {
        "ID": f"{node.id}{star}",
        "Hostname": node.description.hostname,
        "Status": _status(node.status),
        "Availability": node.spec.availability.capitalize(),
        "ManagerStatus": manager_status(view),
        "EngineVersion": engine_version(view),
        "Self": view.leader,
        "Address": node.status.addr,
        "Tasks": view.tasks,
        "CPUs": format_cpus(resources.nano_cpus),
        "Memory": human_size(resources.memory_bytes),
        "ReservedCPUs": format_cpus(view.reserved.nano_cpus),
        "ReservedMemory": human_size(view.reserved.memory_bytes),
    }
