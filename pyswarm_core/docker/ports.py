"""Published ports as Docker's tables show them: `*:8080->80/tcp`, consecutive ones as a range.
PURE.
"""

from collections.abc import Iterable, Iterator

import msgspec

from pyswarm_core.specs import PortConfig, PublishMode


class _Span(msgspec.Struct):
    """Consecutive published ports with one target port, or consecutive ones."""

    host_ip: str
    protocol: str
    published: tuple[int, int]
    target: tuple[int, int]

    def __str__(self) -> str:
        host = f"[{self.host_ip}]" if ":" in self.host_ip else self.host_ip or "*"
        return f"{host}:{_range(self.published)}->{_range(self.target)}/{self.protocol}"

    def takes(self, port: PortConfig) -> bool:
        """Add the port if it continues the span; return whether it does."""
        first, last = self.published
        begin, end = self.target
        same_place = (port.host_ip, port.protocol) == (self.host_ip, self.protocol)
        if not same_place or port.published_port != last + 1:
            return False
        steps = port.target_port == end + 1 and end - begin == last - first
        stays = port.target_port == end and begin == end
        if steps or stays:
            self.published = (first, port.published_port)
            self.target = (begin, port.target_port)
        return steps or stays


def ingress_ports(ports: Iterable[PortConfig]) -> str:
    """The ports of mode ingress, as `service ls` shows them."""
    return shown(port for port in ports if port.publish_mode is PublishMode.INGRESS)


def shown(ports: Iterable[PortConfig]) -> str:
    """The ports in order of protocol and number."""
    return ", ".join(str(span) for span in _spans(ports))


def _spans(ports: Iterable[PortConfig]) -> Iterator[_Span]:
    span: _Span | None = None
    for port in sorted(ports, key=_order):
        if span is not None and span.takes(port):
            continue
        if span is not None:
            yield span
        number, target = port.published_port, port.target_port
        span = _Span(port.host_ip, port.protocol, (number, number), (target, target))
    if span is not None:
        yield span


def _order(port: PortConfig) -> tuple[str, str, int, int]:
    return (port.host_ip, port.protocol, port.published_port, port.target_port)


def _range(ends: tuple[int, int]) -> str:
    return str(ends[0]) if ends[0] == ends[1] else f"{ends[0]}-{ends[1]}"
