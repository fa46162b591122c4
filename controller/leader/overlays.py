"""The overlays that nodes receive for their networks. PURE (mutable; one owner).

What is the same for all nodes of a network, mainly its peers, is serialized once per change, in
slices of OVERLAY_SLICE peers; a node's message is that without itself, plus its own blocks. Each
change gives a network's overlay a new version; sessions compare versions.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from controller.brain.slices import Slices, batches
from controller.leader.endpoints.sets import Endpoints
from pyswarm_core.api.v1 import dispatcher_pb2
from pyswarm_core.codec import to_proto
from pyswarm_core.identity.certificates import EncryptionKey
from pyswarm_core.ids import NetworkId, NodeId
from pyswarm_core.limits import NODES_MAX, OVERLAY_BYTES_KEPT, OVERLAY_SLICE
from pyswarm_core.objects import Network, Node
from pyswarm_core.state import State


class OverlayMessage(NamedTuple):
    """What one node receives for one network."""

    version: int
    message: bytes
    """A serialized Overlay."""


class _Version(NamedTuple):
    number: int
    network: Network
    keys: tuple[EncryptionKey, ...]


class _Making:
    """A version of a network that is being serialized; all sessions that need it share the work."""

    def __init__(self, version: int, work: Slices[bytes]) -> None:
        self.version = version
        self.is_broken = False
        self._work = work
        self._made: bytes | None = None

    def share(self) -> Slices[bytes]:
        """Work on it in slices until it is made, whichever caller does the work."""
        while self._made is None:
            if self.is_broken:
                raise RuntimeError("another session failed to serialize the network")
            self.is_broken = True  # unless the slice succeeds
            try:
                next(self._work)
            except StopIteration as done:
                self._made = done.value
            self.is_broken = False
            if self._made is None:
                yield
        return self._made


class OverlayMessages:
    """All overlays of one term."""

    def __init__(self, state: State, endpoints: Endpoints) -> None:
        self.peers_made = 0
        """The work done so far; a network counts as one more."""
        self._state = state
        self._endpoints = endpoints
        self._slice_ends = OVERLAY_SLICE
        self._count = 0
        self._versions: dict[NetworkId, _Version] = {}
        self._shared: dict[NetworkId, bytes] = {}
        self._bytes_kept = 0
        self._making: dict[NetworkId, _Making] = {}

    def changed(self, networks: Iterable[NetworkId]) -> Collection[NodeId]:
        """These networks changed: return the nodes to send that to. If it takes more than NODES_MAX
        lookups to find them, and for the ingress network, these are all nodes.
        """
        state = self._state
        numbers: dict[int, None] = {}
        looks = 0
        is_everybody = False
        for network_id in dict.fromkeys(networks):
            self._versions.pop(network_id, None)
            blocks = state.idle_blocks.of_network(network_id)
            looks += len(blocks)
            is_everybody = is_everybody or looks > NODES_MAX or network_id == state.ingress_network
            if not is_everybody:
                numbers.update(dict.fromkeys(blocks))
        if is_everybody:
            return tuple(state.nodes)
        found = [state.node_of_number.get(number) for number in numbers]
        return [node_id for node_id in found if node_id is not None]

    def moved(self, old: Node, node: Node) -> Collection[NodeId]:
        """The nodes to send a change of the node's addresses on the underlay to: those that share a
        network with it.
        """
        state = self._state
        is_moved = old.status.addr != node.status.addr
        if not is_moved and old.status.addrs6 == node.status.addrs6:
            return ()
        networks = dict(state.idle_blocks.networks_of(node.number))
        if state.ingress_network is not None:
            networks[state.ingress_network] = None
        return self.changed([n for n in networks if is_moved or state.networks[n].meshes6])

    def mesh_changed(self) -> Collection[NodeId]:
        """The ingress network, or its nodes, changed: return all nodes."""
        self.changed(filter(None, (self._state.ingress_network,)))
        return tuple(self._state.nodes)

    def version(self, network_id: NetworkId) -> int:
        """The version of the network's overlay. The network exists."""
        network = self._state.networks[network_id]
        keys = self._state.cluster.encryption_keys if network.spec.encrypted else ()
        known = self._versions.get(network_id)
        if known is None or known.network is not network or known.keys is not keys:
            self._forget(network_id)
            if len(self._versions) >= len(self._state.networks):
                for gone in [n for n in self._versions if n not in self._state.networks]:
                    del self._versions[gone]
                    self._forget(gone)
            self._count += 1
            known = self._versions[network_id] = _Version(self._count, network, keys)
        return known.number

    def of_node(self, network_id: NetworkId, node_id: NodeId) -> Slices[OverlayMessage | None]:
        """What the node receives for the network; None if either no longer exists."""
        if network_id not in self._state.networks:
            return None
        version = self.version(network_id)
        shared = self._shared.get(network_id)
        if shared is None:
            making = self._making.get(network_id)
            if making is None or making.version != version or making.is_broken:
                making = _Making(version, self._make(network_id))
                self._making[network_id] = making
            shared = yield from making.share()
            if self._making.get(network_id) is making:
                del self._making[network_id]
            if network_id not in self._state.networks:
                return None
            # Otherwise it changed meanwhile, and is sent again.
            if self.version(network_id) == version:
                self._keep(network_id, shared)
        node = self._state.nodes.get(node_id)
        if node is None:
            return None
        network = self._state.networks[network_id]
        blocks = self._state.idle_blocks.of_network(network_id).get(node.number, ())
        own = dispatcher_pb2.Overlay(node_number=node.number, local_blocks=blocks)
        others = shared.replace(self._peers(network, [node]), b"", 1) if _is_peer(node) else shared
        return OverlayMessage(version, others + own.SerializeToString(deterministic=True))

    def _make(self, network_id: NetworkId) -> Slices[bytes]:
        """The network and all its peers."""
        network = self._state.networks[network_id]
        made = [self._head(network)]
        self.peers_made += 1
        for part in batches(tuple(self._members(network_id)), OVERLAY_SLICE):
            nodes = [self._state.nodes[node_id] for node_id in part if node_id in self._state.nodes]
            made.append(self._peers(network, [node for node in nodes if _is_peer(node)]))
            if self._look(len(part)):
                yield
        return b"".join(made)

    def _look(self, peers: int) -> bool:
        """Count the work; return whether the slice is over."""
        self.peers_made += peers
        if self.peers_made < self._slice_ends:
            return False
        self._slice_ends = self.peers_made + OVERLAY_SLICE
        return True

    def _members(self, network_id: NetworkId) -> Iterator[NodeId]:
        """The nodes of the network, with or without tasks on it; of the ingress network, all."""
        state = self._state
        if network_id == self._endpoints.mesh:
            yield from state.nodes
            return
        for number in state.idle_blocks.of_network(network_id):
            node_id = state.node_of_number.get(number)
            if node_id is not None:
                yield node_id

    def _head(self, network: Network) -> bytes:
        spec = network.spec
        overlay = dispatcher_pb2.Overlay(
            network_id=network.id,
            name=spec.name,
            vni=network.vni,
            subnet=network.subnet,
            mtu=spec.mtu,
            internal=spec.internal,
            subnet6=network.subnet6,
            gateway=next((c.gateway for c in spec.ipam.config if ":" not in c.gateway), ""),
            ingress=spec.ingress,
            encrypted=spec.encrypted,
            block_metadata=spec.block_metadata,
        )
        if spec.encrypted:
            for key in self._state.cluster.encryption_keys:
                to_proto(key, overlay.encryption_keys.add())
        return overlay.SerializeToString(deterministic=True)

    def _peers(self, network: Network, nodes: Sequence[Node]) -> bytes:
        """An Overlay with only these peers: such messages, concatenated, are one with all peers."""
        overlay = dispatcher_pb2.Overlay()
        blocks = self._state.idle_blocks.of_network(network.id)
        for node in nodes:
            overlay.peers.add(
                node_number=node.number,
                addr=node.status.addr,
                blocks=blocks.get(node.number, ()),
                addrs6=node.status.addrs6 if network.meshes6 else (),
            )
        return overlay.SerializeToString(deterministic=True)

    def _keep(self, network_id: NetworkId, shared: bytes) -> None:
        self._forget(network_id)
        # Nothing is evicted: nodes need all in the same order, so an LRU cache would always miss.
        if self._bytes_kept + len(shared) <= OVERLAY_BYTES_KEPT:
            self._shared[network_id] = shared
            self._bytes_kept += len(shared)

    def _forget(self, network_id: NetworkId) -> None:
        self._bytes_kept -= len(self._shared.pop(network_id, b""))
        self._making.pop(network_id, None)


def _is_peer(node: Node) -> bool:
    return bool(node.status.addr)
