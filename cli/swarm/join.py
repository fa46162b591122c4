"""`pyswarm swarm join`."""

from pathlib import Path

import click

from cli import flags
from cli.lazy import Verb
from cli.swarm import joining
from cli.swarm.host import STATE_DIR, Host, host_supervisor
from pyswarm_core.errors import AlreadyExists
from pyswarm_core.identity.tokens import parse_join_token
from pyswarm_core.limits import API_PORT
from pyswarm_core.validation.cluster import DATA_PATH_PORTS


@click.command(
    cls=Verb,
    help="Join a fleet as a node\n\nExample: pyswarm swarm join --token TOKEN 192.0.2.10:2377",
)
@click.option(
    "--token",
    required=True,
    metavar="TOKEN",
    help="Token for entry into the fleet, see `swarm join-token`",
)
@click.option("--advertise-addr", default="", metavar="IP", help="Advertised address")
@click.option(
    "--availability",
    type=flags.AVAILABILITY,
    default="active",
    show_default=True,
    help="Availability of the node",
)
@click.option(
    "--data-path-port", type=flags.Number(*DATA_PATH_PORTS), help="UDP port of VXLAN (default 4789)"
)
@click.option("--state-dir", type=click.Path(path_type=Path), default=STATE_DIR, show_default=True,
              help="Directory for persistent state")  # fmt: skip
@click.argument("address", metavar="HOST:PORT")
def join(
    *,
    token: str,
    advertise_addr: str,
    availability: str,
    data_path_port: int | None,
    state_dir: Path,
    address: str,
) -> None:
    controller = address if ":" in address else f"{address}:{API_PORT}"
    joining.require_endpoint("HOST:PORT", controller)
    if advertise_addr:
        joining.require_address("--advertise-addr", advertise_addr)
    parse_join_token(token)
    host = Host(state_dir.absolute())
    supervisor = host_supervisor()
    if supervisor.runs(host.daemon("agent", ())) or joining.identity(host) is not None:
        raise AlreadyExists("this host is already part of a fleet: run `pyswarm swarm leave` first")
    arguments = joining.agent_arguments(
        host,
        controller=controller,
        token=token,
        advertise_addr=advertise_addr,
        availability=availability,
        data_path_port=data_path_port,
    )
    agent = host.daemon("agent", arguments)
    supervisor.start(agent)
    joining.wait_until_joined(host, supervisor, agent, controller)
    click.echo("This node joined a swarm as a worker.")
