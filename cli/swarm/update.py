"""`pyswarm swarm update`."""

from typing import TYPE_CHECKING, Any

import click
from msgspec.structs import replace

from cli import flags, session
from cli.lazy import Verb
from pyswarm_core.errors import Conflict
from pyswarm_core.limits import HISTORY_MAX
from pyswarm_core.specs import ClusterSpec
from pyswarm_core.validation import cluster_problems, require
from pyswarm_core.validation.cluster import AGENT_GRACES, CERT_EXPIRIES, HEARTBEAT_PERIODS

if TYPE_CHECKING:
    from cli.client import Client
    from pyswarm_core.views import UpdatedCluster

DURATIONS = {
    "cert_expiry": ("--cert-expiry", "cert_expiry", CERT_EXPIRIES),
    "dispatcher_heartbeat": ("--dispatcher-heartbeat", "heartbeat_period", HEARTBEAT_PERIODS),
    "agent_grace": ("--agent-grace", "agent_grace", AGENT_GRACES),
}
"""Parameters with a duration: the flag, the field of the spec that it sets, and its range."""


@click.command(
    cls=Verb,
    help="Update the fleet's settings\n\nExample: pyswarm swarm update --task-history-limit 10",
)
@click.option(
    "--agent-grace", metavar="DURATION", help="Time until a disconnected node is down (default 15s)"
)
@flags.allowed_bind_paths
@flags.autolock
@flags.cert_expiry
@click.option("--dispatcher-heartbeat", metavar="DURATION", help="Heartbeat period (default 1s)")
@click.option(
    "--task-history-limit",
    type=flags.Number(0, HISTORY_MAX),
    help="Task history retention limit (default 5)",
)
def update(**given: Any) -> None:
    if all(value is None for value in given.values()):
        raise click.UsageError("nothing to update: specify at least one flag")
    changed(ClusterSpec(), given)
    told = updated(session.connect(), given)
    click.echo("Swarm updated.")
    if told.unlock_key:
        click.echo(unlocking(told.unlock_key))


def updated(client: "Client", given: dict[str, Any]) -> "UpdatedCluster":
    """Change the fleet's settings by the flags; warnings go to standard error."""
    try:
        told = _update(client, given)
    except Conflict:
        told = _update(client, given)
    for warning in told.warnings:
        click.echo(f"warning: {warning}", err=True)
    return told


def _update(client: "Client", given: dict[str, Any]) -> "UpdatedCluster":
    cluster = client.info().cluster
    return client.update_cluster(cluster.version, changed(cluster.spec, given))


def changed(spec: ClusterSpec, given: dict[str, Any]) -> ClusterSpec:
    """The spec changed by the flags. Raises InvalidArgument."""
    settings: dict[str, Any] = {
        name: given.get(name) for name in ("autolock", "task_history_limit")
    }
    for parameter, (flag, name, allowed) in DURATIONS.items():
        text = given.get(parameter)
        settings[name] = None if text is None else allowed.read(flag, text)
    settings["allowed_bind_paths"] = _paths(given.get("allowed_bind_paths"))
    spec = replace(spec, **{name: v for name, v in settings.items() if v is not None})
    require(cluster_problems(spec))
    return spec


def _paths(text: str | None) -> tuple[str, ...] | None:
    """The paths of the flag, without slashes at their ends; None if it was not given."""
    if text is None:
        return None
    return tuple(path.rstrip("/") or path[:1] for path in text.split(",")) if text else ()


def unlocking(key: str) -> str:
    """Docker's text for a new unlock key."""
    return (
        "To unlock a swarm manager after it restarts, run the `pyswarm swarm unlock`\n"
        "command and provide the following key:\n\n"
        f"    {key}\n\n"
        "Please remember to store this key in a password manager, since without it you\n"
        "will not be able to restart the manager."
    )
