"""`python -m controller`: flags and environment become a Config, and the controller runs. SHELL."""

import platform
import socket
import sys
from pathlib import Path
from typing import Any

import click

import pyswarm_core
from controller.config import ClusterOptions, Config, EtcdConfig, FileLimits, config_problems
from pyswarm_core.aio import logs
from pyswarm_core.aio.daemon import run_daemon
from pyswarm_core.aio.flags import DURATION, flag
from pyswarm_core.aio.held import TimedSelector, run_measured
from pyswarm_core.aio.memory import give_back_freed_memory, keep_out_of_core_files
from pyswarm_core.docker.units import parse_size
from pyswarm_core.errors import InvalidArgument, invalid
from pyswarm_core.identity.limits import AUDIT_BACKUPS, AUDIT_FILE_MIB
from pyswarm_core.limits import API_PORT, CONTROLLER_HEALTH_PORT, CONTROLLER_METRICS_PORT
from pyswarm_core.registry.limits import REGISTRY_PORT
from pyswarm_core.specs import ClusterSpec
from pyswarm_core.validation import require

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command(
    context_settings={
        "auto_envvar_prefix": "PYSWARM",
        "show_default": True,
        "help_option_names": ["-h", "--help"],
    }
)
@flag(
    "--state-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default="/var/lib/pyswarm/controller",
    help="Directory of persistent data: identity and, without --etcd-endpoints, etcd's data",
)
@flag(
    "--encryption-key",
    type=_FILE,
    help="File with the key that encrypts sensitive data in the store"
    " [default: encryption.key in --state-dir]",
)
@flag("--name", default=platform.node(), help="Name of this controller")
@flag(
    "--listen",
    multiple=True,
    default=(f"0.0.0.0:{API_PORT}",),
    metavar="HOST:PORT|unix:///PATH",
    help="Listen address (repeatable)",
)
@flag(
    "--advertise-addr",
    default="",
    show_default=False,
    help="Address of this controller for agents, users and other controllers: HOST[:PORT]",
)
@flag(
    "--etcd-endpoints",
    default="",
    metavar="HOST:PORT,...",
    show_default=False,
    help="Endpoints of an existing etcd [default: an embedded etcd]",
)
@flag("--etcd-cafile", type=_FILE, help="CA certificate file to verify etcd")
@flag("--etcd-certfile", type=_FILE, help="Client certificate file for etcd")
@flag("--etcd-keyfile", type=_FILE, help="Client key file for etcd")
@flag(
    "--etcd-user",
    default="",
    show_default=False,
    metavar="NAME[:PASSWORD]",
    help="User for etcd",
)
@flag("--etcd-prefix", default="/pyswarm", help="Prefix of the keys in etcd")
@flag(
    "--convert",
    is_flag=True,
    help="Give a CA to a fleet whose data was made by a version without certificates",
)
@flag(
    "--metrics-addr",
    default=f"127.0.0.1:{CONTROLLER_METRICS_PORT}",
    help="Listen address for Prometheus, with TLS and a token unless it is of loopback; empty to"
    " disable",
)
@flag(
    "--health-addr",
    default=f"127.0.0.1:{CONTROLLER_HEALTH_PORT}",
    help="Listen address for probes and load balancers (/healthz, /readyz); empty to disable",
)
@flag(
    "--registry/--no-registry",
    default=True,
    help="Run the fleet's registry of images (needs docker-registry)",
)
@flag(
    "--registry-addr",
    default=f"0.0.0.0:{REGISTRY_PORT}",
    metavar="HOST:PORT",
    help="Listen address of the fleet's registry, for nodes",
)
@flag(
    "--registry-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Directory of its images [default: registry in --state-dir]",
)
@flag(
    "--registry-quota",
    default="",
    show_default=False,
    metavar="SIZE",
    help="Refuse pushes while it has more than this, such as 50G [default: no limit]",
)
@flag(
    "--audit-log-maxsize",
    type=int,
    default=AUDIT_FILE_MIB,
    metavar="MIB",
    help="Size of a file of the audit log (audit.log in --state-dir) before it is rotated",
)
@flag(
    "--audit-log-maxbackup",
    type=int,
    default=AUDIT_BACKUPS,
    help="Rotated files of the audit log to keep",
)
@flag(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    help="Minimum log level",
)
@flag(
    "--default-addr-pool",
    multiple=True,
    metavar="SUBNET",
    help="Address pool for overlay networks (repeatable)",
)
@flag("--subnet-size", type=int, help="Prefix length of overlay subnets (default 16)")
@flag("--data-path-port", type=int, help="UDP port of VXLAN (default 4789)")
@flag("--heartbeat-period", type=DURATION, help="Heartbeat period of a small fleet (default 1s)")
@flag(
    "--agent-grace",
    type=DURATION,
    help="Time until a silent agent on a responding host counts as down (default 15s)",
)
@flag("--task-history-limit", type=int, help="Ended tasks kept per slot (default 5)")
def main(log_level: str, **flags: Any) -> None:
    """Store services in etcd, decide which node runs which task, and send assignments to agents."""
    _check_package()
    logs.set_up(log_level)
    give_back_freed_memory()
    keep_out_of_core_files()
    config = make_config(flags)
    # Imported here: --help needs neither gRPC nor etcd.
    from controller.app import run

    selector = TimedSelector()
    run_measured(selector, run(config, lambda: selector.longest_s))


