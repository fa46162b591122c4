"""Published ports. PURE."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from compose.forms.ports import span
from compose.mapping.scope import Scope, Service
from compose.tree import Node
from pyswarm_core.ports import overlaps
from pyswarm_core.specs import EndpointMode, EndpointSpec, PortConfig, Protocol, PublishMode


class Published(NamedTuple):
    """A port, and the entry that publishes it."""

    port: PortConfig
    node: Node
    number: int
    service: Service


def endpoint(service: Service) -> EndpointSpec:
    """The mode and the ports of a service. A range of published ports for one target publishes each
    of them.
    """
    return EndpointSpec(
        mode=EndpointMode(service.value("deploy", "endpoint_mode") or EndpointMode.VIP),
        ports=tuple(one.port for one in _published(service)),
    )


def _published(service: Service) -> Iterator[Published]:
    for number, entry in enumerate(service.node.list("ports")):
        target = entry.get("target")
        if target is None:
            continue
        numbers = span(entry.text("published") or "0")
        for port in range(numbers.first, numbers.last + 1) if numbers is not None else ():
            config = PortConfig(
                target_port=target.value,
                protocol=Protocol(entry.text("protocol").lower() or Protocol.TCP),
                published_port=port,
                publish_mode=PublishMode(entry.text("mode") or PublishMode.INGRESS),
                host_ip=entry.text("host_ip"),
            )
            yield Published(config, entry, number, service)


def check(scope: Scope) -> None:
    """Report ports that are published twice: by one service, or on every node by two of them."""
    found: dict[tuple[Protocol, int], list[Published]] = {}
    told: dict[tuple[str, int], None] = {}
    for service in scope.services.values():
        for one in _published(service):
            if not one.port.published_port:
                continue
            same = found.setdefault((one.port.protocol, one.port.published_port), [])
            for other in _conflicts(one, same):
                if (service.short, one.number) not in told:
                    told[service.short, one.number] = None
                    _tell(one, other)
            same.append(one)


def _conflicts(one: Published, others: Iterable[Published]) -> Iterator[Published]:
    for other in others:
        if not overlaps(one.port.host_ip, other.port.host_ip):
            continue
        modes = (one.port.publish_mode, other.port.publish_mode)
        if one.service is other.service or PublishMode.INGRESS in modes:
            yield other


def _tell(one: Published, other: Published) -> None:
    number = one.port.published_port
    where = f"{other.node.place}"
    if one.service is other.service:
        text = (
            f"port {number} is published at {where} as well: expected each once; `ports: !override`"
            " in a later file replaces the earlier list"
        )
    else:
        text = f"port {number} is published by service {other.service.short} at {where} as well"
    one.service.fault(one.node, ("ports", one.number), text)
