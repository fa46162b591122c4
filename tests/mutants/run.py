"""Trying mutants: which processes judge them, and what is made of the verdicts."""

import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from tests.mutants.child import Job, Verdict
from tests.mutants.mutation import ROOT, Mutation

AT_ONCE = 2
CPU_S = 150
"""Processor time of one mutant, which its process may not exceed: it spins then."""
EQUIVALENT = Path(__file__).parent / "equivalent.toml"
LIMITS = Path(__file__).parents[1] / "sim" / "limits.toml"

# Where the tests of a module are; the first that fits, and the rest of its program's after it.
UNIT: Mapping[str, str] = {
    "controller.brain.allocator": "controller/brain/allocator",
    "controller.brain.dependencies": "controller/brain/dependencies",
    "controller.brain.orchestrator": "controller/brain/orchestrator",
    "controller.brain.scheduler": "controller/brain/scheduler",
    "controller.brain.liveness": "controller/brain/liveness",
    "controller": "controller",
    "agent.tasks": "agent/tasks",
    "agent.health": "agent/health",
    "agent": "agent",
    "pyswarm_core.limits": "agent/tasks",
    "pyswarm_core.indexes": "core",
    "pyswarm_core": "controller",
}


class Equivalent(msgspec.Struct, frozen=True):
    """A mutation that no test can tell from the original, or none needs to, and why."""

    mutation: Mutation
    why: str


class Tried(msgspec.Struct):
    """A mutation and its verdict."""

    mutation: Mutation
    verdict: Verdict
    seconds: float


def equivalents() -> list[Equivalent]:
    """Those that were looked at by people."""
    found = tomllib.loads(EQUIVALENT.read_text(encoding="utf-8"))
    return msgspec.convert(found.get("equivalent", []), list[Equivalent])


def unit_tests(mutation: Mutation) -> list[str]:
    """The nearest unit tests first, then all of the program. Of a limit, the test that holds its
    number.
    """
    paths = [path for prefix, path in UNIT.items() if mutation.module.startswith(prefix)]
    found = [f"tests/unit/{path}" for path in paths]
    held = tomllib.loads(LIMITS.read_text(encoding="utf-8"))["tests"]
    nearest = held.get(mutation.old.split(" ", 1)[0], "")
    return [f"tests/{nearest}", *found] if nearest.startswith("unit/") else found


def judge(mutation: Mutation, seeds: Iterable[int], *, unit: bool) -> Tried:
    """Try one in a process of its own."""
    job = Job(mutation, list(seeds), CPU_S, unit_tests(mutation) if unit else [])
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "tests.mutants.child"],
        input=msgspec.json.encode(job),
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if done.returncode < 0:
        verdict = Verdict("processor time", text=f"ended by signal {-done.returncode}")
    elif done.returncode:
        raise RuntimeError(f"{mutation.name}:\n{done.stderr.decode()[-2000:]}")
    else:
        verdict = msgspec.json.decode(done.stdout, type=Verdict)
    return Tried(mutation, verdict, time.perf_counter() - began)


def judge_all(
    mutations: Iterable[Mutation],
    seeds: Iterable[int],
    *,
    unit: bool,
    tell: Callable[[Tried], None] = lambda tried: None,
) -> list[Tried]:
    """Try all, two at once."""
    seeds = list(seeds)

    def one(mutation: Mutation) -> Tried:
        tried = judge(mutation, seeds, unit=unit)
        tell(tried)
        return tried

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(one, mutations))
