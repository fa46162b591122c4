"""What holds for every test: marks by folder, time limits, leaks, and the meaning of a skip.

A run that touches the machine has a network and mounts of its own, and so has each worker of a run
by several (pytest-xdist): none sees what another does.

PYSWARM_TEST_STRICT=1 turns a skip into a failure: a run that skipped its proof is not green.
PYSWARM_TIMEOUT_FACTOR stretches every limit on slow machines.
"""

import asyncio
import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

import pyswarm_core
from cli.registry import loop
from tests.fixtures import leaks, left_out, netns
from tests.fixtures.leaks import no_leaks

__all__ = ["no_leaks"]

assert pyswarm_core.__file__, "it is imported before gRPC, which reads the environment that it sets"

# Seconds a single test of each folder may take before it counts as hung: many times what it takes
# on a quiet machine, and more than any wait within it, whose failure says more.
LIMIT_S = {"unit": 180.0, "sim": 1200.0, "helm": 180.0, "integration": 300.0, "e2e": 900.0}
# Folders whose tests touch the machine: each module must leave it as it was.
WATCHED = frozenset({"integration", "e2e"})

STRICT = os.environ.get("PYSWARM_TEST_STRICT") == "1"
FACTOR = float(os.environ.get("PYSWARM_TIMEOUT_FACTOR", "1"))

# No property may fail because a machine is slow; a strict run tries the same examples every time.
hypothesis.settings.register_profile(
    "pyswarm",
    deadline=None,
    derandomize=STRICT,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("pyswarm")


def _folder(path: Path) -> str:
    root = Path(__file__).parent
    return path.relative_to(root).parts[0] if path.is_relative_to(root) else ""


def pytest_configure(config: pytest.Config) -> None:
    """Mark the processes of this run before the first one starts."""
    leaks.mark_this_run(is_worker=hasattr(config, "workerinput"))
    # Else a look at the current loop makes one; nobody closes it, and any test is blamed.
    asyncio.set_event_loop(None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with its folder's name and a scaled time limit: its own, or the folder's.

    Slow modules begin first: one that began last would leave other workers nothing to do.
    """
    for item in items:
        folder = _folder(item.path)
        if folder in LIMIT_S:
            item.add_marker(folder)
        own = item.get_closest_marker("timeout")
        limit_s = float(own.args[0]) if own else LIMIT_S.get(folder, 60.0)
        item.add_marker(pytest.mark.timeout(limit_s * FACTOR), append=False)
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Leave the machine's network and mounts, if a test touches them and this is root."""
    if os.geteuid() == 0 and any(_folder(item.path) in WATCHED for item in session.items):
        netns.unshare()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, Any, Any]:
    """In strict mode report a skip as the failure it hides; an expected failure stays one. Nothing
    of a failure is kept but its report.
    """
    report: Any = yield
    if report.failed and call.excinfo is not None and not item.config.option.usepdb:
        leaks.forget(call.excinfo.value)
    if STRICT and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} skipped in strict mode: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, Any, Any]:
    """The same for a module that skips itself as a whole."""
    report: Any = yield
    if STRICT and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"{collector.nodeid} skipped in strict mode: {report.longrepr}"
    return report


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Remember what was skipped."""
    if report.skipped and not hasattr(report, "wasxfail"):
        why = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        left_out.note(report.nodeid, why)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker hands on what it left out."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["left_out"] = left_out.noted()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take what a worker left out, unless it crashed."""
    left_out.add(getattr(node, "workeroutput", {}).get("left_out", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was left out, and why."""
    for line in left_out.lines():
        terminalreporter.write_line(line)
    left_out.keep()


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any]) -> Generator[None, Any, Any]:
    """What a session's fixture makes outlives the modules that use it: no leak of theirs."""
    if fixturedef.scope not in ("session", "package"):
        return (yield)
    before = leaks.found()
    result: Any = yield
    leaks.keep(leaks.found() - before)
    return result


@pytest.fixture(scope="session", autouse=True)
def _folders_in_memory(tmp_path_factory: pytest.TempPathFactory) -> None:
    """An etcd waits for the disk with each write, and other workers keep that busy."""
    netns.keep_in_memory(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session", autouse=True)
def _loop_of_the_registry() -> None:
    """It is made at the first use in a process, and stays."""
    loop.run(asyncio.sleep(0))


@pytest.fixture(scope="module", autouse=True)
def _machine_as_it_was(request: pytest.FixtureRequest) -> Iterator[None]:
    if _folder(request.path) in WATCHED:
        with leaks.nothing_left():
            yield
    else:
        yield


@pytest.fixture(scope="session")
def timeout_factor() -> float:
    """How much longer than usual a test may wait on this machine."""
    return FACTOR
