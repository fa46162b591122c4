"""What nodes report of their copies: what is believed, and what is written."""

import pytest
from msgspec.structs import replace

from controller.api.changes.moving.measured import measured
from pyswarm_core.clock import MINUTE, Instant
from pyswarm_core.decision import Writes
from pyswarm_core.ids import NodeId
from pyswarm_core.state import State
from pyswarm_core.volumes.volume import MeasuredVolume, Volume, VolumeSpec, VolumeUsage
from tests.fixtures import build
from tests.fixtures.build import NOW

N1, N2 = NodeId("n1"), NodeId("n2")


def world(*volumes: Volume) -> State:
    state = build.state(nodes=build.nodes(2))
    state.apply(Writes(objects=volumes))
    return state


def usage(size: int = 1 << 20, *, used: int = 0, at: int = NOW) -> VolumeUsage:
    return VolumeUsage(bytes=size, inodes=7, measured_at=Instant(at), last_used_at=Instant(used))


def test_a_report_is_kept_with_its_node() -> None:
    data = build.volume("data", "n1")
    (found,) = measured(world(data), N1, [MeasuredVolume(data.id, usage())], NOW)
    assert found == replace(data, usage=(replace(usage(), node_id=N1),))
    assert found.size == 1 << 20


@pytest.mark.parametrize("node", ["n2", "unknown"])
def test_of_other_nodes_and_unknown_volumes_nothing_is_taken(node: str) -> None:
    data = build.volume("data", "n1")
    reports = [MeasuredVolume(data.id, usage())]
    assert measured(world(data), NodeId(node), reports, NOW) == []
    assert measured(world(), N1, reports, NOW) == []


def test_impossible_numbers_are_bounded() -> None:
    data = build.volume("data", "n1")
    told = VolumeUsage(
        bytes=1 << 63, inodes=-1, measured_at=Instant(NOW + MINUTE), last_used_at=Instant(1 << 62)
    )
    (found,) = measured(world(data), N1, [MeasuredVolume(data.id, told)], NOW)
    (one,) = found.usage
    assert (one.bytes, one.inodes) == (1 << 62, 0)
    assert one.measured_at == one.last_used_at == NOW


@pytest.mark.parametrize(
    ("told", "is_written"),
    [
        (usage(), False),
        (usage((1 << 20) + 1_000), False),
        (usage(2 << 20), True),
        (usage(at=NOW + 59 * MINUTE), False),
        (usage(at=NOW + 60 * MINUTE), True),
        (usage(used=1), True),
    ],
)
def test_small_differences_are_not_written(told: VolumeUsage, is_written: bool) -> None:
    data = replace(build.volume("data", "n1"), usage=(replace(usage(), node_id=N1),))
    later = Instant(NOW + 60 * MINUTE)
    assert bool(measured(world(data), N1, [MeasuredVolume(data.id, told)], later)) is is_written


def test_a_report_of_use_alone_keeps_what_was_measured() -> None:
    data = replace(build.volume("data", "n1"), usage=(replace(usage(), node_id=N1),))
    used = VolumeUsage(last_used_at=NOW)
    (found,) = measured(world(data), N1, [MeasuredVolume(data.id, used)], NOW)
    assert found.usage == (replace(usage(), node_id=N1, last_used_at=NOW),)


def test_of_a_copy_that_is_gone_nothing_is_kept() -> None:
    data = build.volume("data", "n2")
    data = replace(data, usage=(replace(usage(), node_id=N1),))
    (found,) = measured(world(data), N2, [MeasuredVolume(data.id, usage(5))], NOW)
    assert [one.node_id for one in found.usage] == [N2]


def test_of_more_reports_than_a_message_may_have_the_first_count() -> None:
    data, other = build.volume("data", "n1"), build.volume("other", "n1")
    reports = [MeasuredVolume(data.id, usage(i)) for i in range(1_000)]
    found = measured(world(data, other), N1, [*reports, MeasuredVolume(other.id, usage())], NOW)
    assert [one.id for one in found] == [data.id]


def test_the_size_of_shared_files_counts_once() -> None:
    both = (usage(100, at=NOW), usage(200, at=NOW - 1))
    local, shared = VolumeSpec(name="a"), VolumeSpec(name="a", driver="nfs")
    data = build.volume("data", "n1", "n2")
    assert replace(data, spec=local, usage=both).size == 300
    assert replace(data, spec=shared, usage=both).size == 100
    assert data.size is None
