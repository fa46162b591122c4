"""The same seed is the same story, in any process and under any hash seed."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from tests.sim.result import Result

ROOT = Path(__file__).parents[2]


def _digests(first: int, hash_seed: str) -> list[str]:
    command = [sys.executable, "-m", "tests.sim", "--json", f"--seed={first}", "--count=4"]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=False,
    )
    return [msgspec.json.decode(line, type=Result).digest for line in done.stdout.splitlines()]


@pytest.mark.parametrize("first", [1, 23])
def test_a_seed_tells_the_same_story_whatever_the_hash_seed(first: int) -> None:
    with ThreadPoolExecutor() as pool:
        one, other = pool.map(_digests, (first, first), ("0", "12345"))
    assert len(one) == 4
    assert one == other
