"""`pyswarm swarm init`."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from cli import flags
from cli.context import store
from cli.context.model import Context
from cli.daemons import Daemon
from cli.lazy import Verb
from cli.swarm import admin, joining
from cli.swarm.host import STATE_DIR, Host, Supervisor, host_supervisor
from cli.swarm.update import changed, unlocking, updated
from pyswarm_core.errors import AlreadyExists, PyswarmError, invalid
from pyswarm_core.limits import API_PORT, HISTORY_MAX
from pyswarm_core.registry.limits import REGISTRY_PORT
from pyswarm_core.specs import ClusterSpec
from pyswarm_core.validation import cluster_problems, require
from pyswarm_core.validation.cluster import AGENT_GRACES, DATA_PATH_PORTS, HEARTBEAT_PERIODS
from pyswarm_core.validation.network import SUBNET_PREFIX_MAX, SUBNET_PREFIX_MIN
from pyswarm_core.views import Info

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False, resolve_path=True)


@click.command(
    cls=Verb,
    help="Initialize a fleet: start a controller (with its own etcd) and an agent on this host\n\n"
    "It also saves a context admin, with a client certificate of an administrator, for `context"
    " export`. On this host root uses the controller's socket.\n\n"
    "Example: pyswarm swarm init --advertise-addr 192.0.2.10",
)
@click.option("--advertise-addr", default="", metavar="IP[:PORT]", help="Advertised address")
@click.option(
    "--listen-addr",
    metavar="ADDRESS:PORT",
    default=f"0.0.0.0:{API_PORT}",
    show_default=True,
    help="Listen address, IP:PORT",
)
@click.option(
    "--etcd-endpoints",
    default="",
    metavar="HOST:PORT,...",
    help="Use an external etcd instead of an own one",
)
@click.option("--etcd-cafile", type=_FILE, help="CA certificate file to verify etcd")
@click.option("--etcd-certfile", type=_FILE, help="Client certificate file for etcd")
@click.option("--etcd-keyfile", type=_FILE, help="Client key file for etcd")
@click.option(
    "--registry/--no-registry",
    default=True,
    show_default=True,
    help="Run the fleet's registry of images (needs docker-registry)",
)
@click.option(
    "--registry-addr",
    metavar="ADDRESS:PORT",
    default=f"0.0.0.0:{REGISTRY_PORT}",
    show_default=True,
    help="Listen address of the registry, IP:PORT",
)
@click.option(
    "--registry-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Directory of the registry's images (default in --state-dir)",
)
@click.option(
    "--default-addr-pool",
    multiple=True,
    metavar="SUBNET",
    help="Address pool for the subnets of networks",
)
@click.option(
    "--default-addr-pool-mask-length",
    type=flags.Number(SUBNET_PREFIX_MIN, SUBNET_PREFIX_MAX),
    help="Prefix length of the pool's subnets (default 16)",
)
@click.option(
    "--data-path-port", type=flags.Number(*DATA_PATH_PORTS), help="UDP port of VXLAN (default 4789)"
)
@click.option(
    "--availability",
    type=flags.AVAILABILITY,
    default="active",
    show_default=True,
    help="Availability of the node",
)
@click.option(
    "--task-history-limit",
    type=flags.Number(0, HISTORY_MAX),
    help="Task history retention limit (default 5)",
)
@click.option("--dispatcher-heartbeat", metavar="DURATION", help="Heartbeat period (default 1s)")
@flags.allowed_bind_paths
@flags.autolock
@flags.cert_expiry
@click.option("--agent-grace", metavar="DURATION", help="Time until a disconnected node is down"
              " (default 15s)")  # fmt: skip
@click.option("--state-dir", type=click.Path(path_type=Path), default=STATE_DIR, show_default=True,
              help="Directory for persistent state")  # fmt: skip
def init(*, state_dir: Path, **given: Any) -> None:
    check(given)
    host = Host(state_dir.absolute())
    supervisor = host_supervisor()
    if supervisor.runs(host.daemon("agent", ())) or supervisor.runs(host.daemon("controller", ())):
        raise AlreadyExists("this host is already part of a fleet: run `pyswarm swarm leave` first")
    controller = host.daemon("controller", tuple(_controller(host, given)))
    supervisor.start(controller)
    try:
        info, token, unlock_key = _begin(host, supervisor, controller, given)
    except BaseException:
        # Leave nothing behind, so that the next attempt starts from the beginning.
        supervisor.stop(controller)
        joining.forget(host)
        raise
    if given["registry"] and info.registry_problem:
        click.echo(f"warning: the fleet has no registry yet: {info.registry_problem}", err=True)
    store.activate(Context(host=f"unix://{host.socket}"))
    click.echo(_welcome(host, token, info.join_addr))
    try:
        click.echo(admin.save_context(f"unix://{host.socket}", info.join_addr))
    except (PyswarmError, OSError) as error:  # the fleet runs, and root needs no context
        click.echo(f"warning: no context of an admin was saved: {error}", err=True)
    if unlock_key:
        click.echo(unlocking(unlock_key))


def _begin(
    host: Host, supervisor: Supervisor, controller: Daemon, given: Mapping[str, Any]
) -> tuple[Info, str, str]:
    """Return the info, the join token and, with --autolock, the unlock key."""
    info, token = joining.wait_for_leader(host, supervisor, controller)
    unlock_key = settled(host, given)
    arguments = joining.agent_arguments(
        host,
        controller=info.join_addr,
        token=token,
        advertise_addr=given["advertise_addr"].partition(":")[0],
        availability=given["availability"],
        data_path_port=info.cluster.spec.data_path_port,
    )
    agent = host.daemon("agent", arguments)
    supervisor.start(agent)
    joining.wait_until_joined(host, supervisor, agent, info.join_addr)
    return info, token, unlock_key


def settled(host: Host, given: Mapping[str, Any]) -> str:
    """Make the settings that are no flags of the controller; return the unlock key, if any."""
    from cli.client import Client

    names = ("allowed_bind_paths", "autolock", "cert_expiry")
    named = {name: given[name] for name in names if given.get(name) is not None}
    if not named:
        return ""
    with Client(f"unix://{host.socket}") as client:
        return updated(client, named).unlock_key


def check(given: Mapping[str, Any]) -> None:
    """Validate the settings as the controller does. Raises InvalidArgument."""
    joining.require_address("--listen-addr", given["listen_addr"], with_port=True)
    joining.require_address("--registry-addr", given["registry_addr"], with_port=True)
    if given["advertise_addr"]:
        joining.require_address("--advertise-addr", given["advertise_addr"])
    settings = {
        "default_address_pool": given["default_addr_pool"] or None,
        "subnet_size": given["default_addr_pool_mask_length"],
        "data_path_port": given["data_path_port"],
        "task_history_limit": given["task_history_limit"],
    }
    for flag, name, allowed, text in (
        (
            "--dispatcher-heartbeat",
            "heartbeat_period",
            HEARTBEAT_PERIODS,
            given["dispatcher_heartbeat"],
        ),
        ("--agent-grace", "agent_grace", AGENT_GRACES, given["agent_grace"]),
    ):
        settings[name] = None if text is None else allowed.read(flag, text)
    named = {name: value for name, value in settings.items() if value is not None}
    require(cluster_problems(ClusterSpec(**named)))
    changed(
        ClusterSpec(), {name: given.get(name) for name in ("allowed_bind_paths", "cert_expiry")}
    )
    for endpoint in filter(None, given["etcd_endpoints"].split(",")):
        joining.require_endpoint("--etcd-endpoints", endpoint)
    _check_etcd_files(given)


def _check_etcd_files(given: Mapping[str, Any]) -> None:
    files = {name: given[name] for name in ("etcd_cafile", "etcd_certfile", "etcd_keyfile")}
    for name, file in files.items():
        if file and not given["etcd_endpoints"]:
            flag = f"--{name.replace('_', '-')}"
            raise invalid(flag, str(file), "expected --etcd-endpoints as well")
    certificate, key = files["etcd_certfile"], files["etcd_keyfile"]
    if bool(certificate) != bool(key):
        flag, other = "--etcd-certfile", "--etcd-keyfile"
        if key:
            flag, other = other, flag
        raise invalid(flag, str(certificate or key), f"expected {other} as well")


def _controller(host: Host, given: Mapping[str, Any]) -> Iterator[str]:
    yield f"--state-dir={host.state_dir / 'controller'}"
    yield f"--listen={given['listen_addr']}"
    yield f"--listen=unix://{host.socket}"
    for flag, name in (
        ("--advertise-addr", "advertise_addr"),
        ("--etcd-endpoints", "etcd_endpoints"),
        ("--etcd-cafile", "etcd_cafile"),
        ("--etcd-certfile", "etcd_certfile"),
        ("--etcd-keyfile", "etcd_keyfile"),
        ("--subnet-size", "default_addr_pool_mask_length"),
        ("--data-path-port", "data_path_port"),
        ("--task-history-limit", "task_history_limit"),
        ("--heartbeat-period", "dispatcher_heartbeat"),
        ("--agent-grace", "agent_grace"),
    ):
        if given[name] not in (None, ""):
            yield f"{flag}={given[name]}"
    if not given["registry"]:
        yield "--no-registry"
    else:
        yield f"--registry-addr={given['registry_addr']}"
        if directory := given["registry_dir"]:
            yield f"--registry-dir={directory.absolute()}"
    for pool in given["default_addr_pool"]:
        yield f"--default-addr-pool={pool}"


def _welcome(host: Host, token: str, address: str) -> str:
    node = joining.node_id(host)
    return (
        f"Swarm initialized: current node ({node}) is now a manager.\n\n"
        "To add a worker to this swarm, run the following command:\n\n"
        f"    pyswarm swarm join --token {token} {address}\n"
    )
