"""The judgement of daemons' memory under an attack."""

import pytest

from controller.grpc.peers import PARSED
from pyswarm_core.identity.limits import AUDIT_BYTES, AUDIT_BYTES_OTHER
from pyswarm_core.limits import EVENTS_KEPT
from tests.attack.memory import (
    AGENT_GROWTH_MAX,
    ALLOCATORS,
    CONTROLLER,
    LEAK_MAX,
    MIB,
    NOISE,
    STORES,
    Reading,
    grown,
    told,
)

AGENT = "agent of host1"
TIMES_S = (0.0, 60.0, 180.0, 240.0)


def readings(
    controller: tuple[int, ...], agent: tuple[int, ...] = (50, 51, 52, 52)
) -> list[Reading]:
    return [
        Reading(at_s, {CONTROLLER: one * MIB, AGENT: other * MIB})
        for at_s, one, other in zip(TIMES_S, controller, agent, strict=True)
    ]


@pytest.mark.parametrize(
    "controller", [(82, 122, 130, 140), (80, 100, 100, 90), (80, 100, 130, 144)]
)
def test_memory_that_flattens_is_no_leak(controller: tuple[int, ...]) -> None:
    assert grown(readings(controller)) == []


def test_a_leak_during_the_warm_up_counts() -> None:
    (found,) = grown(readings((80, 154, 154, 154)))
    assert found == (
        "controller: 74.0 MiB more than at the start: 80 MiB at the start, 154 MiB after the"
        " warm-up, 154 MiB at the half, 154 MiB at the end"
    )


def test_a_leak_goes_on_growing() -> None:
    (found,) = grown(readings((80, 90, 100, 117)))
    assert found.startswith("controller: 17.0 MiB more in the last 60 s: ")


def test_agents_grow_by_what_their_tasks_and_tunnels_take() -> None:
    (found,) = grown(readings((80, 90, 100, 100), (60, 122, 124, 125)))
    assert found.startswith("agent of host1: 65.0 MiB more than at the start")


@pytest.mark.parametrize("agent", [(59, 80, 84, 102), (60, 76, 82, 112), (59, 98, 98, 106)])
def test_an_agent_may_reach_late_what_its_allocators_keep(agent: tuple[int, ...]) -> None:
    assert grown(readings((80, 90, 100, 100), agent)) == []


def test_an_agent_that_grows_late_beyond_its_allocators_leaks() -> None:
    (found,) = grown(readings((80, 90, 100, 100), (59, 62, 62, 130)))[1:]
    assert found.startswith("agent of host1: 19.0 MiB more in the last 60 s: ")


def test_a_line_has_all_readings_of_a_daemon() -> None:
    assert list(told(readings((80, 90, 100, 100))))[1] == (
        "agent of host1: 50 MiB at the start, 51 MiB after the warm-up, 52 MiB at the half,"
        " 52 MiB at the end"
    )


def test_the_bounds_are_those_of_the_stores() -> None:
    events, certificates = EVENTS_KEPT * 0.6 * 1024, PARSED * 2 * 1024
    audit = (AUDIT_BYTES + 2 * AUDIT_BYTES_OTHER) * 1.15
    assert abs(events + certificates + audit - STORES) < MIB
    assert ALLOCATORS + STORES == 72 * MIB
    assert (AGENT_GROWTH_MAX, LEAK_MAX, NOISE) == (64 * MIB, 8 * MIB, 8 * MIB)
