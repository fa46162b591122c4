"""`pyswarm swarm rejoin`."""

import os
import subprocess
import sys
from pathlib import Path

import click

from cli.lazy import Verb
from cli.swarm import joining
from cli.swarm.host import STATE_DIR, Host, host_supervisor
from pyswarm_core.errors import NotFound, PyswarmError
from pyswarm_core.identity.tokens import parse_join_token
from pyswarm_core.limits import API_PORT

REJOIN_TIMEOUT_S = 60.0


@click.command(
    cls=Verb,
    help="Get a new certificate for this host's node, which keeps its id and its tasks\n\n"
    "For a host whose certificate expired more than 30 days ago, or that joined with a version"
    " without certificates. Its node must be down, unless the host still has its key.\n\n"
    "Example: pyswarm swarm rejoin --token TOKEN 192.0.2.10:2377",
)
@click.option(
    "--token",
    required=True,
    metavar="TOKEN",
    help="Token for entry into the fleet, see `swarm join-token`",
)
@click.option("--state-dir", type=click.Path(path_type=Path), default=STATE_DIR, show_default=True,
              help="State directory given to `swarm init` or `swarm join`")  # fmt: skip
@click.argument("address", metavar="HOST:PORT")
def rejoin(*, token: str, state_dir: Path, address: str) -> None:
    parse_join_token(token)
    controller = address if ":" in address else f"{address}:{API_PORT}"
    joining.require_endpoint("HOST:PORT", controller)
    host = Host(state_dir.absolute())
    host_supervisor()
    if not host.identity.exists():
        raise NotFound("this host has not joined a fleet: run `pyswarm swarm join`")
    _run_agent(host, controller, token)
    click.echo("This node has a new certificate.")


def _run_agent(host: Host, controller: str, token: str) -> None:
    """Run the agent's --rejoin. The running agent reads the certificate that it writes."""
    command = [sys.executable, "-m", "agent", "--rejoin", f"--controller={controller}"]
    command.append(f"--state-dir={host.state_dir / 'agent'}")
    code = Path(__file__).resolve().parents[2]
    # A command line is readable by every user of the host, an environment is not.
    environment = {**os.environ, "PYSWARM_AGENT_JOIN_TOKEN": token, "PYTHONPATH": str(code)}
    try:
        done = subprocess.run(
            command,
            env=environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=REJOIN_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        raise PyswarmError(f"{controller} did not answer within {REJOIN_TIMEOUT_S:g} s") from None
    if done.returncode:
        raise PyswarmError(joining.last_error(done.stderr))
