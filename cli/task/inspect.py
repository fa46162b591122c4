"""`pyswarm task inspect`."""

from typing import Any

import click

from cli import flags, inspection, session
from cli.lazy import Verb
from pyswarm_core.docker import documents
from pyswarm_core.docker.units import format_time
from pyswarm_core.errors import NotFound
from pyswarm_core.views import TaskView


@click.command(
    cls=Verb,
    help="Display detailed information on one or more tasks\n\n"
    "Example: pyswarm task inspect web.1 --format '{{.Status.State}}'",
)
@flags.inspect_format
@click.argument("tasks", nargs=-1, required=True, metavar="TASK...")
def inspect(*, form: str, tasks: tuple[str, ...]) -> None:
    client = session.connect()
    networks = inspection.Networks(client)

    def read(ref: str) -> dict[str, Any]:
        found = client.tasks(tasks=(ref,))
        if not found:
            raise NotFound(f"no such task: {ref!r}")
        return document(found[0], networks)

    inspection.inspect_all(tasks, form, read)


def document(view: TaskView, networks: inspection.Networks) -> dict[str, Any]:
    """The task in the shape of Docker's API."""
    task, detail = view.task, view.task.detail
    return {
        "ID": task.id,
        "Version": {"Index": task.spec_version},
        "CreatedAt": format_time(task.created_at),
        "Name": view.name,
        "Spec": documents.document(view.spec) if view.spec else {},
        "ServiceID": task.service_id,
        "ServiceName": view.service_name,
        "Slot": task.slot,
        "NodeID": task.node_id,
        "NodeName": view.node_name,
        "Status": {
            "Timestamp": format_time(task.status_at or task.created_at),
            "State": task.state.word,
            "Message": detail.message,
            "Err": detail.error,
            "OOM": detail.oom,
            "ContainerStatus": {
                "ContainerID": task.id if detail.pid else "",
                "PID": detail.pid,
                "ExitCode": detail.exit_code,
            },
        },
        "DesiredState": task.desired_state.word,
        "Restarts": task.restarts,
        "NetworksAttachments": [
            {
                "Network": {"ID": held.network_id},
                "Addresses": networks.addresses(held.network_id, held.address),
            }
            for held in detail.addresses
        ],
    }
