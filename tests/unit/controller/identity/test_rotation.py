"""When a rotation of the CA ends."""

from msgspec.structs import replace

from controller.identity import ca
from controller.identity.rotation import begun, ended
from pyswarm_core.clock import SECOND, Instant
from pyswarm_core.decision import Writes
from pyswarm_core.objects import Node
from pyswarm_core.states import NodeState
from tests.fixtures import build
from tests.fixtures.build import NOW
from tests.fixtures.identity import FLEET

BEGAN = Instant(NOW + 3600 * SECOND)
OVER = Instant(BEGAN + 10 * SECOND)


def test_a_rotation_takes_ten_seconds_at_least() -> None:
    """Also of a fleet without nodes."""
    state = build.state()
    state.apply(Writes(cluster=begun(FLEET.cluster, BEGAN)))
    assert ended(state, BEGAN) is None
    assert ended(state, Instant(OVER - 1)) is None
    found = ended(state, OVER)
    assert found is not None
    assert found == replace(state.cluster, former_roots=(), updated_at=OVER)
    state.apply(Writes(cluster=found))
    assert ended(state, OVER) is None


def test_a_rotation_waits_for_every_node_that_is_not_down() -> None:
    cluster = begun(FLEET.cluster, BEGAN)
    node = build.node("n1")
    down = replace(node, status=replace(node.status, state=NodeState.DOWN))
    issuer = ca.identifier_of(cluster.ca)
    renewed = replace(node, certificate=replace(node.certificate, issuer=issuer))

    def ends(node: Node) -> bool:
        state = build.state()
        state.apply(Writes(cluster=cluster, objects=(node,)))
        return ended(state, OVER) is not None

    assert [ends(node), ends(down), ends(renewed)] == [False, True, True]
