"""The simulator as a test: many seeds, every law, and proof that rare branches were met.

PYSWARM_SIM_SEEDS says how many seeds (500), PYSWARM_SIM_FIRST where they begin (1).
"""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from tests.sim.__main__ import report
from tests.sim.marks import REQUIRED
from tests.sim.result import Result

ROOT = Path(__file__).parents[2]
SEEDS = int(os.environ.get("PYSWARM_SIM_SEEDS", "500"))
FIRST = int(os.environ.get("PYSWARM_SIM_FIRST", "1"))
BATCH = 20
AT_ONCE = 2
ENOUGH_FOR_MARKS = 150
"""With fewer seeds than this, rare branches may well be missed."""

BATCHES = range(FIRST, FIRST + SEEDS, BATCH)
Batches = dict[int, Future[list[Result]]]


def _run(first: int) -> list[Result]:
    count = min(BATCH, FIRST + SEEDS - first)
    command = [sys.executable, "-m", "tests.sim", "--json", f"--seed={first}", f"--count={count}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    results = [msgspec.json.decode(line, type=Result) for line in done.stdout.splitlines()]
    assert len(results) == count, f"seeds from {first} on ended early:\n{done.stderr}"
    return results


@pytest.fixture(scope="module")
def batches() -> Iterator[Batches]:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {first: pool.submit(_run, first) for first in BATCHES}


@pytest.mark.parametrize("first", BATCHES)
def test_every_law_holds_in_every_seed_from(first: int, batches: Batches) -> None:
    broken = [result for result in batches[first].result() if result.violations]
    for result in broken:
        report(result)
    assert [f"python -m tests.sim --seed {result.seed}" for result in broken] == []


def test_the_seeds_reach_the_branches_that_rarely_happen(batches: Batches) -> None:
    reached: Counter[str] = Counter()
    for batch in batches.values():
        for result in batch.result():
            reached.update(result.marks)
    if len(BATCHES) * BATCH >= ENOUGH_FOR_MARKS:
        assert [name for name in REQUIRED if not reached[name]] == []
    assert reached
