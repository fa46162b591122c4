"""`pyswarm swarm info`: what `docker info` tells of a swarm."""

from collections.abc import Iterator
from typing import Any

import click

from cli import flags, session
from cli.lazy import Verb
from pyswarm_core.docker import documents
from pyswarm_core.docker.units import format_duration
from pyswarm_core.views import Info


@click.command(
    cls=Verb,
    help="Display the fleet and its settings\n\n"
    "Example: pyswarm swarm info --format '{{.NodesReady}}'",
)
@flags.inspect_format
def info(*, form: str) -> None:
    told = session.connect().info()
    if form:
        for line in documents.show([document(told)], form):
            click.echo(line)
        return
    for line in lines(told):
        click.echo(line)


def document(told: Info) -> dict[str, Any]:
    """The answer with Docker's keys, without its tokens."""
    cluster = documents.document(told.cluster)
    cluster.pop("WorkerToken")
    cluster.pop("ManagerToken")
    return {
        "Cluster": cluster,
        "Controller": told.controller,
        "Leader": told.leader,
        "Version": told.version,
        "Nodes": told.nodes,
        "NodesReady": told.nodes_ready,
        "NodesDisconnected": told.nodes_disconnected,
        "NodesHeld": told.nodes_held,
        "NodesFiltered": told.nodes_filtered,
        "Services": told.services,
        "Tasks": told.tasks,
        "TasksRunning": told.tasks_running,
        "Store": told.store,
        "Revision": told.revision,
        "JoinAddr": told.join_addr,
        "Protocol": told.protocol,
        "NodesOtherProtocol": told.nodes_other_protocol,
    }


def _others(told: Info) -> str:
    count = told.nodes_other_protocol
    return f" ({count} nodes speak another: `pyswarm node ls`)" if count else ""


def lines(told: Info) -> list[str]:
    """The answer for people, in the order and words of `docker info`."""
    spec = told.cluster.spec
    return [
        "Swarm: active",
        f" ClusterID: {told.cluster.id}",
        f" Name: {spec.name}",
        f" Nodes: {told.nodes}",
        f"  Ready: {told.nodes_ready}",
        *_disconnected(told),
        f" Services: {told.services}",
        f" Tasks: {told.tasks}",
        f"  Running: {told.tasks_running}",
        f" Default Address Pool: {'  '.join(spec.default_address_pool)}",
        f" SubnetSize: {spec.subnet_size}",
        f" Data Path Port: {spec.data_path_port}",
        " Orchestration:",
        f"  Task History Retention Limit: {spec.task_history_limit}",
        " Dispatcher:",
        f"  Heartbeat Period: {format_duration(spec.heartbeat_period)}",
        f"  Agent Grace: {format_duration(spec.agent_grace)}",
        f"  Host Probes: {_probes(told)}",
        " Controller:",
        f"  Name: {told.controller}",
        f"  Leader: {told.leader}",
        f"  Version: {told.version}",
        f"  Protocol: {told.protocol or 1}{_others(told)}",
        f"  Join Address: {told.join_addr}",
        " Store:",
        f"  Endpoints: {told.store}",
        f"  Revision: {told.revision}",
    ]


def _disconnected(told: Info) -> Iterator[str]:
    if told.nodes_disconnected:
        yield f"  Disconnected: {told.nodes_disconnected}"
    if told.nodes_held:
        yield (
            f"   Held back: {told.nodes_held} (at most {told.down_per_minute} are declared down per"
            " minute while more are silent at once)"
        )


def _probes(told: Info) -> str:
    if not told.nodes_filtered:
        return "answered"
    where = f"{told.nodes_filtered} of {told.nodes} nodes"
    return f"filtered on {where}: verdict after three missed heartbeats"
