"""The kernel writes no core file of a process that has secrets."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DAEMON = """
import sys
from types import ModuleType
from {0}.__main__ import main
app = sys.modules["{0}.app"] = ModuleType("app")
app.run = lambda *_: os.abort()
main({1!r}.split(), standalone_mode=False)
"""
FLAGS = {
    "agent": "--controller 192.0.2.1:2377 --join-token t --advertise-addr 192.0.2.7",
    "controller": "--state-dir state --listen 127.0.0.1:0 --metrics-addr 127.0.0.1:0",
}
READING = "from cli.payload.data import read\nassert read({0!r}, {1!r}) == b'hunter2'\n"
INFINITE = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


def _dumps(code: str, folder: Path) -> bool:
    """Whether the kernel wrote a core file of a process that has executed the code."""
    process = subprocess.Popen(
        [sys.executable, "-c", f"import os\n{code}\nos.abort()"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, INFINITE),
    )
    _, status = os.waitpid(process.pid, 0)
    process.returncode = status
    assert os.WIFSIGNALED(status), status
    found = [path for path in folder.glob("core*") if path.is_file()]
    for path in found:
        path.unlink()
    return os.WCOREDUMP(status) or bool(found)


@pytest.mark.parametrize("daemon", ["agent", "controller"])
def test_a_daemon_leaves_none(daemon: str, tmp_path: Path) -> None:
    assert not _dumps(DAEMON.format(daemon, FLAGS[daemon]), tmp_path)


def test_a_command_that_reads_a_secret_leaves_none_and_others_do(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("hunter2")
    assert not _dumps(READING.format("secret", "data"), tmp_path)
    assert _dumps(READING.format("config", "data"), tmp_path)


def test_a_program_that_such_a_process_executes_is_as_others(tmp_path: Path) -> None:
    execute = "os.execv('/bin/sh', ['sh', '-c', 'kill -ABRT $$'])"
    reads = READING.format("secret", "data")
    (tmp_path / "data").write_text("hunter2")
    assert _dumps(f"{reads}{execute}", tmp_path)
