"""Docker's arithmetic of `stats`."""

import pytest

from pyswarm_core.clock import SECOND
from pyswarm_core.docker.stats import cpu_percent, fields, memory_percent
from pyswarm_core.views import TaskStats

MIB = 1 << 20


@pytest.mark.parametrize(
    ("used_ns", "passed_ns", "percent"),
    [
        (SECOND, SECOND, 100),
        (2 * SECOND, SECOND, 200),
        (SECOND // 4, SECOND // 2, 50),
        (0, SECOND, 0),
        (-SECOND, SECOND, 0),
        (SECOND, 0, 0),
    ],
)
def test_cpu_is_in_percent_of_one_core(used_ns: int, passed_ns: int, percent: float) -> None:
    before = TaskStats("t", at=5 * SECOND, cpu_ns=3 * SECOND)
    now = TaskStats("t", at=5 * SECOND + passed_ns, cpu_ns=3 * SECOND + used_ns)
    assert cpu_percent(before, now) == percent


def test_memory_is_in_percent_of_its_limit() -> None:
    assert memory_percent(TaskStats("t", memory_bytes=MIB, memory_limit_bytes=4 * MIB)) == 25
    assert memory_percent(TaskStats("t", memory_bytes=MIB)) == 0


def test_texts_are_docker_s() -> None:
    before = TaskStats("t", at=SECOND)
    now = TaskStats(
        "t",
        at=2 * SECOND,
        cpu_ns=SECOND // 80,
        memory_bytes=3 * MIB + MIB // 2,
        memory_limit_bytes=64 * MIB,
        pids=3,
        received_bytes=1260,
        sent_bytes=0,
        read_bytes=4_270_000,
        written_bytes=12,
    )
    assert fields(before, now) == {
        "CPUPerc": "1.25%",
        "MemUsage": "3.5MiB / 64MiB",
        "MemPerc": "5.47%",
        "NetIO": "1.26kB / 0B",
        "BlockIO": "4.27MB / 12B",
        "PIDs": "3",
    }
    assert fields(None, now)["CPUPerc"] == "--"


def test_a_container_that_does_not_run_uses_nothing() -> None:
    assert fields(None, TaskStats("t")) == {
        "CPUPerc": "0.00%",
        "MemUsage": "0B / 0B",
        "MemPerc": "0.00%",
        "NetIO": "0B / 0B",
        "BlockIO": "0B / 0B",
        "PIDs": "0",
    }
