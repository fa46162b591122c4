"""Executes the commands of a page on a fleet, and compares what they print with what it shows.

Some sections need the fleet in another state: `around` names what surrounds their commands. Hosts
have programs of `bin` in the folder before all others.

A command that only looks is repeated until it prints that. A command that changes something is run
once. PYSWARM_REWRITE=1 writes what was printed into the page instead of failing.
"""

import os
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import groupby
from pathlib import Path

from tests.e2e.acceptance.fleet import COMMAND_LIMIT_S, PATIENCE_S, PYSWARM, ROOT, Fleet
from tests.fixtures import commands
from tests.fixtures.commands import Done
from tests.fixtures.pages import Step, rewritten, same, screen, shortened, steps

LOOKS = {
    *("ls", "ps", "inspect", "why", "history", "events", "logs", "curl", "examples/ask", "cat"),
    *("audit", "--status", "journalctl", "psql"),
}
COLUMNS = 160
ANNOUNCED = ("resolving the ", "the key is right: waiting ")
"""Begins of lines that are printed only if a command takes longer than a second."""
SETTLED_S = 6.0
REWRITE = bool(os.environ.get("PYSWARM_REWRITE"))


Around = Mapping[str, Callable[[], AbstractContextManager[None]]]
"""By the title of a section, as of its commands."""


def require_true(page: Path, fleet: Fleet, folder: Path, around: Around | None = None) -> None:
    """Execute the page's commands in order, in the folder; each must print what the page shows."""
    found: dict[int, list[str]] = {}
    code = 0
    surround = around or {}
    try:
        for section, commands_of in groupby(steps(page.read_text()), lambda step: step.section):
            with surround.get(section, nullcontext)():
                for step in commands_of:
                    if step.command == "echo $?":
                        printed = [str(code)]
                    else:
                        code, printed = executed(fleet, step, folder)
                    if not same(step.shown, printed):
                        assert REWRITE, _differs(page, step, printed)
                        found[step.line] = printed
    finally:
        if found:
            page.write_text(rewritten(page.read_text(), found))


def executed(fleet: Fleet, step: Step, folder: Path) -> tuple[int, list[str]]:
    """The exit code, and what a terminal shows."""
    looks = bool(LOOKS.intersection(_verb(step.command))) and "xargs" not in step.command
    deadline = time.monotonic() + (SETTLED_S if REWRITE else PATIENCE_S)
    while True:
        code, printed = _run(fleet, step, folder)
        if not looks or same(step.shown, printed) or time.monotonic() > deadline:
            return code, printed
        time.sleep(0.2)


def _verb(command: str) -> Sequence[str]:
    """The first words, without those that select a fleet or the caller."""
    words = command.split()
    if "=" in words[0]:
        words = words[words.index("pyswarm") :]
    return words[3:6] if words[1:2] == ["--context"] else words[:4]


def _run(fleet: Fleet, step: Step, folder: Path) -> tuple[int, list[str]]:
    command = step.command
    words = shlex.split(command, comments=True)
    if step.host:
        done = _on_host(fleet, step, folder)
    elif words[0] == "pyswarm" and "--context" not in words and not _needs_shell(command):
        done = commands.run_on_terminal(
            words[1:], fleet.environment, COMMAND_LIMIT_S, folder=folder, columns=COLUMNS
        )
    else:
        done = shell(fleet, folder, command)
    lines = [line for line in screen(done.out) if not line.startswith(ANNOUNCED)]
    return done.code, [shortened(line) for line in lines]


def shell(fleet: Fleet, folder: Path, command: str) -> Done:
    """Run it in the folder, on the hosts' network, where clients with credentials are."""
    path = f"{PYSWARM.parent}:{os.environ['PATH']}"
    enter = ["nsenter", f"--net={fleet.netns('lan')}", "--", "env"]
    environment = [f"PATH={path}", f"PYTHONPATH={ROOT}"]
    script = f"cd {folder}; {command}"
    return fleet.on_machine([*enter, *environment, "bash", "-c", f"{{ {script}; }} 2>&1"])


def _on_host(fleet: Fleet, step: Step, folder: Path) -> Done:
    """Run it where the command before it on that host left the shell: `cd` has an effect."""
    place = folder / f".{step.host}"
    path = f"{folder}/bin:{PYSWARM.parent}:{os.environ['PATH']}"
    begin = f"cd {place.read_text() if place.exists() else folder}"
    script = f"{begin}\n{step.command}\ncode=$?; pwd > {place}; exit $code"
    environment = ["env", f"PATH={path}", f"PYTHONPATH={ROOT}"]
    return fleet.on(step.host, *environment, "bash", "-c", f"{{ {script}; }} 2>&1")


def _needs_shell(command: str) -> bool:
    """Whether it has an operator of the shell outside quotes."""
    tokens = shlex.shlex(command, posix=True, punctuation_chars=True)
    return "$(" in command or any(set(token) <= set("();<>|&") for token in tokens)


def _differs(page: Path, step: Step, printed: list[str]) -> str:
    shown = "\n".join(step.shown)
    return f"{page.name}:{step.line}: $ {step.command}\n{shown}\nprinted:\n" + "\n".join(printed)
