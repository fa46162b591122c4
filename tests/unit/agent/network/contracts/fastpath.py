"""The contract of every FastPath: its rules and its use."""

from agent.network.base import DesiredOverlay
from agent.network.fastpath.base import Routed
from agent.network.overlay.plan import NO_PATHS
from tests.unit.agent.network.contracts.bench import (
    ADDRESSES,
    APP,
    OTHER,
    A,
    Bench,
    Inside,
    carry,
    overlay,
    plug_in,
    plugs,
)


def sync(bench: Bench, *overlays: DesiredOverlay) -> None:
    parts = bench.dataplane(1).parts
    routed = Routed(overlays, 1500, NO_PATHS, parts.overlay.devices_made)
    bench.run(1, lambda: parts.fast_path.sync(routed, parts.overlay.plugs))


def carried(bench: Bench) -> tuple[DesiredOverlay, DesiredOverlay]:
    """Two networks on the first host, with a task on one."""
    networks = overlay(bench, 1, APP), overlay(bench, 1, OTHER)
    carry(bench, 1, *networks)
    plug_in(bench, 1, A, Inside())
    return networks


class FastPathContract:
    """Inherit and provide the fixture `bench`, which removes everything from both hosts
    afterwards.
    """

    def test_networks_and_tasks_have_rules_while_they_are_there(self, bench: Bench) -> None:
        part = bench.dataplane(1).parts.fast_path
        app, other = carried(bench)
        sync(bench, app, other)
        assert part.use == (True, 2, 1)
        assert ADDRESSES[A] in bench.fast_path_rules(1)
        sync(bench, other)
        assert part.use == (True, 1, 0)
        sync(bench)
        assert part.use == (True, 0, 0)
        assert bench.fast_path_rules(1) == ""
        assert bench.run(1, part.check) == ()

    def test_it_forwards_to_what_was_written(self, bench: Bench) -> None:
        parts = bench.dataplane(1).parts
        networks = carried(bench)
        there = plugs(bench, 1)
        assert not parts.fast_path.forwards_to(there)
        sync(bench, *networks)
        assert parts.fast_path.forwards_to(there)
        sync(bench)
        assert not parts.fast_path.forwards_to(there)

    def test_disturbed_rules_are_noticed_and_healed(self, bench: Bench) -> None:
        part = bench.dataplane(1).parts.fast_path
        networks = carried(bench)
        sync(bench, *networks)
        assert bench.run(1, part.check) == ()
        bench.disturb_fast_path(1)
        assert [drift.kind for drift in bench.run(1, part.check)] == ["rules"]
        sync(bench, *networks)
        assert bench.run(1, part.check) == ()
        assert ADDRESSES[A] in bench.fast_path_rules(1)

    def test_what_is_about_to_be_written_is_not_judged(self, bench: Bench) -> None:
        parts = bench.dataplane(1).parts
        networks = carried(bench)
        sync(bench, *networks)
        assert bench.run(1, parts.fast_path.check) == ()
        parts.fast_path.moved(plugs(bench, 1))
        bench.disturb_fast_path(1)
        assert bench.run(1, parts.fast_path.check) == ()
        sync(bench, *networks)
        assert bench.run(1, parts.fast_path.check) == ()
