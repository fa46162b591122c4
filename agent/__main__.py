"""`python -m agent`: flags, environment and configuration file become a Config; then the agent
runs. SHELL.
"""

import asyncio
import os
import platform
import resource
import socket
import sys
from pathlib import Path
from typing import Any

import click
import yaml

import pyswarm_core
from agent.config import Config, accepted_tasks, config_problems
from pyswarm_core.aio import logs
from pyswarm_core.aio.daemon import run_daemon
from pyswarm_core.aio.memory import give_back_freed_memory
from pyswarm_core.clock import SECOND
from pyswarm_core.docker.units import parse_cpus, parse_duration, parse_size
from pyswarm_core.errors import InvalidArgument, reason_of
from pyswarm_core.limits import API_PORT, NODE_TASKS_LIMIT, NODE_TASKS_MAX
from pyswarm_core.validation import require

_ANYWHERE = "192.0.2.1"
"""An address that no device has (RFC 5737)."""


def _from_file(context: click.Context, _: click.Parameter, path: Path | None) -> None:
    if path is None:
        return
    try:
        values = yaml.safe_load(path.read_text()) or {}
    except OSError as error:
        raise click.BadParameter(f"cannot be read: {reason_of(error)}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"{path} is not YAML: {error}") from error
    if not isinstance(values, dict):
        raise click.BadParameter(f"{path} must hold `flag: value` lines")
    names = {
        flag.removeprefix("--"): parameter.name
        for parameter in context.command.params
        for flag in parameter.opts
    }
    if unknown := sorted(str(key) for key in values if key not in names):
        raise click.BadParameter(f"{path} names no flag: {', '.join(unknown)}")
    context.default_map = {str(names[key]): value for key, value in values.items()}


def _host_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _host_pids() -> int:
    return int(Path("/proc/sys/kernel/pid_max").read_text())


def _host_files() -> int:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    return most


def _host_address(controllers: tuple[str, ...]) -> str:
    """The address this host uses towards the first controller, or towards the world if that runs on
    this very host: a route lookup, no packet.
    """
    host = controllers[0].rpartition(":")[0].strip("[]") if controllers else _ANYWHERE
    try:
        address = _source_address(host)
        return _source_address(_ANYWHERE) if address.startswith("127.") else address
    except OSError as error:
        raise click.UsageError(
            f"--advertise-addr: cannot tell which address to use ({error}); name one"
        ) from error


def _source_address(host: str) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, API_PORT))
        address: str = probe.getsockname()[0]
        return address


def _pairs(words: tuple[str, ...]) -> dict[str, str]:
    for word in words:
        if not word.partition("=")[1]:
            raise InvalidArgument(f"label {word!r} is not valid: want NAME=VALUE")
    return {name: value for name, _, value in (word.partition("=") for word in words)}


@click.command(context_settings={"auto_envvar_prefix": "PYSWARM_AGENT", "show_default": True})
@click.option(
    "--config",
    type=click.Path(path_type=Path, exists=True),
    is_eager=True,
    expose_value=False,
    callback=_from_file,
    help="YAML file of `flag: value` lines",
)
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path),
    default="/var/lib/pyswarm/agent",
    help="What must survive a reboot: identity, records, images, logs",
)
@click.option(
    "--run-dir",
    type=click.Path(path_type=Path),
    default="/run/pyswarm/agent",
    help="What a reboot may lose",
)
@click.option(
    "--controller",
    "controllers",
    multiple=True,
    metavar="HOST:PORT",
    help="Where a controller answers; only needed to join (repeatable)",
)
@click.option("--join-token", default="", help="Shown once, to join")
@click.option("--hostname", default=platform.node(), help="The node's name")
@click.option(
    "--advertise-addr",
    default="",
    metavar="IP",
    help="This host's address on the underlay [default: the one towards the controller]",
)
@click.option("--availability", type=click.Choice(["active", "pause", "drain"]), default="active")
@click.option(
    "--fleet", default="psw", help="Short name, unique on this machine, for kernel objects"
)
@click.option("--cgroup-parent", default="/pyswarm", help="The cgroup that holds every task's")
@click.option("--bridge-subnet", default="10.127.0.0/16", help="For tasks without a network")
@click.option("--data-path-port", default=4789, help="UDP port of VXLAN")
@click.option(
    "--fast-path",
    type=bool,
    metavar="[on|off]",
    default=True,
    show_default="on",
    help="Forward packets between tasks of one network on two hosts past this host's packet filter;"
    " off: route them, so that every hook of IP sees them",
)
@click.option("--cpus", default="", help="CPUs to offer [default: all]")
@click.option("--memory", default="", help="Memory to offer, such as 2G [default: all]")
@click.option(
    "--max-tasks",
    type=click.IntRange(1, NODE_TASKS_LIMIT),
    help="Tasks to accept at once [default: one per 4 MiB of memory and 32 process numbers, at most"
    f" {NODE_TASKS_MAX}]",
)
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="Engine label")
@click.option(
    "--registry-mirror",
    "registry_mirrors",
    multiple=True,
    metavar="URL",
    help="Tried before Docker Hub (repeatable)",
)
@click.option(
    "--insecure-registry",
    "insecure_registries",
    multiple=True,
    metavar="HOST[:PORT]",
    help="May be reached without TLS (repeatable)",
)
@click.option(
    "--registry-auth-file",
    type=click.Path(path_type=Path),
    default="/root/.docker/config.json",
    help="This host's logins, as docker login or skopeo login writes them",
)
@click.option("--pull-stall", default="30s", help="A pull that moves nothing so long has failed")
@click.option("--log-max-size", default="10m", help="A task's log file is rotated at this size")
@click.option("--log-max-file", default=3, help="Log files kept per task")
@click.option("--metrics-addr", default="127.0.0.1:9324", help="Where Prometheus may scrape")
@click.option(
    "--resolv-conf",
    type=click.Path(path_type=Path),
    default="/etc/resolv.conf",
    help="Given to containers",
)
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info"
)
def main(log_level: str, **flags: Any) -> None:
    """Run the tasks that the controller assigns to this host."""
    _check_package()
    logs.set_up(log_level)
    give_back_freed_memory()
    config = _config(flags)
    # Imported here: --help needs neither gRPC nor a kernel.
    from agent.app import run

    asyncio.run(run(config))


def _config(flags: dict[str, Any]) -> Config:
    cpus, memory = flags.pop("cpus"), flags.pop("memory")
    flags["log_max_size"] = parse_size(flags["log_max_size"])
    flags["pull_stall_s"] = parse_duration(flags.pop("pull_stall")) / SECOND
    flags["labels"] = _pairs(flags["labels"])
    flags["advertise_addr"] = flags["advertise_addr"] or _host_address(flags["controllers"])
    for name in ("state_dir", "run_dir"):
        flags[name] = flags[name].absolute()
    memory_bytes = parse_size(memory) if memory else _host_memory()
    accepted = accepted_tasks(memory_bytes, _host_pids(), _host_files())
    max_tasks = flags.pop("max_tasks") or accepted
    config = Config(
        nano_cpus=parse_cpus(cpus) if cpus else (os.cpu_count() or 1) * 10**9,
        memory_bytes=memory_bytes,
        max_tasks=max_tasks,
        **flags,
    )
    require(config_problems(config))
    return config


def _check_package() -> None:
    here = Path(__file__).resolve().parent.parent
    if Path(pyswarm_core.__file__).resolve().parent.parent != here:
        sys.exit(f"agent: pyswarm_core was not imported from {here}; another package shadows it")


if __name__ == "__main__":
    run_daemon(main)
