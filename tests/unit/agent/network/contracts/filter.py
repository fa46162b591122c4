"""The contract of every Filter: rules are written, changed, repaired and removed."""

from functools import partial

import msgspec

from agent.network.base import ControlPlane, DesiredEndpoint, DesiredOverlay
from agent.network.filter.base import Filter
from agent.network.filter.host import PLAINTEXT
from agent.network.filter.senders import SPOOFED
from pyswarm_core.controlplane import ControlEndpoint, ControlHost
from pyswarm_core.ids import TaskId
from pyswarm_core.specs import PortConfig
from tests.unit.agent.network.contracts.bench import (
    ADDRESSES,
    APP,
    A,
    B,
    Bench,
    endpoint,
    overlay,
)

PORT = PortConfig(target_port=80, published_port=8080)
CHAIN = "mesh_tcp_8080"


def mesh(bench: Bench) -> DesiredOverlay:
    return msgspec.structs.replace(overlay(bench, 1, APP), ingress=True)


def published(*tasks: TaskId) -> DesiredEndpoint:
    return msgspec.structs.replace(endpoint(*tasks), ports=(PORT,))


class FilterContract:
    """Inherit and provide the fixture `bench`, which removes everything from both hosts
    afterwards.
    """

    def test_rules_come_with_the_first_network_and_go_with_the_last(self, bench: Bench) -> None:
        part = bench.dataplane(1).parts.filter
        bench.run(1, lambda: part.sync([overlay(bench, 1, APP)]))
        assert bench.rules(1)
        assert bench.run(1, part.check) == ()
        bench.run(1, lambda: part.sync([]))
        assert bench.rules(1) == ""
        assert bench.run(1, part.check) == ()
        assert (part.dropped(SPOOFED), part.dropped(PLAINTEXT)) == (0, 0)
        assert part.refused == {}

    def test_the_control_plane_is_closed_as_it_changes(self, bench: Bench) -> None:
        part = bench.dataplane(1).parts.filter
        for address in ("192.0.2.77", "2001:db8::77"):
            host = ControlHost(addresses=(address,), endpoints=(ControlEndpoint(port=2377),))
            control = ControlPlane(hosts=(host,))
            bench.run(1, partial(part.sync, [overlay(bench, 1, APP)], control=control))
            assert f"{address} . 2377" in bench.rules(1)
            assert bench.run(1, part.check) == ()
            assert part.refused == {}
        bench.run(1, lambda: part.sync([overlay(bench, 1, APP)]))
        assert "2377" not in bench.rules(1)

    def test_a_published_port_is_forwarded_to_its_backends_as_they_change(
        self, bench: Bench
    ) -> None:
        part, one, other = bench.dataplane(1).parts.filter, published(A), published(B)
        bench.run(1, lambda: part.sync([mesh(bench)], [one]))
        assert CHAIN in bench.rules(1)
        assert ADDRESSES[A] in bench.rules(1)
        assert bench.run(1, lambda: part.update([one], [other]))
        assert ADDRESSES[B] in bench.rules(1)
        assert ADDRESSES[A] not in bench.rules(1)
        assert bench.run(1, part.check) == ()
        assert bench.run(1, lambda: part.update([other], []))
        assert CHAIN not in bench.rules(1)
        assert bench.run(1, part.check) == ()

    def test_an_endpoint_without_ports_changes_nothing(self, bench: Bench) -> None:
        part = bench.dataplane(1).parts.filter
        bench.run(1, lambda: part.sync([mesh(bench)]))
        before = bench.rules(1)
        assert bench.run(1, lambda: part.update([], [endpoint(A)]))
        assert bench.rules(1) == before

    def test_disturbed_rules_are_noticed_and_healed(self, bench: Bench) -> None:
        part = bench.dataplane(1).parts.filter
        self._disturbed(bench, part)
        assert [drift.kind for drift in bench.run(1, part.check)] == ["rules"]
        bench.run(1, lambda: part.sync([mesh(bench)], [published(A)]))
        assert ADDRESSES[A] in bench.rules(1)
        assert bench.run(1, part.check) == ()

    def test_an_update_of_disturbed_rules_asks_for_a_sync(self, bench: Bench) -> None:
        part = bench.dataplane(1).parts.filter
        self._disturbed(bench, part)
        assert not bench.run(1, lambda: part.update([published(A)], [published(B)]))

    def _disturbed(self, bench: Bench, part: Filter) -> None:
        bench.run(1, lambda: part.sync([mesh(bench)], [published(A)]))
        assert bench.run(1, part.check) == ()
        bench.disturb_rules(1)
