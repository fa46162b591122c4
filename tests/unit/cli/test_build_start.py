"""`pyswarm build` starts buildah once, and before it imports what is needed only afterwards."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

BUILDAH = """\
#!/bin/sh
echo "$1 $GOGC $GOMEMLIMIT" >>"$SAID"
while [ $# -gt 1 ]; do
    [ "$1" != --iidfile ] || echo sha256:abc >"$2"
    shift
done
"""
START = """\
import os, subprocess, sys
whole = subprocess.Popen
class Noted(whole):
    def __init__(self, words, *args, **more):
        if words[0] == "buildah":
            with open(os.environ["SAID"], "a") as file:
                print(*sorted(sys.modules), file=file)
        super().__init__(words, *args, **more)
subprocess.Popen = Noted
from cli.main import main
main()
"""
LATER = ("grpc", "asyncio", "http.client", "tempfile", "traceback", "cli.session", "cli.render",
         "cli.image.building.display", "cli.registry.opening", "pyswarm_core.specs", "msgspec",
         "shutil")  # fmt: skip


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a buildah of the test, the first in PATH, was called with."""
    program = tmp_path / "bin" / "buildah"
    program.parent.mkdir()
    program.write_text(BUILDAH)
    program.chmod(0o755)
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("SAID", str(tmp_path / "said"))
    monkeypatch.delenv("GOGC", raising=False)
    monkeypatch.delenv("GOMEMLIMIT", raising=False)
    return tmp_path / "said"


def build(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", START, "build", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_buildah_is_the_first_thing_that_runs(said: Path, tmp_path: Path) -> None:
    done = build(str(tmp_path))
    assert (done.returncode, done.stdout) == (0, "sha256:abc\n"), done.stderr
    imported, call = said.read_text().split("\n")[:-1]
    assert call == "build 1600 256MiB"
    assert not set(LATER) & set(imported.split())


def test_the_callers_setting_of_the_garbage_collector_counts(
    said: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOGC", "50")
    assert build(str(tmp_path)).returncode == 0
    assert said.read_text().endswith("build 50 256MiB\n")


def test_only_heredocs_need_the_version_of_buildah(said: Path, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY <<a /a\nx\na\n")
    done = build(str(tmp_path))
    assert done.returncode == 2
    assert "Dockerfile:2: heredocs need buildah 1.33" in done.stderr
    assert "--version" in said.read_text()


def test_a_wrong_command_line_starts_nothing(said: Path, tmp_path: Path) -> None:
    assert build("--progress", "tty", str(tmp_path)).returncode == 2
    assert not said.exists()
