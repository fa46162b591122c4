"""Limits and reservations: keys of a service and of `deploy.resources` -> Resources. PURE."""

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any

from compose.mapping.problems import in_keys
from compose.mapping.scope import Service
from compose.tree import Node
from pyswarm_core.docker.containers.limits import swap_beyond
from pyswarm_core.docker.units import parse_cpus, parse_size
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.resources import (
    DiscreteResource,
    GenericResource,
    Limits,
    Reservations,
    Resources,
    ThrottleDevice,
    WeightDevice,
)


def _cpus(node: Node) -> int:
    return parse_cpus(f"{Decimal(repr(node.value)):f}")


def _size(node: Node) -> int:
    """Bytes; -1 is no limit."""
    return 0 if node.value == "-1" else parse_size(node.value)


def _number(node: Node) -> int:
    """-1 is no limit."""
    return max(int(node.value), 0)


def _weights(node: Node) -> tuple[WeightDevice, ...]:
    return tuple(
        WeightDevice(path=one.text("path"), weight=_below(one, "weight")) for one in node.value
    )


def _rates(node: Node) -> tuple[ThrottleDevice, ...]:
    return tuple(
        ThrottleDevice(path=one.text("path"), rate=_below(one, "rate")) for one in node.value
    )


def _below(node: Node, key: str) -> int:
    found = node.get(key)
    return int(found.value) if found is not None else 0


_Path = tuple[str, ...]
_LIMITS, _RESERVED = ("deploy", "resources", "limits"), ("deploy", "resources", "reservations")
LIMITS: Mapping[_Path, tuple[str, Callable[[Node], Any]]] = {
    ("cpu_count",): ("nano_cpus", _cpus),
    ("cpus",): ("nano_cpus", _cpus),
    (*_LIMITS, "cpus"): ("nano_cpus", _cpus),
    ("cpu_period",): ("cpu_period", _number),
    ("cpu_quota",): ("cpu_quota", _number),
    ("cpu_shares",): ("cpu_shares", _number),
    ("cpuset",): ("cpuset_cpus", lambda node: node.value),
    ("mem_limit",): ("memory_bytes", _size),
    (*_LIMITS, "memory"): ("memory_bytes", _size),
    ("pids_limit",): ("pids", _number),
    (*_LIMITS, "pids"): ("pids", _number),
    ("blkio_config", "weight"): ("blkio_weight", _number),
    ("blkio_config", "weight_device"): ("blkio_weight_device", _weights),
    **{
        ("blkio_config", f"device_{kind}"): (f"blkio_device_{kind}", _rates)
        for kind in ("read_bps", "write_bps", "read_iops", "write_iops")
    },
}
"""Path below the service -> field of Limits; of two paths of one field, the later counts: the
loader refuses those that differ, but for `cpu_count`, which counts without `cpus`.
"""
RESERVATIONS: Mapping[_Path, tuple[str, Callable[[Node], Any]]] = {
    ("mem_reservation",): ("memory_bytes", _size),
    (*_RESERVED, "cpus"): ("nano_cpus", _cpus),
    (*_RESERVED, "memory"): ("memory_bytes", _size),
    (*_RESERVED, "generic_resources"): ("generic_resources", lambda node: tuple(_generic(node))),
}


def resources(service: Service) -> Resources:
    """The limits and reservations of a service's tasks."""
    limits = Limits(**_fields(service, LIMITS))
    found: dict[str, Any] = {}
    if (node := service.get("mem_swappiness")) is not None:
        found["memory_swappiness"] = int(node.value)
    if (node := service.get("memswap_limit")) is not None:
        try:
            found["swap_bytes"] = swap_beyond(int(node.value), limits.memory_bytes)
        except InvalidArgument as error:
            service.fault(
                node, ("memswap_limit",), in_keys(f"{node.value} is not valid: {error.reason}")
            )
    return Resources(
        limits=limits, reservations=Reservations(**_fields(service, RESERVATIONS)), **found
    )


def _fields(
    service: Service, table: Mapping[_Path, tuple[str, Callable[[Node], Any]]]
) -> dict[str, Any]:
    found = {}
    for path, (field, read) in table.items():
        if (node := service.get(*path)) is None:
            continue
        try:
            found[field] = read(node)
        except InvalidArgument as error:
            service.fault(node, path, f"{node.value} is not valid: {error.reason}")
    return found


def _generic(node: Node) -> Iterable[GenericResource]:
    for entry in node.value:
        spec = entry.get("discrete_resource_spec") or entry.at({})
        discrete = DiscreteResource(kind=spec.text("kind"), value=_below(spec, "value"))
        yield GenericResource(discrete_resource_spec=discrete)
