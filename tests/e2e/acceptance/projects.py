"""Compose projects of `examples/`, in a copy, with what a user types in their folder on host1."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cli.daemons import entering
from tests.e2e.acceptance.fleet import PYSWARM, ROOT, Fleet
from tests.fixtures.commands import Done

HOSTS = ("10.99.0.1", "10.99.0.2")


class Project:
    """A folder on host1, and the fleet that runs what its files define."""

    def __init__(self, fleet: Fleet, folder: Path) -> None:
        self.fleet = fleet
        self.folder = folder

    @classmethod
    def of(cls, fleet: Fleet, example: str, where: Path) -> "Project":
        """A copy of a folder of `examples/`."""
        return cls(fleet, shutil.copytree(ROOT / "examples" / example, where / example))

    def run(self, line: str) -> Done:
        """Type `pyswarm LINE` in the folder."""
        return self.fleet.on("host1", *self._typed(line))

    def __call__(self, line: str) -> str:
        """Type `pyswarm LINE`, which must succeed; what it printed."""
        done = self.run(line)
        assert done.code == 0, f"pyswarm {line}: exit {done.code}\n{done.err}{done.out}"
        return done.out.strip()

    def rows(self, line: str) -> list[dict[str, Any]]:
        """The rows of a list command."""
        return [json.loads(row) for row in self(f"{line} --format json").splitlines()]

    def tasks(self) -> dict[str, list[str]]:
        """The ids of the containers that run, in order, by service."""
        found: dict[str, list[str]] = {}
        for row in self.rows("compose ps --no-trunc"):
            found.setdefault(row["Service"], []).append(row["ID"])
        return {name: sorted(ids) for name, ids in found.items()}

    @contextmanager
    def following(self, line: str) -> Iterator["subprocess.Popen[str]"]:
        """Type `pyswarm LINE`, which is interrupted at the end of the block."""
        files = self.fleet.run_dir / "host1" / "mount.namespace"
        command = [*entering(Path(self.fleet.netns("host1")), files), *self._typed(line)]
        process = subprocess.Popen(
            command, env=self.fleet.environment, stdout=subprocess.PIPE, text=True
        )
        try:
            yield process
        finally:
            process.terminate()
            process.communicate()

    def _typed(self, line: str) -> tuple[str, ...]:
        socket = f"unix://{self.fleet.run_dir}/pyswarm.sock"
        return ("sh", "-c", f"cd {self.folder} && exec {PYSWARM} --host {socket} {line}")


def fetched(fleet: Fleet, url: str, *options: str) -> str:
    """What curl prints of a URL on the hosts' network; empty without an answer."""
    return fleet.outside("curl", "-sS", "-m", "5", *options, url).out


def answer(fleet: Fleet, url: str, *options: str) -> Any:
    """The JSON at a URL; waits for an answer that is no error."""
    found: list[Any] = []

    def ask() -> bool:
        text = fetched(fleet, url, "--fail", *options)
        found[:] = [json.loads(text)] if text else []
        return bool(found)

    fleet.until(ask, f"{url} answers")
    return found[0]
