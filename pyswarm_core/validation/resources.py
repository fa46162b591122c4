"""Validation of resources, and of the options of a container that are given to its runtime as they
are. PURE.

Whether a host has a CPU or a disk, only its agent knows: the task's error says so.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

from pyswarm_core.docker import generic_resources
from pyswarm_core.docker.units import format_bitrate, human_size, parse_set
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.limits import NODE_MEMORY_MAX
from pyswarm_core.resources import GenericResource
from pyswarm_core.specs import ContainerSpec, Limits, NetworkAttachment, Resources
from pyswarm_core.validation import text
from pyswarm_core.validation.problem import Problem, at_most
from pyswarm_core.validation.ranges import (
    BLKIO_WEIGHT_MAX,
    BLKIO_WEIGHT_MIN,
    LIMIT_MEMORY_MIN,
    range_problems,
)

DEVICES_MAX = 64
ANNOTATIONS_MAX = 128
GENERIC_KINDS_MAX = 32
GENERIC_NUMBER_MAX = 1_000_000
GENERIC_NAMES_MAX = 256
"""Kinds of resources that users define, for a task or node; how many of a kind; names of a node."""
_RUNTIME = "run.oci."
"""Annotations with this prefix change what crun does: hooks, groups, seccomp profiles."""
_FLEET = ("02:70", "02:71", "02:72")
"""The MACs of tunnels, bridges and tasks (agent/network/names.py)."""
_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}", re.ASCII | re.IGNORECASE)


def resources_problems(
    resources: Resources,
    container: ContainerSpec | None = None,
    networks: Sequence[NetworkAttachment] = (),
) -> Iterable[Problem]:
    """The problems of limits and reservations."""
    limits = resources.limits
    yield from _cpu_problems(limits)
    yield from range_problems("--reserve-cpu", resources.reservations.nano_cpus)
    yield from _memory_problems(resources)
    yield from _reserved_problems(resources.reservations.generic_resources)
    yield from range_problems("--limit-pids", limits.pids)
    yield from _disk_problems(limits)
    yield from _bandwidth_problems(limits, container, networks)


def _cpu_problems(limits: Limits) -> Iterable[Problem]:
    yield from range_problems("--limit-cpu", limits.nano_cpus)
    yield from range_problems("--cpu-shares", limits.cpu_shares)
    yield from range_problems("--cpu-period", limits.cpu_period)
    yield from range_problems("--cpu-quota", limits.cpu_quota)
    for flag, value in (("--cpu-period", limits.cpu_period), ("--cpu-quota", limits.cpu_quota)):
        if value and limits.nano_cpus:
            yield Problem(flag, value, "expected none with --limit-cpu, which sets the same limit")
    for flag, listed in (
        ("--cpuset-cpus", limits.cpuset_cpus),
        ("--cpuset-mems", limits.cpuset_mems),
    ):
        try:
            parse_set(listed)
        except InvalidArgument as error:
            yield Problem(flag, listed, error.reason)


def _memory_problems(resources: Resources) -> Iterable[Problem]:
    limits = resources.limits
    yield from range_problems("--limit-memory", limits.memory_bytes)
    yield from range_problems("--reserve-memory", resources.reservations.memory_bytes)
    yield from range_problems("--memory-swap", resources.swap_bytes)
    if resources.swap_bytes and not limits.memory_bytes:
        yield Problem("--memory-swap", resources.swap_bytes, "expected --limit-memory as well")
    yield from range_problems("--memory-swappiness", resources.memory_swappiness)
    yield from range_problems("--memory-reservation", limits.memory_reservation)
    if 0 < limits.memory_bytes < limits.memory_reservation:
        low, high = human_size(LIMIT_MEMORY_MIN), human_size(limits.memory_bytes)
        expected = f"expected 0, or {low} to {high} (--limit-memory)"
        yield Problem("--memory-reservation", limits.memory_reservation, expected)
    if resources.oom_kill_disable and not limits.memory_bytes:
        expected = "expected --limit-memory as well: without a limit the whole host would wait"
        yield Problem("--oom-kill-disable", True, expected)


def _disk_problems(limits: Limits) -> Iterable[Problem]:
    yield from range_problems("--blkio-weight", limits.blkio_weight)
    flag = "--blkio-weight-device"
    yield from _path_problems(flag, [one.path for one in limits.blkio_weight_device])
    for one in limits.blkio_weight_device:
        if not BLKIO_WEIGHT_MIN <= one.weight <= BLKIO_WEIGHT_MAX:
            expected = f"expected a weight of {BLKIO_WEIGHT_MIN} to {BLKIO_WEIGHT_MAX}"
            yield Problem(flag, f"{one.path}:{one.weight}", expected)
    for flag, rates, most, shown in (
        ("--device-read-bps", limits.blkio_device_read_bps, NODE_MEMORY_MAX, "256TiB"),
        ("--device-write-bps", limits.blkio_device_write_bps, NODE_MEMORY_MAX, "256TiB"),
        ("--device-read-iops", limits.blkio_device_read_iops, IOPS_MAX, str(IOPS_MAX)),
        ("--device-write-iops", limits.blkio_device_write_iops, IOPS_MAX, str(IOPS_MAX)),
    ):
        yield from _path_problems(flag, [one.path for one in rates])
        for rate in rates:
            if not 1 <= rate.rate <= most:
                yield Problem(flag, f"{rate.path}:{rate.rate}", f"expected a rate of 1 to {shown}")


IOPS_MAX = 2**32 - 1
"""The kernel's."""


