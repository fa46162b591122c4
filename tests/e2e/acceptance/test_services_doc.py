"""docs/services.md is true: its commands, executed in order, print what the page shows.

A command that only looks is repeated until it prints that. A command that changes something is run
once. PYSWARM_REWRITE=1 writes what was printed into the page instead of failing.
"""

import os
import shlex
import time
from pathlib import Path

import pytest

from tests.e2e.acceptance.fleet import COMMAND_LIMIT_S, PATIENCE_S, PYSWARM, ROOT, Fleet
from tests.fixtures import commands
from tests.fixtures.pages import Step, rewritten, same, screen, steps

pytestmark = pytest.mark.slow

PAGE = ROOT / "docs/services.md"
LOOKS = {"ls", "ps", "inspect", "why", "history", "events", "logs", "curl", "examples/ask", "cat"}
COLUMNS = 160
SETTLED_S = 6.0
REWRITE = bool(os.environ.get("PYSWARM_REWRITE"))


@pytest.fixture(scope="module")
def fleet(own_fleet: Fleet) -> Fleet:
    """Its services have the names that the page gives them."""
    return own_fleet


@pytest.mark.timeout(900)
def test_every_command_of_the_page_prints_what_the_page_shows(fleet: Fleet, tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    found: dict[int, list[str]] = {}
    code = 0
    try:
        for step in steps(PAGE.read_text()):
            if step.command == "echo $?":
                printed = [str(code)]
            else:
                code, printed = executed(fleet, step, tmp_path)
            if not same(step.shown, printed):
                assert REWRITE, _differs(step, printed)
                found[step.line] = printed
    finally:
        if found:
            PAGE.write_text(rewritten(PAGE.read_text(), found))


def executed(fleet: Fleet, step: Step, folder: Path) -> tuple[int, list[str]]:
    """The exit code, and what a terminal shows."""
    looks = bool(LOOKS.intersection(step.command.split()[:4]))
    deadline = time.monotonic() + (SETTLED_S if REWRITE else PATIENCE_S)
    while True:
        code, printed = _run(fleet, step.command, folder)
        if not looks or same(step.shown, printed) or time.monotonic() > deadline:
            return code, printed
        time.sleep(0.2)


def _run(fleet: Fleet, command: str, folder: Path) -> tuple[int, list[str]]:
    words = shlex.split(command, comments=True)
    if words[0] == "pyswarm" and not _needs_shell(command):
        done = commands.run_on_terminal(
            words[1:], fleet.environment, COMMAND_LIMIT_S, folder=folder, columns=COLUMNS
        )
    else:
        path = f"{PYSWARM.parent}:{os.environ['PATH']}"
        enter = ["nsenter", f"--net={fleet.netns('lan')}", "--", "env", f"PATH={path}"]
        script = f"cd {folder}; {command}"
        done = fleet.on_machine([*enter, "bash", "-c", f"{{ {script}; }} 2>&1"])
    # Printed only if it takes longer than a second.
    return done.code, [line for line in screen(done.out) if not line.startswith("resolving the ")]


def _needs_shell(command: str) -> bool:
    """Whether it has an operator of the shell outside quotes."""
    tokens = shlex.shlex(command, posix=True, punctuation_chars=True)
    return "$(" in command or any(set(token) <= set("();<>|&") for token in tokens)


def _differs(step: Step, printed: list[str]) -> str:
    shown = "\n".join(step.shown)
    return f"{PAGE.name}:{step.line}: $ {step.command}\n{shown}\nprinted:\n" + "\n".join(printed)
