"""The faults that a host reports, and for how long."""

from agent.network.base import Fault
from agent.overlays.faults import Faults
from pyswarm_core.clock import Instant
from pyswarm_core.ids import NetworkId
from pyswarm_core.limits import FAULT_AFTER, FAULT_KEPT, FAULTS_MAX

NET, OTHER = NetworkId("net"), NetworkId("other")


def fault(network_id: NetworkId = NET, reason: str = "why", *, blocks: bool = True) -> Fault:
    return Fault(network_id=network_id, reason=reason, blocks=blocks)


def test_a_fault_is_reported_while_its_network_is_carried_and_a_while_after() -> None:
    faults = Faults()
    assert faults.synced((fault(),), [NET], Instant(0)) == [fault()]
    assert faults.synced((fault(),), [NET], Instant(1)) == []
    # Its tasks were moved away, and the network with them: nothing tries the entry now.
    faults.synced((), [OTHER], Instant(2))
    assert faults.current(Instant(3)) == (fault(),)
    assert faults.current(Instant(2 + FAULT_KEPT)) == ()


def test_a_network_that_is_tried_again_and_works_has_no_fault() -> None:
    faults = Faults()
    faults.synced((fault(),), [NET], Instant(0))
    faults.synced((), [], Instant(1))
    faults.synced((), [NET], Instant(2))
    assert faults.current(Instant(3)) == ()


def test_a_host_is_at_fault_as_a_whole_after_some_tries() -> None:
    faults = Faults()
    for _ in range(FAULT_AFTER - 1):
        faults.sync_failed("no nft")
    assert faults.current(Instant(0)) == ()
    faults.sync_failed("no nft")
    assert faults.current(Instant(0)) == (fault(NetworkId(""), "no nft"),)
    faults.synced((), [], Instant(0))
    assert (faults.current(Instant(0)), faults.sync_error) == ((), "")


def test_of_many_blocking_faults_are_reported_first_one_of_each_network() -> None:
    faults = Faults()
    for number in range(1000):
        faults.set_invalid(number, [fault(OTHER, f"nonsense {number}", blocks=False)])
    many = tuple(fault(NET, f"entry {number}") for number in range(1000))
    last = fault(NetworkId("last"))
    faults.synced((*many, last), [NET, last.network_id], Instant(0))
    found = faults.current(Instant(0))
    assert len(found) == FAULTS_MAX
    assert set(found[:2]) == {many[0], last}
    assert all(one.blocks for one in found)
