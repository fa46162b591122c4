"""Docker's flags of a container's resources and of its interface, for `service create`, `service
update` and `run`.

A flag with several values is one of LISTS; `service update` has `--…-add` and `--…-rm` of it.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, TypeVar

import click
from msgspec.structs import replace

from pyswarm_core.docker import entries
from pyswarm_core.docker.generic_resources import counted, reserved
from pyswarm_core.errors import InvalidArgument, as_flag, invalid
from pyswarm_core.specs import ContainerSpec, Limits, Reservations, ServiceSpec

F = TypeVar("F", bound=Callable[..., Any])
Option = Callable[[F], F]

_SINGLE = (
    ("-c --cpu-shares", "NUMBER", "CPU shares (relative weight, default 1024)"),
    ("--cpu-period", "NUMBER", "Limit CPU CFS (Completely Fair Scheduler) period, in microseconds"),
    ("--cpu-quota", "NUMBER", "Limit CPU CFS (Completely Fair Scheduler) quota, in microseconds"),
    ("--cpuset-cpus", "LIST", "CPUs in which to allow execution (0-3, 0,1)"),
    ("--cpuset-mems", "LIST", "MEMs in which to allow execution (0-3, 0,1)"),
    ("--memory-reservation", "BYTES", "Memory soft limit"),
    (
        "--blkio-weight",
        "NUMBER",
        "Block IO (relative weight), between 10 and 1000, or 0 to disable",
    ),
    ("--mac-address", "MAC", "Container MAC address (e.g., 92:d0:c6:0a:29:33)"),
    ("--ip", "ADDRESS", "IPv4 address (e.g., 172.30.100.104) of the only task"),
    ("--net-egress", "RATE", "Limit what a task sends on each interface, as in 10mbit (0 = none)"),
    ("--net-ingress", "RATE", "Limit what a task receives on each interface (0 = none)"),
)
_LISTS = (
    ("--annotation", "KEY=VALUE", "an annotation of the OCI configuration"),
    ("--generic-resource", "KIND=NUMBER", "user-defined resources of the node"),
    ("--blkio-weight-device", "DEVICE:WEIGHT", "a block IO weight (relative device weight)"),
    ("--device-read-bps", "DEVICE:RATE", "a limit of bytes per second read from a device"),
    ("--device-write-bps", "DEVICE:RATE", "a limit of bytes per second written to a device"),
    ("--device-read-iops", "DEVICE:RATE", "a limit of reads per second from a device"),
    ("--device-write-iops", "DEVICE:RATE", "a limit of writes per second to a device"),
)


def _many(name: str, metavar: str, help: str) -> Option[Any]:
    return click.option(name, multiple=True, metavar=metavar, help=help)


RESOURCES: tuple[Option[Any], ...] = (
    *(click.option(*names.split(), metavar=form, help=text) for names, form, text in _SINGLE),
    click.option(
        "--oom-kill-disable/--no-oom-kill-disable", default=None, help="Disable OOM Killer"
    ),
)
"""Flags with one value."""
LISTS: tuple[Option[Any], ...] = tuple(
    _many(name, form, f"Add {text}") for name, form, text in _LISTS
)
LIST_CHANGES: tuple[Option[Any], ...] = tuple(
    option
    for name, form, text in _LISTS
    for option in (
        _many(f"{name}-add", form, f"Add or update {text}"),
        _many(f"{name}-rm", form.partition("=")[0].partition(":")[0], f"Remove {text}"),
    )
)
_DEVICES: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "blkio_weight_device": ("blkio_weight_device", entries.weight_device),
    **{
        f"device_{kind}": (f"blkio_device_{kind}", partial(read, f"--device-{flag}"))
        for kind, flag, read in (
            ("read_bps", "read-bps", entries.bytes_rate),
            ("write_bps", "write-bps", entries.bytes_rate),
            ("read_iops", "read-iops", entries.operations_rate),
            ("write_iops", "write-iops", entries.operations_rate),
        )
    },
}
"""Parameter -> field of Limits, parser of one value."""


def lists(command: F) -> F:
    """Add the flags of LISTS to a command."""
    return _with(command, LISTS)


def list_changes(command: F) -> F:
    """Add the flags of LIST_CHANGES to a command."""
    return _with(command, LIST_CHANGES)


def _with(command: F, options: tuple[Option[Any], ...]) -> F:
    for option in reversed(options):
        command = option(command)
    return command


def with_lists(spec: ServiceSpec, given: Mapping[str, Any]) -> ServiceSpec:
    """The spec with the values of LISTS, or after the changes of LIST_CHANGES, and with `--ip`.

    Raises InvalidArgument.
    """
    template = spec.task_template
    resources = template.resources
    template = replace(
        template,
        resources=replace(
            resources,
            limits=_devices(resources.limits, given),
            reservations=_generic(resources.reservations, given),
        ),
        container_spec=_annotated(template.container_spec, given),
    )
    spec = replace(spec, task_template=template)
    return spec if given.get("ip") is None else _addressed(spec, given["ip"])


def _changes(name: str, given: Mapping[str, Any]) -> tuple[Iterable[str], Iterable[str]]:
    """The values of a flag to add, and the keys to remove."""
    added = given.get(name) or given.get(f"{name}_add") or ()
    return added, given.get(f"{name}_rm") or ()


def _devices(limits: Limits, given: Mapping[str, Any]) -> Limits:
    for name, (field, read) in _DEVICES.items():
        added, removed = _changes(name, given)
        found = {one.path: one for one in getattr(limits, field) if one.path not in removed}
        new = [read(text) for text in added]
        if len({one.path for one in new}) < len(new):
            raise InvalidArgument(f"{as_flag(name)}: expected each disk once")
        found.update((one.path, one) for one in new)
        limits = replace(limits, **{field: tuple(found.values())})
    return limits


def _generic(reservations: Reservations, given: Mapping[str, Any]) -> Reservations:
    added, removed = _changes("generic_resource", given)
    old = {kind: one for one in reservations.generic_resources for kind in counted((one,))}
    new = {kind: one for one in reserved("--generic-resource", added) for kind in counted((one,))}
    gone = {text.partition("=")[0] for text in removed}
    kept = {kind: one for kind, one in old.items() if kind not in gone}
    return replace(reservations, generic_resources=tuple({**kept, **new}.values()))


def _annotated(container: ContainerSpec, given: Mapping[str, Any]) -> ContainerSpec:
    added, removed = _changes("annotation", given)
    kept = {key: text for key, text in container.annotations.items() if key not in removed}
    return replace(container, annotations={**kept, **entries.labels("--annotation", added)})


def _addressed(spec: ServiceSpec, ip: str) -> ServiceSpec:
    """The spec with the address of its only task; empty: any. Raises InvalidArgument."""
    networks = spec.task_template.networks
    if not networks:
        if not ip:
            return spec
        raise invalid("--ip", ip, "expected --network as well, with a network made by its user")
    template = replace(
        spec.task_template, networks=(replace(networks[0], task_ip=ip), *networks[1:])
    )
    return replace(spec, task_template=template)
