"""Flags of `docker run` and `docker create` that are refused, each with what to use instead. PURE.

They are options of the commands, which `--help` does not list: so `-itv DIR:/data` names `-v` too.
"""

from collections.abc import Mapping
from typing import Any

import click

_WINDOWS = "it is for Windows containers"
_REALTIME = "the scheduler plans no real-time CPU time; use --cpus or --cpu-shares"

REFUSED: Mapping[str, str] = {
    "--volume-driver": "name it in the mount: --mount source=NAME,target=PATH,volume-driver=DRIVER",
    "--volumes-from": "mount the same named volume in both containers: --volume NAME:PATH",
    "--link": "containers on one network find each other by name: use --network NAME for both",
    "--link-local-ip": "networks assign one address per IP version; use --ip",
    "--ip6": "the IPv6 address follows from the IPv4 address of the network; use --ip",
    "--cgroup-parent": "the agent keeps its containers below its own --cgroup-parent",
    "--storage-opt": "the root file system has no quota; limit the host's disk",
    "--cpu-rt-period": _REALTIME,
    "--cpu-rt-runtime": _REALTIME,
    "--kernel-memory": "kernels since 5.4 ignore it; use --memory, which counts kernel memory",
    "--runtime": "crun is the only runtime",
    "--isolation": _WINDOWS,
    "--cpu-count": _WINDOWS,
    "--cpu-percent": _WINDOWS,
    "--io-maxbandwidth": _WINDOWS,
    "--io-maxiops": _WINDOWS,
    "--use-api-socket": "no socket is mounted; --allow-fleet-api permits connections to the API",
}
"""Names of a flag -> what to use instead, unless `service create` has the flag."""

_SWITCHES = ("--use-api-socket",)
"""Those without a value."""

CONNECT: Mapping[str, str] = {
    **{name: REFUSED[name] for name in ("--link", "--link-local-ip", "--ip6")},
    "--driver-opt": "networks have no options for single containers; use `network create --opt`",
    "--gw-priority": "the default route is by the first network that is not internal; connect the"
    " container to that one first",
}
"""The same of `network connect`."""


def options_of(names: Mapping[str, str]) -> list[click.Option]:
    """The options of these flags."""
    return [_refused(name.split(), why) for name, why in names.items()]


def options(known: frozenset[str]) -> list[click.Option]:
    """The refused flags that are not among the known ones."""
    return [
        _refused(names.split(), why)
        for names, why in REFUSED.items()
        if not known.intersection(names.split())
    ]


def _refused(names: list[str], why: str) -> click.Option:
    shown = names[-1]

    def refuse(ctx: click.Context, param: click.Parameter, value: Any) -> None:
        if value:
            raise click.UsageError(f"{shown} is not supported: {why}", ctx)

    is_switch = shown in _SWITCHES
    return click.Option(
        names, is_flag=is_switch, multiple=not is_switch, hidden=True, expose_value=False,
        callback=refuse,
    )  # fmt: skip
