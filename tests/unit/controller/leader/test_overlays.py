"""What nodes are told of networks: made once per change, in slices, by those it concerns."""

import pytest
from msgspec.structs import replace

from controller.brain.slices import finish
from controller.leader import overlays as telling
from controller.leader.overlays import OverlayMessages
from pyswarm_core.api.v1 import dispatcher_pb2
from pyswarm_core.decision import Writes
from pyswarm_core.identity.certificates import EncryptionKey
from pyswarm_core.ids import NetworkId, NodeId
from pyswarm_core.kinds import NETWORK
from pyswarm_core.objects import Block, Network, Node
from pyswarm_core.state import State
from tests.fixtures import build
from tests.unit.controller.leader.endpoints.build import ingress, known

NODES = 45
NET, FAR, MESH = NetworkId("net"), NetworkId("far"), NetworkId("ingress")
N1, N2 = NodeId("n1"), NodeId("n2")


def carried(network: Network, numbers: range) -> Network:
    blocks = [Block(cidr=f"10.128.{number}.0/26", node_number=number) for number in numbers]
    return replace(network, blocks=tuple(blocks))


def world() -> State:
    """`net` on all nodes, `far` on the last ten."""
    everywhere = carried(build.network("net"), range(1, NODES + 1))
    far = carried(build.network("far", "10.130.0.0/16", 4099), range(NODES - 9, NODES + 1))
    return build.state(nodes=build.nodes(NODES), networks=[everywhere, far])


def overlays_of(state: State) -> OverlayMessages:
    return OverlayMessages(state, known(state))


def read(overlays: OverlayMessages, network: NetworkId, node: NodeId) -> dispatcher_pb2.Overlay:
    told = finish(overlays.of_node(network, node))
    assert told is not None
    return dispatcher_pb2.Overlay.FromString(told.message)


def test_every_node_is_told_its_own_blocks_and_all_others_as_peers() -> None:
    overlays = overlays_of(world())
    for number in range(1, NODES + 1):
        overlay = read(overlays, NET, NodeId(f"n{number}"))
        assert overlay.node_number == number
        assert list(overlay.local_blocks) == [f"10.128.{number}.0/26"]
        others = [other for other in range(1, NODES + 1) if other != number]
        assert [peer.node_number for peer in overlay.peers] == others
        assert [list(peer.blocks) for peer in overlay.peers] == [
            [f"10.128.{other}.0/26"] for other in others
        ]


def test_peers_are_put_into_bytes_once_for_all_nodes() -> None:
    overlays = overlays_of(world())
    read(overlays, NET, N1)
    made = overlays.peers_made
    for number in range(2, NODES + 1):
        read(overlays, NET, NodeId(f"n{number}"))
    assert overlays.peers_made == made == NODES + 1


def test_the_peers_of_a_large_network_are_made_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling, "OVERLAY_SLICE", 10)
    overlays = overlays_of(world())
    work, before, taken = overlays.of_node(NET, N1), 0, []
    for _ in work:
        taken.append(overlays.peers_made - before)
        before = overlays.peers_made
    assert max(taken) <= 11
    assert len(taken) == NODES // 10
    assert len(read(overlays, NET, N1).peers) == NODES - 1


def test_sessions_that_are_told_at_once_make_the_peers_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(telling, "OVERLAY_SLICE", 10)
    overlays = overlays_of(world())
    first = overlays.of_node(NET, N1)
    others = [overlays.of_node(NET, NodeId(f"n{number}")) for number in (2, 3)]
    for work in (first, *others):
        next(work)
    first.close()  # its session ends before all is made
    told = [finish(work) for work in others]
    assert overlays.peers_made == NODES + 1
    for one in told:
        assert one is not None
        assert len(dispatcher_pb2.Overlay.FromString(one.message).peers) == NODES - 1


def test_peers_that_cannot_be_made_are_an_error_of_all_and_are_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(telling, "OVERLAY_SLICE", 10)
    overlays = overlays_of(world())
    works = [overlays.of_node(NET, N1), overlays.of_node(NET, NodeId("n2"))]
    for work in works:
        next(work)
    with monkeypatch.context() as broken:
        broken.setattr(overlays, "_peers", lambda *_: 1 / 0)
        for work, error in zip(works, (ZeroDivisionError, RuntimeError), strict=True):
            with pytest.raises(error):
                finish(work)
    assert len(read(overlays, NET, N1).peers) == NODES - 1