def _path_problems(flag: str, paths: Sequence[str]) -> Iterable[Problem]:
    yield from at_most(flag, paths, DEVICES_MAX)
    for index, path in enumerate(paths[:DEVICES_MAX]):
        if (
            not path.startswith("/dev/")
            or ".." in path
            or list(text.directory_problems(flag, path))
        ):
            yield Problem(flag, path, "expected the path of a disk, as in /dev/sda", "device")
        elif path in paths[:index]:
            yield Problem(flag, path, "expected each disk once", "device")


def _bandwidth_problems(
    limits: Limits, container: ContainerSpec | None, networks: Sequence[NetworkAttachment]
) -> Iterable[Problem]:
    for flag, rate in (("--net-egress", limits.net_egress), ("--net-ingress", limits.net_ingress)):
        yield from range_problems(flag, rate)
        if rate and any(network.target in ("host", "none") for network in networks):
            expected = "expected none on the networks host and none, where a task has no interface"
            yield Problem(flag, format_bitrate(rate), expected)
    if limits.net_egress and container is not None and _may_change_its_network(container):
        expected = (
            "expected no --privileged and no --cap-add NET_ADMIN beside it, with which a task"
            " removes the limit"
        )
        yield Problem("--net-egress", format_bitrate(limits.net_egress), expected)


def _may_change_its_network(container: ContainerSpec) -> bool:
    added = {name.upper().removeprefix("CAP_") for name in container.capability_add}
    dropped = {name.upper().removeprefix("CAP_") for name in container.capability_drop}
    return (
        container.privileged
        or "NET_ADMIN" in added
        or ("ALL" in added and "NET_ADMIN" not in dropped)
    )


def annotation_problems(annotations: Mapping[str, str]) -> Iterable[Problem]:
    """The problems of annotations of the OCI configuration."""
    yield from at_most("--annotation", annotations, ANNOTATIONS_MAX)
    yield from text.label_problems("--annotation", annotations)
    for key in annotations:
        if key.startswith(_RUNTIME):
            expected = f"expected a name that does not begin with {_RUNTIME}: these change the"
            yield Problem("--annotation", key, f"{expected} OCI runtime itself", "key")


def mac_problems(field: str, mac: str) -> Iterable[Problem]:
    """The address of one interface, or empty."""
    if not mac:
        return
    is_address = _MAC.fullmatch(mac) is not None
    if not is_address or int(mac[:2], 16) & 1 or not int(mac.replace(":", ""), 16):
        yield Problem(field, mac, "expected a unicast address, as in 02:42:ac:11:00:02")
    elif mac[:5] in _FLEET:
        expected = f"expected none that begins with {', '.join(_FLEET)}, which the fleet gives"
        yield Problem(field, mac, expected)


def _reserved_problems(resources: Sequence[GenericResource]) -> Iterable[Problem]:
    for one in resources:
        if (named := one.named_resource_spec) is not None:
            told = f"{named.kind}={named.value}"
            reason = f"{generic_resources.RESERVED}: agents choose the names"
            yield Problem("--generic-resource", told, reason)
            return
    yield from generic_problems("--generic-resource", resources)


def generic_problems(flag: str, resources: Sequence[GenericResource]) -> Iterable[Problem]:
    """The problems of resources that users define, of a task or of a node."""
    counts = generic_resources.counted(resources)
    if len(counts) > GENERIC_KINDS_MAX:
        yield from at_most(flag, tuple(counts), GENERIC_KINDS_MAX)
        return
    named = [one.named_resource_spec for one in resources if one.named_resource_spec]
    if len(named) > GENERIC_NAMES_MAX:
        yield Problem(flag, f"{len(named)} names", f"expected at most {GENERIC_NAMES_MAX}")
        return
    for kind, count in counts.items():
        words = (kind, *generic_resources.names(resources, kind))
        if not all(map(generic_resources.is_name, words)):
            expected = "expected names of 1 to 64 letters, digits, _ - and ."
            yield Problem(
                flag, next(w for w in words if not generic_resources.is_name(w)), expected
            )
        elif not 0 < count <= GENERIC_NUMBER_MAX:
            yield Problem(flag, f"{kind}={count}", f"expected 1 to {GENERIC_NUMBER_MAX} of {kind}")
