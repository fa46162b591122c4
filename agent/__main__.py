"""`python -m agent`: makes a Config of flags, environment and configuration file, runs the agent.
SHELL.
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

import pyswarm_core
from agent.config import Config, accepted_tasks, config_problems
from pyswarm_core.aio import logs
from pyswarm_core.aio.daemon import run_daemon
from pyswarm_core.aio.flags import CPUS, DURATION, SIZE, flag
from pyswarm_core.aio.memory import give_back_freed_memory, keep_out_of_core_files
from pyswarm_core.clock import SECOND
from pyswarm_core.docker.generic_resources import offered
from pyswarm_core.docker.logdrivers import FILES_MAX
from pyswarm_core.docker.units import NANO_CPUS
from pyswarm_core.errors import InvalidArgument, invalid, reason_of
from pyswarm_core.limits import (
    AGENT_HEALTH_PORT,
    AGENT_METRICS_PORT,
    API_PORT,
    NODE_TASKS_LIMIT,
    NODE_TASKS_MAX,
)
from pyswarm_core.validation import require

_ANYWHERE = "192.0.2.1"
"""An address that no device has (RFC 5737)."""


def _from_file(context: click.Context, _: click.Parameter, path: Path | None) -> None:
    if path is None:
        return
    import yaml  # most agents have no file, and keep the memory

    try:
        values = yaml.safe_load(path.read_text()) or {}
    except OSError as error:
        raise _not_valid(path, f"cannot read it: {reason_of(error, named=str(path))}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise _not_valid(path, f"expected YAML: {error}") from error
    if not isinstance(values, dict):
        raise _not_valid(path, "expected a file of `flag: value` lines")
    names = {
        word.removeprefix("--"): parameter.name
        for parameter in context.command.params
        for word in parameter.opts
    }
    if unknown := sorted(str(key) for key in values if key not in names):
        raise _not_valid(path, f"expected names of flags, found {', '.join(unknown)}")
    context.default_map = {str(names[key]): value for key, value in values.items()}


def _not_valid(path: Path, reason: str) -> InvalidArgument:
    return invalid("--config", str(path), reason)


def _host_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _host_pids() -> int:
    return int(Path("/proc/sys/kernel/pid_max").read_text())


def _host_files() -> int:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    return most


def _host_address(controllers: tuple[str, ...]) -> str:
    """The source address towards the first controller, or towards the internet if that controller
    runs on this host: a route lookup, without a packet.
    """
    host = controllers[0].rpartition(":")[0].strip("[]") if controllers else _ANYWHERE
    try:
        address = _source_address(host)
        return _source_address(_ANYWHERE) if address.startswith("127.") else address
    except OSError as error:
        raise click.UsageError(
            f"--advertise-addr: cannot determine this host's address ({error}): specify one"
        ) from error


def _source_address(host: str) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, API_PORT))
        address: str = probe.getsockname()[0]
        return address


def _pairs(words: tuple[str, ...]) -> dict[str, str]:
    for word in words:
        if not word.partition("=")[1]:
            raise invalid("--label", word, "expected NAME=VALUE")
    return {name: value for name, _, value in (word.partition("=") for word in words)}


@click.command(context_settings={"auto_envvar_prefix": "PYSWARM_AGENT", "show_default": True})
@flag(
    "--config",
    type=click.Path(path_type=Path, exists=True),
    is_eager=True,
    expose_value=False,
    callback=_from_file,
    help="Configuration file: YAML with `flag: value` lines",
)
@flag(
    "--state-dir",
    type=click.Path(path_type=Path),
    default="/var/lib/pyswarm/agent",
    help="Directory for what must survive a reboot: identity, records, images, logs",
)
@flag(
    "--run-dir",
    type=click.Path(path_type=Path),
    default="/run/pyswarm/agent",
    help="Directory for runtime data, lost at reboot",
)
@flag(
    "--controller",
    "controllers",
    multiple=True,
    metavar="HOST:PORT",
    help="Controller to join (repeatable); not needed after that",
)
@flag("--join-token", default="", help="Token to join with; not needed after that")
@flag(
    "--join-token-file",
    type=click.Path(path_type=Path),
    help="File with the token to join with; removed when the host has joined, unless it is mounted",
)
@flag(
    "--rejoin",
    is_flag=True,
    help="Get a certificate for the node that this host was, with a join token, and exit",
)
@flag("--hostname", default=platform.node(), help="Name of the node")
@flag(
    "--advertise-addr",
    default="",
    metavar="IP",
    help="Address at which other hosts reach this one [default: the one towards the controller]",
)
@flag(
    "--availability",
    type=click.Choice(["active", "pause", "drain"]),
    default="active",
    help="Availability of the node when it joins",
)
@flag(
    "--fleet",
    default="psw",
    help="Short name, unique on this machine, that the names of kernel objects begin with",
)
@flag("--cgroup-parent", default="/pyswarm", help="Parent cgroup of all tasks")
@flag("--bridge-subnet", default="10.127.0.0/16", help="Subnet of tasks without a network")
@flag("--data-path-port", type=click.IntRange(1, 65_535), default=4789, help="UDP port of VXLAN")
@flag(
    "--fast-path",
    type=bool,
    metavar="[on|off]",
    default=True,
    show_default="on",
    help="Forward packets between tasks of one network on two hosts past this host's packet filter;"
    " off: route them, so that they pass every hook of IP",
)
@flag("--cpus", type=CPUS, help="CPUs to offer to tasks [default: all]")
@flag("--memory", type=SIZE, help="Memory to offer to tasks, such as 2G [default: all]")
@flag(
    "--max-tasks",
    type=click.IntRange(1, NODE_TASKS_LIMIT),
    help="Maximum number of tasks [default: one per 4 MiB of memory and 32 process numbers, at most"
    f" {NODE_TASKS_MAX}]",
)
@flag(
    "--node-generic-resource",
    "node_generic_resources",
    multiple=True,
    metavar="KIND=NUMBER|NAMES",
    help="Resource that tasks can reserve: ssd=4, or the set gpu=UUID1,UUID2 (repeatable)",
)
@flag("--label", "labels", multiple=True, metavar="NAME=VALUE", help="Engine label (repeatable)")
@flag(
    "--registry-mirror",
    "registry_mirrors",
    multiple=True,
    metavar="URL",
    help="Mirror to try before Docker Hub (repeatable)",
)
@flag(
    "--insecure-registry",
    "insecure_registries",
    multiple=True,
    metavar="HOST[:PORT]",
    help="Registry to use without verified TLS (repeatable)",
)
@flag(
    "--registry-auth-file",
    type=click.Path(path_type=Path),
    default="/root/.docker/config.json",
    help="Registry logins of this host, as docker login or skopeo login writes them",
)
@flag(
    "--pull-stall",
    type=DURATION,
    default="30s",
    help="Time without progress after which a pull fails",
)
@flag(
    "--image-gc-high",
    type=click.IntRange(1, 100),
    default=85,
    help="Percentage of the disk in use from which unused images are removed; then the node gets no"
    " task whose image it lacks. 100: never",
)
@flag(
    "--image-gc-low",
    type=click.IntRange(0, 100),
    default=80,
    help="Percentage of the disk in use to which unused images are removed",
)
@flag(
    "--image-gc-min-age",
    type=DURATION,
    default="2m",
    help="Time for which an image is unused before it is removed",
)
@flag(
    "--image-gc-max-age",
    type=DURATION,
    default="0s",
    help="Time for which an image is unused after which it is removed in any case; 0s: never",
)
@flag(
    "--log-max-size",
    type=SIZE,
    default="10m",
    help="Size at which a task's log file is rotated",
)
@flag(
    "--log-max-file",
    type=click.IntRange(1, FILES_MAX),
    default=3,
    help="Number of log files per task",
)
@flag(
    "--metrics-addr",
    default=f"127.0.0.1:{AGENT_METRICS_PORT}",
    metavar="HOST:PORT",
    help="Listen address for Prometheus, with TLS and a token unless it is of loopback; empty to"
    " disable",
)
@flag(
    "--health-addr",
    default=f"127.0.0.1:{AGENT_HEALTH_PORT}",
    metavar="HOST:PORT",
    help="Listen address for probes (/healthz, /readyz); empty to disable",
)
@flag(
    "--resolv-conf",
    type=click.Path(path_type=Path),
    default="/etc/resolv.conf",
    help="Name servers and search domains of containers",
)
@flag(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    help="Minimum log level",
)
def main(log_level: str, **flags: Any) -> None:
    """Run the tasks that the leader assigns to this host."""
    _check_package()
    logs.set_up(log_level)
    give_back_freed_memory()
    keep_out_of_core_files()
    config = _config(flags)
    # Imported here: --help needs neither gRPC nor a kernel.
    from agent.app import run

    asyncio.run(run(config))


def _config(flags: dict[str, Any]) -> Config:
    cpus, memory = flags.pop("cpus"), flags.pop("memory")
    flags["pull_stall_s"] = flags.pop("pull_stall") / SECOND
    flags["labels"] = _pairs(flags["labels"])
    generic = flags["node_generic_resources"]
    flags["node_generic_resources"] = offered("--node-generic-resource", generic)
    if not flags["rejoin"]:  # which sends no address
        flags["advertise_addr"] = flags["advertise_addr"] or _host_address(flags["controllers"])
    for name in ("state_dir", "run_dir"):
        flags[name] = flags[name].absolute()
    memory_bytes = _host_memory() if memory is None else memory
    accepted = accepted_tasks(memory_bytes, _host_pids(), _host_files())
    max_tasks = flags.pop("max_tasks") or accepted
    config = Config(
        nano_cpus=(os.cpu_count() or 1) * NANO_CPUS if cpus is None else cpus,
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
