"""The kinds of stored objects, one entry each. PURE.

Code that treats all kinds alike iterates over this table: keys, encoding, saving, loading, the
state and its names, events, lookup, `ls`, `inspect` and `rm`. Behaviour of single kinds is a hook
in the layer that has it, found by the kind's name. CONTRIBUTING.md has the checklist for a new
kind.

Tasks are no entry: many of them share one value of the store (chunks.py), and there may be a
million. The cluster is an entry, but not in `KINDS`: there is exactly one, and it is not looked up.
"""

from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from functools import cache
from ipaddress import IPv4Network, IPv6Network
from typing import Any, Generic, NewType, TypeVar, cast

import msgspec
from google.protobuf.message import Message

from pyswarm_core.api.v1 import objects_pb2
from pyswarm_core.codec import from_proto, to_proto
from pyswarm_core.identity.users import STACK_LABEL, User, UserId
from pyswarm_core.ids import NetworkId, NodeId, ServiceId
from pyswarm_core.natural import natural
from pyswarm_core.objects import (
    Cluster,
    Network,
    Node,
    NodeDescription,
    Object,
    PreviousSpec,
    Service,
)
from pyswarm_core.payloads.payload import Config, PayloadId, Secret
from pyswarm_core.specs import PREDEFINED_NETWORKS
from pyswarm_core.stacks.stack import Stack, StackId
from pyswarm_core.volumes.volume import Volume, VolumeId

Item = TypeVar("Item", bound=Object)
Id = TypeVar("Id", bound=str)
S = TypeVar("S", bound=msgspec.Struct)
ObjectName = NewType("ObjectName", str)
"""`service/<id>`: the name of an object in writes, quarantine and log."""
Storable = Object | PreviousSpec | NodeDescription


class Subscriber(StrEnum):
    """Parts of the leader that receive changed objects, beside the store and the events, which
    receive all of them.
    """

    WATCHES = "watches"
    """Watches of a service."""
    OVERLAYS = "overlays"
    """Sessions of the nodes that are on a network."""
    NODES = "nodes"
    """Liveness of nodes, and their sessions."""
    CALLERS = "callers"
    """Open calls of removed and changed callers."""


class Kind(msgspec.Struct, Generic[Item, Id], frozen=True, kw_only=True):
    """A kind of objects."""

    name: str
    """Its word in keys (`<prefix>/service/<id>`), events, errors and commands."""
    id_type: Callable[[str], Id]
    struct: type[Item]
    message: type[Message]
    """Its message, in the store and on the wire: the struct's fields, by name."""
    title: Callable[[Item], str] = lambda item: _spec(item).name
    """The display name of an object."""
    unique_name: Callable[[Item], str | None] = lambda item: _spec(item).name
    """The name that is unique within the kind; None: the object has none."""
    labels: Callable[[Item], Mapping[str, str]] = lambda item: _spec(item).labels
    order: Callable[[Item], Any] = lambda item: natural(_spec(item).name)
    """The order of lists."""
    sensitive: tuple[str, ...] = ()
    """Fields that no API returns, as `spec.data`, and that are stored encrypted
    (controller/identity/envelope.py). Each has an empty default and is in no tuple.
    """
    check: Callable[[Item], None] = lambda _: None
    """Raises ValueError for an object of the store that is not usable."""
    subscribers: tuple[Subscriber, ...] = ()

    def object_name(self, object_id: Id) -> ObjectName:
        """The object name of that id."""
        return ObjectName(f"{self.name}/{object_id}")

    def decode(self, data: bytes) -> Item:
        """Decode a stored object. Raises an error for bytes of anything else."""
        item = from_proto(self.struct, self.message.FromString(data))
        self.check(item)
        return item

    def shown(self, item: Item) -> Item:
        """The object with the defaults of its sensitive fields, as any caller may see it."""
        for path in self.sensitive:
            item = _without(item, path)
        return item


def _spec(item: Any) -> Any:
    return item.spec


def _check_network(network: Network) -> None:
    """Raise ValueError for subnets that are none: every comparison with the subnets of all networks
    would fail at them. Lists also have predefined networks, which have none.
    """
    if network.subnet or network.id not in PREDEFINED_NETWORKS:
        IPv4Network(network.subnet)
    if network.subnet6:
        IPv6Network(network.subnet6)


