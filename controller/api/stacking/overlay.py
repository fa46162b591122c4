"""A state with changes on top of another, which stays as it is. PURE (mutable).

A stack is applied as one change: its services name networks and secrets that the same change
creates. Each step is decided from the state as the steps before have left it, by the functions that
create and update single objects. The cost follows the changes, not the state.
"""

from collections.abc import Container, Iterator, MutableMapping
from types import SimpleNamespace
from typing import Any, TypeVar

from msgspec.structs import replace

from pyswarm_core.decision import Writes
from pyswarm_core.ids import ServiceId
from pyswarm_core.indexes.endpoints import NO_ENDPOINT, EndpointIndex
from pyswarm_core.indexes.payloads import PAYLOAD_KINDS, PayloadVersions
from pyswarm_core.kinds import KINDS, NETWORK, NODE, SERVICE, Kind, kind_of, split_name
from pyswarm_core.objects import Endpoint, Network, Object, Service
from pyswarm_core.payloads.payload import Payload, PayloadId
from pyswarm_core.specs import Protocol
from pyswarm_core.state import State

K = TypeVar("K")
V = TypeVar("V")
_GONE: Any = object()


class Layer(MutableMapping[K, V]):
    """A mapping with changes on top of another. Its length costs nothing."""

    def __init__(self, base: MutableMapping[K, V]) -> None:
        self._base = base
        self._changed: dict[K, V] = {}
        self._length = len(base)

    def __getitem__(self, key: K) -> V:
        found = self._changed.get(key, None)
        if found is None:
            return self._base[key]
        if found is _GONE:
            raise KeyError(key)
        return found

    def __contains__(self, key: object) -> bool:
        changed: dict[Any, Any] = self._changed
        found = changed.get(key)
        return key in self._base if found is None else found is not _GONE

    def __setitem__(self, key: K, value: V) -> None:
        self._length += key not in self
        self._changed[key] = value

    def __delitem__(self, key: K) -> None:
        if key not in self:
            raise KeyError(key)
        self._length -= 1
        self._changed[key] = _GONE

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[K]:
        """The keys of the base in their order, then the new ones."""
        changed = self._changed
        yield from (key for key in self._base if changed.get(key) is not _GONE)
        yield from (k for k, v in changed.items() if v is not _GONE and k not in self._base)


class _Endpoints(EndpointIndex):
    """The addresses and ports of services, with changes on top of another index."""

    def __init__(self, base: State) -> None:
        self.virtual_ips = dict(base.virtual_ips)
        self.published = dict(base.published)
        self._own: dict[Any, None] = {}

    def put(self, service_id: ServiceId, old: Endpoint, new: Endpoint) -> list[Any]:
        parts: tuple[tuple[dict[Any, Any], list[Any]], ...] = (
            (self.virtual_ips, [vip.network_id for vip in (*old.virtual_ips, *new.virtual_ips)]),
            (self.published, [(p.protocol, p.published_port) for p in (*old.ports, *new.ports)]),
        )
        for index, keys in parts:
            for key in keys:
                if key not in self._own and key in index:
                    index[key] = dict(index[key])
                self._own[key] = None
        return super().put(service_id, old, new)


class _Versions(PayloadVersions):
    """The versions of secrets or configs, with changes on top of another index."""

    def __init__(self, base: PayloadVersions) -> None:
        super().__init__()
        self._base = base

    def of(self, name: str) -> Any:
        found = self._of_name.get(name)
        return self._base.of(name) if found is None else found

    def put(self, payload_id: PayloadId, old: Payload | None, new: Payload | None) -> None:
        for item in filter(None, (old, new)):
            self._of_name.setdefault(item.spec.name, dict(self._base.of(item.spec.name)))
        super().put(payload_id, old, new)
        for item in filter(None, (old, new)):
            self._of_name.setdefault(item.spec.name, {})  # without versions: not the base's


class Overlay(State):
    """A state to which writes without tasks may be applied."""

    def __init__(self, base: State) -> None:
        layered: Any = {name: Layer(base.of(kind)) for name, kind in KINDS.items()}
        named: Any = {name: Layer(base.ids_of_names(kind)) for name, kind in KINDS.items()}
        self._base_state = base
        self.cluster = base.cluster
        self._objects, self._names = layered, named
        self.nodes, self.services = self.of(NODE), self.of(SERVICE)
        self.networks = self.of(NETWORK)
        self.service_of_name = self.ids_of_names(SERVICE)
        self.network_of_name = self.ids_of_names(NETWORK)
        self.ingress_network = base.ingress_network
        self._endpoints = _Endpoints(base)
        self.virtual_ips = self._endpoints.virtual_ips
        self.published = self._endpoints.published
        self.payloads = {name: _Versions(base.payloads[name]) for name in PAYLOAD_KINDS}
        derived: Any = SimpleNamespace(derived=dict(base.idle_blocks.derived))
        self.idle_blocks = derived
        self.unreadable = dict(base.unreadable)

    def __getattr__(self, name: str) -> Any:
        """What no change of a stack touches: tasks above all. They are those of the base."""
        return getattr(self.__dict__["_base_state"], name)

    def tasks_of_service(self, service_id: ServiceId) -> Any:
        return self._base_state.tasks_of_service(service_id)

    def free_ports(self, service: Service, kept: Container[tuple[Protocol, int]]) -> None:
        """Count ports that the service publishes as free, but for those that users chose and that
        are `kept`. What it gets later is counted when it is applied.
        """
        endpoint = service.endpoint
        chosen = [(one.protocol, one.published_port) for one in service.spec.endpoint_spec.ports]
        ports = tuple(
            port
            for port in endpoint.ports
            if (key := (port.protocol, port.published_port)) not in chosen or key in kept
        )
        self._endpoints.put(service.id, endpoint, replace(endpoint, ports=ports))

    def apply(self, writes: Writes) -> set[Any]:
        """Apply writes that have no tasks."""
        has_tasks = writes.tasks or writes.removed_tasks
        assert not has_tasks, "a stack has no tasks"
        if writes.cluster is not None:
            self.cluster = writes.cluster
        for item in writes.objects:
            kind = kind_of(item)
            objects: Any = self.of(kind)
            old = objects.get(item.id)
            objects[item.id] = item
            self._follow(kind, item.id, old, item)
        for name in writes.removed:
            kind_name, object_id = split_name(name)
            kind = KINDS[kind_name]
            if self.unreadable.pop(name, None) is None:
                self._follow(kind, object_id, self._objects[kind_name].pop(object_id), None)
        return set()

    def _follow(
        self, kind: Kind[Any, Any], object_id: Any, old: Object | None, new: Object | None
    ) -> None:
        """Update what is derived from the object."""
        self._rename(kind, old, new)
        if isinstance(new or old, Service):
            had = old.endpoint if isinstance(old, Service) else NO_ENDPOINT
            has = new.endpoint if isinstance(new, Service) else NO_ENDPOINT
            self._endpoints.put(object_id, had, has)
        elif isinstance(new or old, Payload):
            self.payloads[kind.name].put(object_id, old, new)  # type: ignore[arg-type]
        elif isinstance(new, Network) and new.spec.ingress:
            self.ingress_network = new.id
        elif new is None and object_id == self.ingress_network:
            self.ingress_network = None
