"""`pyswarm info`."""

from collections.abc import Iterator, Sequence
from typing import Any

import click

from cli import flags, session
from cli.lazy import Verb
from cli.swarm import info as swarm
from pyswarm_core import version as pyswarm
from pyswarm_core.docker import documents
from pyswarm_core.docker.units import human_size
from pyswarm_core.views import Info, NodeView


@click.command(
    cls=Verb,
    help="Display fleet-wide information\n\nExample: pyswarm info --format '{{.MemTotal}}'",
)
@flags.inspect_format
def info(*, form: str) -> None:
    context = session.fleet()
    client = session.connect()
    found, nodes = client.info(), client.nodes()
    if form:
        shown = document(found, nodes, context.name)
        for line in documents.show([shown], form):
            click.echo(line)
        return
    for line in lines(found, nodes, context.name):
        click.echo(line)


def document(fleet: Info, nodes: Sequence[NodeView], context: str) -> dict[str, Any]:
    """The info with Docker's keys; numbers are those of the whole fleet."""
    cpus, memory = _total(nodes)
    return {
        "ClientInfo": {"Version": pyswarm.version(), "Context": context},
        "Containers": fleet.tasks,
        "ContainersRunning": fleet.tasks_running,
        "ContainersStopped": fleet.tasks - fleet.tasks_running,
        "NCPU": cpus,
        "MemTotal": memory,
        "ServerVersion": fleet.version,
        "Swarm": {"LocalNodeState": "active", **swarm.document(fleet)},
    }


def lines(fleet: Info, nodes: Sequence[NodeView], context: str) -> Iterator[str]:
    """The lines of the output, in the order and words of `docker info`."""
    cpus, memory = _total(nodes)
    yield from (
        "Client:",
        f" Version:    {pyswarm.version()}",
        f" Context:    {context}",
        "",
        "Server:",
        f" Containers: {fleet.tasks}",
        f"  Running: {fleet.tasks_running}",
        f"  Stopped: {fleet.tasks - fleet.tasks_running}",
        f" Server Version: {fleet.version}",
    )
    yield from (f" {line}" for line in swarm.lines(fleet))
    yield f" CPUs: {cpus}"
    yield f" Total Memory: {human_size(memory)}"


def _total(nodes: Sequence[NodeView]) -> tuple[int, int]:
    """CPUs and bytes of memory of all nodes."""
    offered = [node.node.description.resources for node in nodes]
    return sum(one.nano_cpus for one in offered) // 10**9, sum(one.memory_bytes for one in offered)