def make_config(flags: dict[str, Any]) -> Config:
    """The Config of the flags. Raises InvalidArgument."""
    listen = tuple(flags["listen"])
    user, _, password = flags["etcd_user"].partition(":")
    config = Config(
        state_dir=flags["state_dir"].absolute(),
        name=flags["name"],
        encryption_key=flags["encryption_key"],
        listen=listen,
        advertise_addr=_advertised(flags["advertise_addr"], listen),
        audit_files=FileLimits(flags["audit_log_maxsize"], flags["audit_log_maxbackup"]),
        metrics_addr=flags["metrics_addr"],
        health_addr=flags["health_addr"],
        registry_addr=flags["registry_addr"] if flags["registry"] else "",
        registry_quota=_quota(flags["registry_quota"]),
        registry_dir=directory.absolute() if (directory := flags["registry_dir"]) else None,
        convert=flags["convert"],
        etcd=EtcdConfig(
            endpoints=tuple(filter(None, flags["etcd_endpoints"].split(","))),
            ca_file=flags["etcd_cafile"],
            cert_file=flags["etcd_certfile"],
            key_file=flags["etcd_keyfile"],
            username=user,
            password=password,
            prefix=flags["etcd_prefix"],
        ),
        cluster=ClusterOptions(
            heartbeat_period=flags["heartbeat_period"],
            agent_grace=flags["agent_grace"],
            task_history_limit=flags["task_history_limit"],
            default_address_pool=tuple(flags["default_addr_pool"]) or None,
            subnet_size=flags["subnet_size"],
            data_path_port=flags["data_path_port"],
        ),
    )
    require(config_problems(config))
    # The stored settings may differ, but a value that is not valid by itself never becomes valid.
    config.cluster.applied_to(ClusterSpec())
    return config


def _quota(text: str) -> int:
    try:
        return parse_size(text) if text else 0
    except InvalidArgument as error:
        raise invalid("--registry-quota", text, str(error)) from None


def _advertised(address: str, listen: tuple[str, ...]) -> str:
    """`address`, completed by the listening port and this host's address."""
    first = next((one for one in listen if not one.startswith("unix:")), "")
    own_host, _, port = first.rpartition(":")
    if address:
        return (
            address if address.rpartition(":")[2].isdecimal() else f"{address}:{port or API_PORT}"
        )
    if own_host in ("", "0.0.0.0", "[::]"):
        own_host = _host_address()
    return f"{own_host}:{port or API_PORT}"


def _host_address() -> str:
    """This host's address on its default route: a route lookup, no packet is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", API_PORT))
        except OSError:
            return "127.0.0.1"
        address: str = probe.getsockname()[0]
        return address


def _check_package() -> None:
    here = Path(__file__).resolve().parent.parent
    if Path(pyswarm_core.__file__).resolve().parent.parent != here:
        sys.exit(
            f"controller: pyswarm_core was not imported from {here}; another package shadows it"
        )


if __name__ == "__main__":
    run_daemon(main)
