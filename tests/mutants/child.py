"""One mutant's life, in a process of its own: simulator seeds, then unit tests, until one objects.

Reads a `Job` as JSON from standard input, writes a `Verdict` as JSON to standard output.
"""

import contextlib
import os
import resource
import sys
import traceback
from pathlib import Path

import msgspec

from tests.mutants.mutation import Mutation, install


class Job(msgspec.Struct):
    """What to try."""

    mutation: Mutation
    seeds: list[int]
    cpu_s: int = 0
    """Processor time after which the process is ended; 0: none."""
    unit: list[str] = []
    """Paths of unit tests, tried in this order when no seed objected."""


class Verdict(msgspec.Struct):
    """What came of it. `by` is empty for a survivor, else what objected; `rule` a rule's name."""

    by: str = ""
    rule: str = ""
    text: str = ""


def judge(job: Job) -> Verdict:
    """The first objection."""
    if job.cpu_s:
        resource.setrlimit(resource.RLIMIT_CPU, (job.cpu_s, job.cpu_s))
    install(job.mutation)
    try:
        from tests.sim.world import simulate
    except Exception as error:
        return Verdict("import", text=repr(error))
    for seed in job.seeds:
        try:
            result = simulate(seed)
        except Exception:
            return Verdict(f"seed {seed}", "exception", traceback.format_exc(limit=-1))
        if result.violations:
            first = result.violations[0]
            return Verdict(f"seed {seed}", first.rule.name, first.text)
    return _unit(job.unit) if job.unit else Verdict()


class _First:
    """Remembers the test that failed."""

    def __init__(self) -> None:
        self.failed = ""

    def pytest_runtest_logreport(self, report: object) -> None:
        if getattr(report, "failed", False) and not self.failed:
            self.failed = getattr(report, "nodeid", "?")

    def pytest_collectreport(self, report: object) -> None:
        self.pytest_runtest_logreport(report)


def _unit(paths: list[str]) -> Verdict:
    import pytest

    for path in paths:
        first = _First()
        with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
            code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", path], plugins=[first])
        if code not in (0, 5):
            return Verdict(first.failed or path, text=str(code))
    return Verdict()


if __name__ == "__main__":
    verdict = judge(msgspec.json.decode(sys.stdin.buffer.read(), type=Job))
    sys.stdout.buffer.write(msgspec.json.encode(verdict))
