"""Creating and removing networks. PURE: state, request and the host's routes in, writes out."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

import msgspec

from controller.api.changes.unreadable import NAME, remove_unreadable
from controller.api.queries.lookup import find
from controller.api.queries.members import networks_of
from controller.brain.allocator.encryption import with_first_key
from controller.brain.allocator.subnets import (
    check_subnet,
    check_subnet6,
    choose_subnet,
    choose_subnet6,
    range_of,
)
from controller.brain.allocator.vni import allocate_vni
from controller.brain.storable import require_storable
from pyswarm_core import limits
from pyswarm_core.clock import Instant
from pyswarm_core.decision import Writes
from pyswarm_core.errors import AlreadyExists, Conflict, Taken, Unavailable, invalid, quoted
from pyswarm_core.ids import IdSource, NetworkId
from pyswarm_core.kinds import NETWORK
from pyswarm_core.objects import Network, Version
from pyswarm_core.specs import PREDEFINED_NETWORKS, NetworkSpec, ipv4_config, ipv6_config
from pyswarm_core.state import State
from pyswarm_core.validation import network_problems, require

_NAMED = 5
INGRESS = NetworkSpec(name="ingress", ingress=True)
"""The spec of the ingress network, if it is created for the first service that publishes."""


class Allocated(NamedTuple):
    """The allocations of a new network: its subnets, its VNI, and the next VNI to try."""

    subnet: str
    subnet6: str
    vni: int
    next_vni: int


def create_network(
    state: State, spec: NetworkSpec, routes: Iterable[str], now: Instant, ids: IdSource
) -> tuple[Writes, Network]:
    """A new network with the requested subnets, or free ones of the cluster's pools.

    Raises InvalidArgument, AlreadyExists (the name, the ingress network), Conflict (the subnet
    overlaps a network or one of the host's `routes`; no subnet or VNI is left), Unavailable (too
    many networks).
    """
    if len(state.networks) >= limits.NETWORKS_MAX:
        raise Unavailable(f"there are {limits.NETWORKS_MAX} networks, which is the limit")
    require(network_problems(spec))
    _require_new(state, spec)
    allocated = _allocate(state, spec, routes)
    (network_id,) = ids.draw(1)
    network = Network(
        id=NetworkId(network_id),
        spec=spec,
        subnet=allocated.subnet,
        subnet6=allocated.subnet6,
        vni=allocated.vni,
        version=Version(index=1),
        created_at=now,
        updated_at=now,
    )
    _require_room(network)
    require_storable(f"network {quoted(spec.name)}", network, limits.NETWORK_BYTES_MAX)
    cluster = msgspec.structs.replace(state.cluster, next_vni=allocated.next_vni)
    if spec.encrypted:
        cluster = with_first_key(cluster, now, ids)
    return Writes(cluster=cluster, objects=(network,)), network


def remove_network(state: State, ref: str) -> tuple[Writes, Network]:
    """Remove a network; with the last encrypted one, the keys.

    Raises NotFound, and Conflict for a predefined one, or naming the services that still use it.
    """
    if (unreadable := remove_unreadable(state, NETWORK, ref)) is not None:
        writes, network_id = unreadable
        return writes, Network(id=network_id, spec=NetworkSpec(name=NAME), subnet="", vni=0)
    network = find(state, NETWORK, ref)
    if network.id in PREDEFINED_NETWORKS:
        raise Conflict(f"{network.id} is a pre-defined network and cannot be removed")
    users = list(islice(_users(state, network.id), _NAMED + 1))
    if users:
        more = " and others" if len(users) > _NAMED else ""
        raise Conflict(
            f"network {quoted(network.spec.name)} is in use by {', '.join(users[:_NAMED])}{more}: "
            "remove them first"
        )
    cluster = None
    others = (other for other in state.networks.values() if other.id != network.id)
    if network.spec.encrypted and not any(other.spec.encrypted for other in others):
        cluster = msgspec.structs.replace(state.cluster, encryption_keys=())
    return Writes(cluster=cluster, removed=(NETWORK.object_name(network.id),)), network


def _require_new(state: State, spec: NetworkSpec) -> None:
    if spec.name in state.network_of_name:
        taken = state.network_of_name[spec.name]
        raise AlreadyExists(f"network with name {spec.name} already exists, with the id {taken}")
    if spec.ingress and state.ingress_network is not None:
        name = state.networks[state.ingress_network].spec.name
        raise AlreadyExists(f"network {quoted(name)} is the ingress network: there can be only one")


def _require_room(network: Network) -> None:
    span = range_of(network)
    if span.count == 1 and span.gateway_block is not None:
        config = ipv4_config(network.spec)
        reason = f"{span.cidr} is a single block: expected its first address, or a larger subnet"
        raise invalid("--gateway", config.gateway, reason)


def _allocate(state: State, spec: NetworkSpec, routes: Iterable[str]) -> Allocated:
    try:
        return _allocated(state, spec, routes)
    except Taken as error:
        holder = state.network_of_name[error.holder]
        raise Taken(str(error), holder, error.hidden) from None


def _allocated(state: State, spec: NetworkSpec, routes: Iterable[str]) -> Allocated:
    networks = state.networks.values()
    taken = {network.spec.name: network.subnet for network in networks}
    requested = ipv4_config(spec).subnet
    if requested:
        subnet = check_subnet(requested, taken, routes)
    else:
        settings = state.cluster.spec
        pools, size = settings.default_address_pool, settings.subnet_size
        subnet = choose_subnet(pools, size, taken, routes)
    vni, next_vni = allocate_vni(state.cluster.next_vni, {one.vni: None for one in networks})
    subnet6 = ""
    if spec.enable_ipv6:
        taken6 = {network.spec.name: network.subnet6 for network in networks if network.subnet6}
        requested6 = ipv6_config(spec).subnet
        subnet6 = str(
            check_subnet6(requested6, subnet, taken6)
            if requested6
            else choose_subnet6(state.cluster.id, vni, taken6)
        )
    return Allocated(str(subnet), subnet6, vni, next_vni)


def _users(state: State, network_id: NetworkId) -> Iterator[str]:
    """Services that join it, and those with tasks, not ended, that do."""
    for service in state.services.values():
        if network_id in networks_of(state, service):
            leaving = " (being removed)" if service.removing else ""
            kind = "container" if service.spec.mode.is_container else "service"
            yield f"{kind} {quoted(service.spec.name)}{leaving}"
