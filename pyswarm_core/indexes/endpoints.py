"""Which service has a virtual address or publishes a port. PURE (mutable: only `State` changes
it).
"""

from ipaddress import IPv4Address

from pyswarm_core.ids import NetworkId, ServiceId
from pyswarm_core.indexes.tasks import drop
from pyswarm_core.objects import Endpoint
from pyswarm_core.specs import PortConfig, Protocol

NO_ENDPOINT = Endpoint()


class EndpointIndex:
    """The addresses and ports of all services."""

    def __init__(self) -> None:
        self.virtual_ips: dict[NetworkId, dict[int, ServiceId]] = {}
        self.published: dict[tuple[Protocol, int], dict[ServiceId, tuple[PortConfig, ...]]] = {}

    def put(self, service_id: ServiceId, old: Endpoint, new: Endpoint) -> list[NetworkId]:
        """Set the endpoint of a service; return the networks on which it had an address."""
        if new == old:
            return []
        for vip in old.virtual_ips:
            addresses = self.virtual_ips.get(vip.network_id, {})
            drop(addresses, int(IPv4Address(vip.addr)), service_id)
            if not addresses:
                self.virtual_ips.pop(vip.network_id, None)
        for vip in new.virtual_ips:
            addresses = self.virtual_ips.setdefault(vip.network_id, {})
            addresses[int(IPv4Address(vip.addr))] = service_id
        for port in old.ports:
            holders = self.published.get((port.protocol, port.published_port), {})
            holders.pop(service_id, None)
            if not holders:
                self.published.pop((port.protocol, port.published_port), None)
        for port in new.ports:
            if port.published_port:
                key = (port.protocol, port.published_port)
                holders = self.published.setdefault(key, {})
                holders[service_id] = (*holders.get(service_id, ()), port)
        return [vip.network_id for vip in old.virtual_ips]
