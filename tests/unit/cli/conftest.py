"""A scripted controller on a socket, and the command line run in this process."""

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from cli.main import run
from tests.unit.cli.scripted import Script, serve


class Ran(msgspec.Struct, frozen=True):
    """What one command line did."""

    code: int
    out: str
    err: str


Pyswarm = Callable[..., Ran]


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Script]:
    address = f"unix://{tmp_path}/api.sock"
    monkeypatch.setenv("PYSWARM_HOST", address)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    with serve(Script(), address) as served:
        yield served


@pytest.fixture
def pyswarm(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Pyswarm:
    """Run `pyswarm ARGUMENTS`; without the `script` fixture no controller can be reached."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))

    def ran(*arguments: str) -> Ran:
        code = run(arguments)
        shown = capsys.readouterr()
        return Ran(code, shown.out, shown.err)

    return ran