CLUSTER = Kind(
    name="cluster",
    id_type=str,
    struct=Cluster,
    message=objects_pb2.Cluster,
    sensitive=("encryption_keys", "unlock_key", "worker_token", "scrape_token", "ca.key"),
)
NODE = Kind(
    name="node",
    id_type=NodeId,
    struct=Node,
    message=objects_pb2.Node,
    title=lambda node: node.description.hostname,
    unique_name=lambda _: None,  # a host that left and joined again has its former name
    order=lambda node: (natural(node.description.hostname), node.number),
    subscribers=(Subscriber.NODES, Subscriber.CALLERS),
)
NETWORK = Kind(
    name="network",
    id_type=NetworkId,
    struct=Network,
    message=objects_pb2.Network,
    check=_check_network,
    subscribers=(Subscriber.OVERLAYS,),
)
SERVICE = Kind(
    name="service",
    id_type=ServiceId,
    struct=Service,
    message=objects_pb2.Service,
    unique_name=lambda service: None if service.removing else service.spec.name,
    sensitive=("registry_login",),
    subscribers=(Subscriber.WATCHES,),
)
VOLUME = Kind(
    name="volume",
    id_type=VolumeId,
    struct=Volume,
    message=objects_pb2.Volume,
    unique_name=lambda volume: None if volume.removing else volume.spec.name,
    sensitive=("secret_opts",),
)
SECRET = Kind(
    name="secret",
    id_type=PayloadId,
    struct=Secret,
    message=objects_pb2.Payload,
    unique_name=lambda secret: secret.title,
    sensitive=("data",),
)
CONFIG = Kind(
    name="config",
    id_type=PayloadId,
    struct=Config,
    message=objects_pb2.Payload,
    unique_name=lambda config: config.title,
)
STACK = Kind(
    name="stack",
    id_type=StackId,
    struct=Stack,
    message=objects_pb2.Stack,
    labels=lambda stack: {STACK_LABEL: stack.spec.name},
    sensitive=("logins",),
)
USER = Kind(
    name="user",
    id_type=UserId,
    struct=User,
    message=objects_pb2.User,
    sensitive=("tokens",),
    subscribers=(Subscriber.CALLERS,),
)

KINDS: dict[str, Kind[Any, Any]] = {
    kind.name: kind for kind in (NODE, NETWORK, VOLUME, SECRET, CONFIG, STACK, SERVICE, USER)
}
"""By name. A kind comes after the kinds that it refers to: objects are saved in this order, and
deleted in the reverse one. A stack comes before its services: it says what is missing of them.
"""
_PARTS: Mapping[type[msgspec.Struct], type[Message]] = {
    PreviousSpec: objects_pb2.PreviousSpec,
    NodeDescription: objects_pb2.NodeDescription,
}


def in_order() -> Iterator[tuple[str, ...]]:
    """The kinds, of whose objects those of a later part are stored once the store has those of the
    earlier ones: versions before what names them, and stacks before what is missing of them.
    """
    first = ((SECRET.name, CONFIG.name), (STACK.name,))
    yield from first
    yield tuple(kind for kind in KINDS if not any(kind in part for part in first))


def kind_of(item: Object) -> Kind[Any, Any]:
    """The kind of an object."""
    name = _name_of(type(item))
    return KINDS.get(name, CLUSTER)


@cache
def _name_of(struct: type[Object]) -> str:
    return next(kind.name for kind in _all() if kind.struct is struct)


def split_name(name: str) -> tuple[str, str]:
    """The kind's name and the object's id; the id of `cluster` is empty. A chunk of tasks, named as
    by Keys.name_of, counts as its service.
    """
    kind, _, object_id = name.partition("/")
    return (SERVICE.name, object_id.partition("/")[0]) if kind == "chunk" else (kind, object_id)


def encode(value: Storable) -> bytes:
    """The object as it is stored. Raises ValueError or TypeError if no message can hold it."""
    message = kind_of(value).message if isinstance(value, Object) else _PARTS[type(value)]
    return to_proto(value, message()).SerializeToString()


def _all() -> Iterator[Kind[Any, Any]]:
    yield from KINDS.values()
    yield CLUSTER


def _without(item: S, path: str) -> S:
    field, _, rest = path.partition(".")
    if rest:
        if getattr(item, field) is None:
            return item
        return msgspec.structs.replace(item, **{field: _without(getattr(item, field), rest)})
    return msgspec.structs.replace(item, **{field: default_of(type(item), field)})


def default_of(struct: type[msgspec.Struct], name: str) -> Any:
    """The default of the field. Raises ValueError if it has none."""
    make = _default_of(struct, name)
    if make is None:
        raise ValueError(f"{struct.__name__}.{name} has no default")
    return make()


@cache
def _default_of(struct: type[msgspec.Struct], name: str) -> Callable[[], Any] | None:
    field = next(field for field in msgspec.structs.fields(struct) if field.name == name)
    if field.default_factory is not msgspec.NODEFAULT:
        return cast(Callable[[], Any], field.default_factory)
    default = field.default
    return None if default is msgspec.NODEFAULT else lambda: default
