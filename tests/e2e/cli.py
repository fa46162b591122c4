"""The command `pyswarm` as a user runs it: a process, its two outputs and its exit code."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from tests.fixtures import leaks

ROOT = Path(__file__).parents[2]
CALL_TIMEOUT_S = 60.0


class Done(NamedTuple):
    """What a command left."""

    out: str
    err: str
    code: int


class CommandFailed(AssertionError):
    """A command that should have worked did not."""


class Cli:
    """Runs `pyswarm` with a configuration of its own under `home`."""

    def __init__(self, home: Path) -> None:
        self.environment = {
            **os.environ,
            "XDG_CONFIG_HOME": str(home / "config"),
            "XDG_CACHE_HOME": str(home / "cache"),
            "PYTHONPATH": str(ROOT),
        }
        # A daemon that the fleet restarts is no child that this run forgot.
        self.environment.pop(leaks.RUN_MARK, None)

    def command(self, *words: str) -> list[str]:
        """The command line as a list."""
        return [sys.executable, "-m", "cli", *words]

    def run(self, *words: str, check: bool = True, timeout: float = CALL_TIMEOUT_S) -> Done:
        """Run it to its end. Raises CommandFailed with its output unless it may fail."""
        done = subprocess.run(
            self.command(*words),
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
        if check and done.returncode:
            raise CommandFailed(
                f"pyswarm {' '.join(words)}: exit {done.returncode}\n{done.stdout}{done.stderr}"
            )
        return Done(done.stdout, done.stderr, done.returncode)

    def refused(self, *words: str) -> str:
        """What it says when it refuses: one line, no trace."""
        done = self.run(*words, check=False)
        assert done.code in (1, 2), f"exit {done.code} of {words}: {done.out}{done.err}"
        assert "Traceback" not in done.err
        return done.err

    def lines(self, *words: str, **options: Any) -> list[str]:
        """The lines of its output."""
        return self.run(*words, **options).out.splitlines()

    def rows(self, *words: str) -> list[dict[str, Any]]:
        """A listing: one JSON object per line."""
        return [json.loads(line) for line in self.lines(*words, "--format", "json")]

    def inspect(self, noun: str, *refs: str) -> list[dict[str, Any]]:
        """Objects in full."""
        found: list[dict[str, Any]] = json.loads(self.run(noun, "inspect", *refs).out)
        return found

    def start(self, *words: str) -> "subprocess.Popen[str]":
        """Start it and go on; whoever asked ends it."""
        return subprocess.Popen(
            self.command(*words),
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
