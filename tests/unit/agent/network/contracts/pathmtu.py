"""The contract of every PathMtu: what is measured, and which hosts are not judged."""

from collections.abc import Mapping

from tests.unit.agent.network.contracts.bench import Bench

NOBODY = "192.168.77.99"


def measure(bench: Bench, *addresses: str) -> tuple[bool, Mapping[str, int]]:
    part = bench.dataplane(1).parts.path_mtu
    changed = bench.run(1, lambda: part.measure(addresses, 1500))
    return changed, part.measured


class PathMtuContract:
    """Inherit and provide the fixture `bench`, which removes everything from both hosts
    afterwards.
    """

    def test_a_host_that_gets_full_packets_is_measured_whole(self, bench: Bench) -> None:
        bench.restart(1)
        there = bench.address(2)
        assert measure(bench, there) == (True, {there: 1500})
        assert measure(bench, there) == (False, {there: 1500})
        assert measure(bench) == (True, {})

    def test_a_narrow_path_is_measured_and_so_is_its_end(self, bench: Bench) -> None:
        bench.restart(1)
        there = bench.address(2)
        with bench.narrow(2, 1400):
            assert measure(bench, there) == (True, {there: 1400})
            assert measure(bench, there) == (False, {there: 1400})
        assert measure(bench, there) == (True, {there: 1500})

    def test_a_host_that_answers_nothing_is_not_judged(self, bench: Bench) -> None:
        bench.restart(1)
        there = bench.address(2)
        assert measure(bench, NOBODY, there) == (True, {there: 1500})
