"""`pyswarm swarm info`: the swarm section of `docker info`."""

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
    help="Display fleet-wide information\n\nExample: pyswarm swarm info --format '{{.NodesReady}}'",
)
@flags.inspect_format
def info(*, form: str) -> None:
    found = session.connect().info()
    if form:
        for line in documents.show([document(found)], form):
            click.echo(line)
        return
    for line in lines(found):
        click.echo(line)


def document(fleet: Info) -> dict[str, Any]:
    """The info with Docker's keys, without what no API returns."""
    cluster = documents.document(fleet.cluster)
    for name in ("EncryptionKeys", "StartFlags", "UnlockKey", "WorkerToken"):
        cluster.pop(name, None)
    return {
        "Cluster": cluster,
        "Controller": fleet.controller,
        "Leader": fleet.leader,
        "Version": fleet.version,
        "Nodes": fleet.nodes,
        "NodesReady": fleet.nodes_ready,
        "NodesDisconnected": fleet.nodes_disconnected,
        "NodesHeld": fleet.nodes_held,
        "NodesFiltered": fleet.nodes_filtered,
        "Services": fleet.services,
        "Tasks": fleet.tasks,
        "TasksRunning": fleet.tasks_running,
        "Store": fleet.store,
        "Revision": fleet.revision,
        "JoinAddr": fleet.join_addr,
        "Protocol": fleet.protocol,
        "NodesOtherProtocol": fleet.nodes_other_protocol,
        "Registry": fleet.registry,
        "RegistryProblem": fleet.registry_problem,
    }


def _others(fleet: Info) -> str:
    count = fleet.nodes_other_protocol
    return f" ({count} nodes use another: `pyswarm node ls`)" if count else ""


def _registry(fleet: Info) -> str:
    if not fleet.registry:
        return "none"
    problem = fleet.registry_problem
    return f"{fleet.registry} (unavailable: {problem})" if problem else fleet.registry


def lines(fleet: Info) -> list[str]:
    """The lines of the output, in the order and words of `docker info`."""
    spec = fleet.cluster.spec
    return [
        "Swarm: active",
        f" ClusterID: {fleet.cluster.id}",
        f" Name: {spec.name}",
        f" Nodes: {fleet.nodes}",
        f"  Ready: {fleet.nodes_ready}",
        *_disconnected(fleet),
        f" Services: {fleet.services}",
        f" Tasks: {fleet.tasks}",
        f"  Running: {fleet.tasks_running}",
        f" Default Address Pool: {'  '.join(spec.default_address_pool)}",
        f" SubnetSize: {spec.subnet_size}",
        f" Data Path Port: {spec.data_path_port}",
        " Orchestration:",
        f"  Task History Retention Limit: {spec.task_history_limit}",
        " Dispatcher:",
        f"  Heartbeat Period: {format_duration(spec.heartbeat_period)}",
        f"  Agent Grace: {format_duration(spec.agent_grace)}",
        f"  Host Probes: {_probes(fleet)}",
        " CA Configuration:",
        f"  Expiry Duration: {format_duration(spec.cert_expiry)}",
        f" Autolock Managers: {'true' if spec.autolock else 'false'}",
        *_allowed(spec.allowed_bind_paths),
        " Controller:",
        f"  Name: {fleet.controller}",
        f"  Leader: {fleet.leader}",
        f"  Version: {fleet.version}",
        f"  Protocol: {fleet.protocol or 1}{_others(fleet)}",
        f"  Join Address: {fleet.join_addr}",
        f"  Registry: {_registry(fleet)}",
        " Store:",
        f"  Endpoints: {fleet.store}",
        f"  Revision: {fleet.revision}",
    ]


def _allowed(paths: tuple[str, ...]) -> Iterator[str]:
    if paths:
        yield f" Allowed Bind Paths: {'  '.join(paths)}"


def _disconnected(fleet: Info) -> Iterator[str]:
    if fleet.nodes_disconnected:
        yield f"  Disconnected: {fleet.nodes_disconnected}"
    if fleet.nodes_held:
        yield (
            f"   Held back: {fleet.nodes_held}"
            f" (at most {fleet.down_per_minute} nodes become down per minute while more are silent)"
        )


def _probes(fleet: Info) -> str:
    if not fleet.nodes_filtered:
        return "answered"
    where = f"{fleet.nodes_filtered} of {fleet.nodes} nodes"
    return f"filtered on {where}: a node there is down after three missed heartbeats"
