"""The flags of `pyswarm run` and `create`: those of `docker run`, with its names and help.

Flags that `service create` has too, with the same name and form, are its own options. SHELL: only
by importing click.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import click

from cli import flags
from cli.container.spec import refused
from cli.service.create import create as service_create
from cli.service.spec.options import many

F = TypeVar("F", bound=Callable[..., Any])

SHARED = (
    "--env --env-file --workdir --user --tty --init --read-only --stop-signal"
    " --health-cmd --health-http --health-tcp --health-grpc --health-interval --health-timeout"
    " --health-retries --health-start-period --health-start-interval --no-healthcheck"
    " --ready-cmd --ready-http --ready-tcp --ready-grpc --ready-interval --ready-timeout"
    " --ready-retries --ready-start-period --ready-start-interval --no-readiness"
    " --oom-score-adj --memory-swappiness --dns --dns-search --dns-option --cap-add --cap-drop"
    " --sysctl --ulimit --constraint --placement-pref --allow-fleet-api --with-registry-auth"
    " --annotation --blkio-weight --blkio-weight-device --device-read-bps --device-read-iops"
    " --device-write-bps --device-write-iops --cpu-shares --cpu-period --cpu-quota --cpuset-cpus"
    " --cpuset-mems --memory-reservation --oom-kill-disable --device --device-cgroup-rule"
    " --privileged --pid --ipc --uts --userns --cgroupns --security-opt --tmpfs --shm-size"
    " --mac-address --net-egress --net-ingress --log-driver --log-opt --mount --volume"
    " --volume-placement --secret-env"
).split()
"""Flags of `service create` that mean the same for a container."""


def _text(*names: str, metavar: str, help: str) -> Callable[[F], F]:
    return click.option(*names, metavar=metavar, help=help)


def _shared() -> list[click.Option]:
    return [
        option
        for option in service_create.params
        if isinstance(option, click.Option) and set(option.opts) & set(SHARED)
    ]


OWN: Sequence[Callable[[Any], Any]] = (
    click.option("--name", default="", metavar="NAME", help="Assign a name to the container"),
    click.option(
        "--rm", "auto_remove", is_flag=True,
        help="Automatically remove the container and its files when it exits",
    ),
    click.option(
        "-i", "--interactive", is_flag=True, help="Keep STDIN open even if not attached"
    ),
    many("-a", "--attach", metavar="STREAM", help="Attach to STDIN, STDOUT or STDERR"),
    _text("--cidfile", metavar="FILE", help="Write the container ID to the file"),
    click.option(
        "--pull", type=flags.Choice(["always", "missing", "never"]), default="missing",
        help="Pull image before running (always, missing)",
    ),
    click.option("-q", "--quiet", is_flag=True, help="Suppress the pull output"),
    _text("--entrypoint", metavar="COMMAND", help="Overwrite the default ENTRYPOINT of the image"),
    many("-l", "--label", metavar="KEY=VALUE", help="Set meta data on a container"),
    many("--label-file", metavar="FILE", help="Read in a line delimited file of labels"),
    many(
        "-p", "--publish", metavar="PORT",
        help="Publish a container's port(s) on every host: [[IP:]PUBLISHED:]TARGET[/PROTOCOL]",
    ),
    click.option(
        "-P", "--publish-all", is_flag=True, help="Publish all exposed ports to random ports"
    ),
    _text(
        "--gpus", metavar="GPUS",
        help="GPU devices to add to the container ('all' to pass all GPUs)",
    ),
    many("--expose", metavar="PORT", help="Expose a port or a range of ports"),
    many("--network", "--net", metavar="NETWORK", help="Connect a container to a network"),
    many(
        "--network-alias", "--net-alias", metavar="NAME",
        help="Add network-scoped alias for the container",
    ),
    _text("--ip", metavar="IP", help="IPv4 address (e.g., 10.128.30.10)"),
    _text("-h", "--hostname", metavar="NAME", help="Container host name"),
    _text("--domainname", metavar="DOMAIN", help="Container NIS domain name"),
    many("--add-host", metavar="HOST:IP", help="Add a custom host-to-IP mapping"),
    many("--group-add", metavar="GROUP", help="Add additional groups to join"),
    _text("--cpus", metavar="DECIMAL", help="Number of CPUs"),
    _text("-m", "--memory", metavar="BYTES", help="Memory limit"),
    _text(
        "--memory-swap", metavar="BYTES",
        help="Swap limit equal to memory plus swap: '-1' to enable unlimited swap",
    ),
    _text("--pids-limit", metavar="NUMBER", help="Tune container pids limit (-1 for unlimited)"),
    _text(
        "--restart", metavar="POLICY",
        help="Restart policy to apply when a container exits: no, on-failure[:MAX], always or"
        " unless-stopped (default no)",
    ),
    _text("--stop-timeout", metavar="SECONDS", help="Timeout (in seconds) to stop a container"),
    _text("--platform", metavar="OS/ARCH", help="Run on a node of this platform"),
    _text("--node", metavar="NODE", help="Run on this node"),
    click.option(
        "--disable-content-trust/--no-disable-content-trust", default=True,
        help="Skip image verification (default true)",
    ),
)  # fmt: skip
"""Flags of both commands that `service create` lacks or reads otherwise."""

RUN: Sequence[Callable[[Any], Any]] = (
    click.option(
        "-d", "--detach", is_flag=True, help="Run container in background and print container ID"
    ),
    click.option(
        "--sig-proxy/--no-sig-proxy", default=True,
        help="Proxy received signals to the process (default true)",
    ),
    _text(
        "--detach-keys", metavar="KEYS",
        help="Override the key sequence for detaching a container (default ctrl-p,ctrl-q)",
    ),
)  # fmt: skip
"""Flags of `run` alone."""


def _names(options: Iterable[click.Option]) -> frozenset[str]:
    return frozenset(name for option in options for name in (*option.opts, *option.secondary_opts))


def _made(makers: Iterable[Callable[[Any], Any]]) -> list[click.Option]:
    """The options that these decorators add, in their order."""

    def holder() -> None:
        """Carries the options."""

    for make in makers:
        make(holder)
    found: list[click.Option] = holder.__click_params__  # type: ignore[attr-defined]
    return found


def of_run() -> list[click.Parameter]:
    """The options and arguments of `run`."""
    return _all((*OWN, *RUN))


def of_create() -> list[click.Parameter]:
    """The options and arguments of `create`."""
    return _all(OWN)


def _all(own: Sequence[Callable[[Any], Any]]) -> list[click.Parameter]:
    options = [*_made(own), *_shared()]
    return [
        *sorted(options, key=lambda option: max(option.opts, key=len)),
        *refused.options(_names(options)),
        click.Argument(["image"]),
        click.Argument(["args"], nargs=-1, type=click.UNPROCESSED, metavar="[COMMAND] [ARG...]"),
    ]


def unset() -> dict[str, Any]:
    """The parameters of `service create` without any flag."""
    return {
        str(option.name): () if option.multiple else False if option.is_flag else None
        for option in service_create.params
        if isinstance(option, click.Option)
    } | {"name": "", "mode": "replicated"}