def test_what_changes_while_it_is_made_is_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling, "OVERLAY_SLICE", 10)
    state = world()
    overlays = overlays_of(state)
    work = overlays.of_node(NET, N1)
    next(work)
    state.apply(Writes(objects=(carried(state.networks[NET], range(1, 6)),)))
    overlays.version(NET)  # another session asks meanwhile
    told = finish(work)
    assert told is not None
    assert told.version != overlays.version(NET)
    assert len(read(overlays, NET, N1).peers) == 4


def test_a_network_that_goes_while_it_is_made_is_told_to_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(telling, "OVERLAY_SLICE", 10)
    state = world()
    overlays = overlays_of(state)
    work = overlays.of_node(NET, N1)
    next(work)
    state.apply(Writes(removed=(NETWORK.object_name(NET),)))
    assert finish(work) is None


def moved(state: State, node_id: NodeId, **status: object) -> tuple[Node, Node]:
    old = state.nodes[node_id]
    new = replace(old, status=replace(old.status, **status))
    state.apply(Writes(objects=(new,)))
    return old, new


def test_a_node_s_new_address_concerns_its_own_networks_alone() -> None:
    state = world()
    overlays = overlays_of(state)
    before = overlays.version(NET), overlays.version(FAR)
    nodes = overlays.moved(*moved(state, N1, addr="198.51.100.1"))
    assert list(nodes) == list(state.nodes)
    assert overlays.version(NET) > before[0]
    assert overlays.version(FAR) == before[1]
    assert read(overlays, NET, N2).peers[0].addr == "198.51.100.1"


def test_only_who_carries_a_network_is_told_of_it() -> None:
    state = world()
    overlays = overlays_of(state)
    assert overlays.changed([FAR]) == [f"n{number}" for number in range(NODES - 9, NODES + 1)]
    assert not overlays.moved(*moved(state, N1, addrs6=("2001:db8::1",)))


def test_who_carries_any_of_very_many_networks_is_everybody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(telling, "NODES_MAX", 9)
    state = world()
    assert list(overlays_of(state).changed([FAR])) == list(state.nodes)


def test_the_ingress_network_concerns_everybody() -> None:
    state = world()
    mesh = replace(ingress("ingress"), blocks=(), subnet6="fd00::/64")
    state.apply(Writes(objects=(mesh,)))
    overlays = overlays_of(state)
    before = overlays.version(MESH), overlays.version(NET)
    assert list(overlays.moved(*moved(state, N1, addrs6=("2001:db8::1",)))) == list(state.nodes)
    assert overlays.version(MESH) > before[0]
    assert overlays.version(NET) == before[1]
    assert list(overlays.mesh_changed()) == list(state.nodes)
    assert overlays.version(MESH) > before[0] + 1


def test_other_keys_are_another_version_of_encrypted_networks_alone() -> None:
    state = world()
    far = state.networks[FAR]
    state.apply(Writes(objects=(replace(far, spec=replace(far.spec, encrypted=True)),)))
    overlays = overlays_of(state)
    before = overlays.version(NET), overlays.version(FAR)
    key = EncryptionKey(number=1, secret=b"s")
    state.apply(Writes(cluster=replace(state.cluster, encryption_keys=(key,))))
    assert (overlays.version(NET), overlays.version(FAR) > before[1]) == (before[0], True)
    assert [told.number for told in read(overlays, FAR, NodeId(f"n{NODES}")).encryption_keys] == [1]


def test_what_is_kept_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling, "OVERLAY_BYTES_KEPT", 1_000)
    overlays = overlays_of(world())
    made = []
    for _ in range(2):
        for network in (NET, FAR):
            read(overlays, network, NodeId(f"n{NODES}"))
        made.append(overlays.peers_made)
    assert made[1] - made[0] == NODES + 1, "the smaller one is kept"


def test_networks_that_are_gone_are_forgotten() -> None:
    state = world()
    overlays = overlays_of(state)
    for number in range(100):
        network = build.network(f"x{number}", "10.131.0.0/16", 5000)
        state.apply(Writes(objects=(network,)))
        overlays.version(network.id)
        state.apply(Writes(removed=(NETWORK.object_name(network.id),)))
    assert len(overlays._versions) <= len(state.networks) + 1
