"""docs/security.md is true: its commands, executed in order, print what the page shows.

Commands with `--context` or a token run on the hosts' network, as on a machine of their user. Hosts
of a playground have neither systemd nor directories where packages put them: stand-ins and links.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cli import daemons
from cli.playground import fleet as playground
from cli.playground import power
from tests.e2e.acceptance.documents import require_true
from tests.e2e.acceptance.fleet import IMAGE, PATIENCE_S, PATIENT, ROOT, Fleet
from tests.fixtures.pages import other_blocks

pytestmark = pytest.mark.slow

ENVIRONMENT = PATIENT
PAGE = ROOT / "docs/security.md"
AHEAD = """
import os, runpy, sys, time
right = time.time_ns
time.time_ns = lambda: right() + 35 * 10**9
sys.argv = sys.argv[1:]
runpy.run_module("agent", run_name="__main__", alter_sys=True)
"""
"""An agent whose host's clock is wrong. Arguments: those of the agent, after its name."""
SYSTEMCTL = """#!/bin/sh
# `systemctl restart pyswarm-controller`: its supervisor starts it again.
[ "$*" = "restart pyswarm-controller" ] || exit 1
supervisor=$(cat {run}/controller.pid)
controller=$(pgrep -P "$supervisor" -f 'controller --state-dir')
kill "$controller"
while [ -e "/proc/$controller" ]; do sleep 0.1; done
"""
JOURNALCTL = """#!/bin/sh
[ "$*" = "-u pyswarm-controller" ] && cat {run}/controller.log
"""


@pytest.fixture(scope="module")
def fleet(own_fleet: Fleet) -> Fleet:
    """It loses a host, its CA is replaced and its controller is locked."""
    own_fleet("service", "create", "--name", "web", "--replicas", "2", IMAGE)
    for host, part, found in (("host2", "agent", ""), ("host1", "controller", "controller")):
        link = ["ln", "-s", str(own_fleet.state_dir / host / found), f"/var/lib/pyswarm/{part}"]
        done = own_fleet.on(host, *link)
        assert done.code == 0, done.err
    return own_fleet


@contextmanager
def wrong_clock(fleet: Fleet) -> Iterator[None]:
    """The clock of host2 is ahead."""
    plan = playground.load(fleet.name)
    (host,) = (one for one in plan.hosts if one.name == "host2")
    right = power.agent(plan, host, "")
    daemons.stop(right.pid_file)
    enter = daemons.entering(right.netns, right.mountns)
    command = [*enter, sys.executable, "-c", AHEAD, right.module, *right.arguments]
    environment = {**fleet.environment, "PYTHONPATH": str(ROOT)}
    agent = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, cwd="/")
    try:
        yield
    finally:
        agent.terminate()
        agent.wait(PATIENCE_S)
        # Its supervisor outlives the program that starts it, here as on a host.
        start = "import sys; from cli import daemons; from cli.playground import fleet, power\n"
        start += (
            "plan = fleet.load(sys.argv[1]); daemons.start(power.agent(plan, plan.hosts[1], ''))"
        )
        subprocess.run(
            [sys.executable, "-c", start, fleet.name], env=environment, check=True, timeout=60
        )
    shown = "{{.Hostname}} {{.Status}}"
    fleet.until(
        lambda: "host2 Ready" in fleet("node", "ls", "--format", shown).split("\n"),
        "its clock is right again",
    )


def stand_ins(fleet: Fleet, folder: Path) -> None:
    """Programs of a host with systemd, and the files that the page shows."""
    (folder / "bin").mkdir()
    for name, text in (("systemctl", SYSTEMCTL), ("journalctl", JOURNALCTL)):
        (folder / "bin" / name).write_text(text.format(run=fleet.run_dir / "host1"))
        (folder / "bin" / name).chmod(0o755)
    (rules,) = (text for language, text in other_blocks(PAGE.read_text()) if language == "nft")
    (folder / "limits.nft").write_text(rules)


@pytest.mark.timeout(900)
def test_every_command_of_the_page_prints_what_the_page_shows(fleet: Fleet, tmp_path: Path) -> None:
    stand_ins(fleet, tmp_path)
    around = {"Correct a clock": lambda: wrong_clock(fleet)}
    require_true(PAGE, fleet, tmp_path, around)
