"""The commands of `pyswarm playground`. SHELL over boot.py."""

import os
import sys
from pathlib import Path

import click

from cli import daemons, flags, session
from cli.lazy import Group, Verb
from cli.playground import boot, fleet
from cli.playground.fleet import HOSTS_MAX, Fleet
from cli.render import listing
from pyswarm_core.errors import Unavailable

DEFAULT_NAME = "playground"


def _current() -> str:
    return session.fleet().playground or DEFAULT_NAME


_name = click.option(
    "--name",
    metavar="NAME",
    default=_current,
    show_default=f"the current one, else {DEFAULT_NAME}",
    envvar="PYSWARM_PLAYGROUND",
    help="Name of the playground",
)


def _report(text: str) -> None:
    click.echo(f"  {text}", err=True)


def _opened(name: str) -> Fleet:
    """The playground, of which this command changes or enters a host."""
    _require_root()
    plan = fleet.load(name)
    boot.require_here(plan)
    return plan


def _require_root() -> None:
    if os.geteuid() != 0:
        raise Unavailable("a playground creates namespaces and cgroups: run this command as root")


@click.group(cls=Group)
def playground() -> None:
    """Run a fleet on this machine

    Each host has its own agent, network, cgroups, disk, /etc, /run and /var/lib. The first host
    also runs the controller, etcd and the fleet's registry.
    """


@playground.command()
@_name
@click.option(
    "--nodes", type=flags.Number(1, HOSTS_MAX), default=3, show_default=True, help="Number of hosts"
)
@click.option("--cpus", default="", metavar="DECIMAL", help="CPUs of each host (default all)")
@click.option(
    "--memory", default="", metavar="BYTES", help="Memory of each host, such as 2G (default all)"
)
@click.option(
    "--disk",
    default="",
    metavar="BYTES",
    help="Disk of each host, such as 2G (default unlimited, minimum 192M)",
)
def up(name: str, nodes: int, cpus: str, memory: str, disk: str) -> None:
    """Start a playground and select it as the current fleet

    Example: pyswarm playground up --nodes 5 --cpus 2 --memory 1G
    """
    fleet.check(name)
    fleet.check_resources(cpus, memory)
    plan = Fleet(name=name, nodes=nodes, cpus=cpus, memory=memory, disk=fleet.disk_bytes(disk))
    _require_root()
    boot.up(plan, _report)
    click.echo(f"Playground {name} is up with {nodes} hosts. Try `pyswarm node ls`.")


@playground.command()
@_name
def down(name: str) -> None:
    """Stop a playground and remove everything of it

    Example: pyswarm playground down
    """
    _require_root()
    boot.down(fleet.load(name), _report)
    click.echo(f"Playground {name} is removed.")


@playground.command(name="ls")
@click.option("-q", "--quiet", is_flag=True, help="Only display names")
def ls_(quiet: bool) -> None:
    """List the hosts of all playgrounds

    Example: pyswarm playground ls
    """
    rows = [("PLAYGROUND", "HOST", "ADDRESS", "STATE", "AGENT PID")]
    for name in fleet.names():
        plan = fleet.load(name)
        for host in plan.hosts:
            if quiet:
                click.echo(host.name)
                continue
            pids = daemons.daemon_pids(host.run_dir / "agent.pid")
            pid = str(pids[0]) if pids else ""
            rows.append((name, host.name, host.address, boot.state_of(plan, host), pid))
    if not quiet:
        click.echo("\n".join(listing.table(rows)))


@playground.command(name="exec", context_settings={"ignore_unknown_options": True})
@_name
@click.argument("host")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def exec_(name: str, host: str, command: tuple[str, ...]) -> None:
    """Run a command on a host

    Example: pyswarm playground exec host2 -- ip route
    """
    found = _opened(name).host(host)
    if not found.mountns_path.exists():
        raise Unavailable(f"{host} has no power: run `pyswarm playground heal {host}`")
    # nsenter enters a mount namespace at its root.
    in_directory = ["sh", "-c", 'cd "$0" 2>/dev/null; exec "$@"', str(Path.cwd())]
    words = [*daemons.entering(found.netns_path, found.mountns_path), *in_directory, *command]
    sys.stdout.flush()
    os.execvp(words[0], words)


@playground.command()
@_name
@click.argument("host")
def kill(name: str, host: str) -> None:
    """Cut a host's power: its processes are killed, its disk is kept

    Example: pyswarm playground kill host3
    """
    plan = _opened(name)
    boot.kill(plan, plan.host(host))
    click.echo(f"{host} has lost power.")
    if plan.host(host).number == 1:
        click.echo(
            f"{host} ran the only controller: run `pyswarm playground heal {host}` to continue",
            err=True,
        )


@playground.command()
@_name
@click.argument("host")
def cut(name: str, host: str) -> None:
    """Disconnect a host from the network; its containers keep running

    Example: pyswarm playground cut host2
    """
    plan = _opened(name)
    boot.cut(plan, plan.host(host))
    click.echo(f"{host} is disconnected.")


@playground.command(cls=Verb)
@_name
@click.option(
    "-d",
    "--detach",
    is_flag=True,
    help="Exit immediately instead of waiting for the host to be ready",
)
@click.argument("host")
def heal(name: str, detach: bool, host: str) -> None:
    """Undo `kill` or `cut` and wait for the host to be ready

    Example: pyswarm playground heal host3
    """
    plan = _opened(name)
    plan = boot.heal(plan, plan.host(host))
    if detach:
        click.echo(f"{host} is back.")
        return
    boot.wait_until_ready(plan, plan.host(host), _report)
    click.echo(f"{host} is ready.")
