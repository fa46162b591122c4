"""The contract of every Overlay: devices, routes and tasks' interfaces, without rules."""

from itertools import pairwise

import msgspec
import pytest

from agent.network.base import UNLIMITED, Attachment, Bandwidth, NetworkFailed
from pyswarm_core.ids import TaskId
from tests.unit.agent.network.contracts.bench import (
    ADDRESSES,
    APP,
    OTHER,
    A,
    B,
    Bench,
    Inside,
    carry,
    overlay,
    plug_in,
    plugs,
)


class OverlayContract:
    """Inherit and provide the fixture `bench`, which removes everything from both hosts
    afterwards.
    """

    def test_tasks_of_one_network_reach_each_other_without_any_rules(self, bench: Bench) -> None:
        for number, task in ((1, A), (2, B)):
            carry(bench, number, overlay(bench, number, APP))
            wired = plug_in(bench, number, task, Inside())
            assert wired.path.endswith(task)
            assert tuple(wired.made) == wired.plugs
        assert bench.reaches(1, A, ADDRESSES[B])
        assert bench.reaches(2, B, ADDRESSES[A])

    def test_what_is_programmed_inside_comes_and_goes_with_the_namespace(
        self, bench: Bench
    ) -> None:
        part, inside = bench.dataplane(1).parts.overlay, Inside()
        carry(bench, 1, overlay(bench, 1, APP))
        made = plug_in(bench, 1, A, inside)
        again = plug_in(bench, 1, A, inside)
        assert (again.plugs, tuple(again.made)) == (made.plugs, ())
        assert plugs(bench, 1) == list(made.plugs) == list(part.plugs_of(A))
        bench.run(1, lambda: part.detach(A, inside))
        assert inside.asked == [("new", A, (APP,)), ("adopt", A, (APP,)), ("forget", A, ())]
        assert plugs(bench, 1) == []

    def test_bandwidth_is_that_of_the_attachment_until_it_changes(self, bench: Bench) -> None:
        part, inside = bench.dataplane(1).parts.overlay, Inside()
        carry(bench, 1, overlay(bench, 1, APP))
        first, then = Bandwidth(egress=10_000_000), Bandwidth(ingress=20_000_000)
        place = Attachment(network_id=APP, address=ADDRESSES[A], bandwidth=first)
        wired = bench.run(1, lambda: part.attach(A, [place], inside))
        assert [plug.bandwidth for plug in wired.plugs] == [first]
        for bandwidth in (then, UNLIMITED):
            bench.run(1, lambda bandwidth=bandwidth: part.limit(A, bandwidth))  # type: ignore[misc]
            assert [plug.bandwidth for plug in part.plugs_of(A)] == [bandwidth]

    def test_a_namespace_that_cannot_be_programmed_is_not_left(self, bench: Bench) -> None:
        part, inside = bench.dataplane(1).parts.overlay, Inside()
        carry(bench, 1, overlay(bench, 1, APP))
        inside.refuses = True
        with pytest.raises(NetworkFailed, match="no room for rules"):
            plug_in(bench, 1, A, inside)
        assert bench.run(1, part.found) == set()
        inside.refuses = False
        plug_in(bench, 1, A, inside)
        assert bench.run(1, part.found) == {A}

    def test_a_network_that_cannot_be_carried_gets_no_device(self, bench: Bench) -> None:
        part = bench.dataplane(1).parts.overlay
        keyless = msgspec.structs.replace(overlay(bench, 1, OTHER), encrypted=True)
        assert carry(bench, 1, overlay(bench, 1, APP), keyless) == ()
        assert (list(part.carried), list(part.refused)) == ([APP], [OTHER])
        assert bench.run(1, part.check) == ()
        place = Attachment(network_id=OTHER, address="10.129.1.2")
        with pytest.raises(NetworkFailed, match="network other is encrypted"):
            bench.run(1, lambda: part.attach(TaskId("t"), [place], Inside()))

    def test_devices_made_rises_with_devices_alone(self, bench: Bench) -> None:
        part = bench.dataplane(1).parts.overlay
        seen = [part.devices_made]
        for networks in ((APP,), (APP, OTHER), (APP, OTHER), (APP,), ()):
            carry(bench, 1, *(overlay(bench, 1, network) for network in networks))
            seen.append(part.devices_made)
        rises = [after > before for before, after in pairwise(seen)]
        assert rises == [True, True, False, True, True]

    def test_paths_and_published_networks_are_part_of_what_is_checked(self, bench: Bench) -> None:
        part, peer = bench.dataplane(1).parts.overlay, bench.address(2)
        carry(bench, 1, overlay(bench, 1, APP), published=[APP], paths={peer: 1400})
        assert part.underlay_mtu == 1500
        assert bench.run(1, part.check) == ()
        carry(bench, 1, overlay(bench, 1, APP))
        assert bench.run(1, part.check) == ()
