"""Flags of the agent and the controller that are refused in one line, before anything starts."""

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

import pytest

from pyswarm_core.aio.daemon import WRONG, run_daemon

VALID = {
    "agent": "--controller 192.0.2.1:2377 --join-token t --advertise-addr 192.0.2.7 --fleet tst1",
    "controller": "--state-dir TMP/state --listen 127.0.0.1:0 --metrics-addr 127.0.0.1:0",
}

ROWS = [
    ("agent", "--advertise-addr 127.0.0.1", ("advertise-addr", "127.0.0.1", "expected")),
    ("agent", "--advertise-addr ::1", ("advertise-addr", "::1", "IPv4")),
    ("agent", "--hostname ../x", ("hostname", "../x", "RFC 1123")),
    ("agent", "--bridge-subnet 10.0.0.0/33", ("bridge-subnet", "such as 10.127")),
    ("agent", "--fleet Too-Long", ("fleet", "Too-Long", "lower-case letters")),
    ("agent", "--data-path-port 70000", ("data-path-port", "70000", "integer from 1 to")),
    ("agent", "--label nonsense", ("label", "nonsense", "expected NAME=VALUE")),
    ("agent", "--cpus 0", ("cpus", "expected more than 0")),
    ("agent", "--memory lots", ("lots", "expected")),
    ("agent", "--log-max-size x", ('"x"', "expected")),
    ("agent", "--pull-stall never", ("never", "expected")),
    ("agent", "--controller nowhere", ("controller", "nowhere", "expected HOST:PORT")),
    ("agent", "--registry-mirror x", ("registry-mirror", '"x"', "http(s)://")),
    ("agent", "--cgroup-parent ../x", ("cgroup-parent", "../x", "expected a path")),
    ("agent", "--no-such-flag", ("No such option", "--no-such-flag")),
    ("agent", "--availability gone", ("--availability", "gone", "drain")),
    ("agent", "--config TMP/file.yaml", ("--config", "TMP/file.yaml", "expected YAML")),
    ("agent", "--config TMP/binary.yaml", ("--config", "TMP/binary.yaml", "expected YAML")),
    ("agent", "--config TMP", ("is a directory",)),
    ("agent", "--config TMP/none.yaml", ("TMP/none.yaml", "expected an existing file")),
    ("controller", "--metrics-addr nonsense", ("metrics-addr", "nonsense", "expected HOST:PORT")),
    ("controller", "--listen nonsense", ("listen", "nonsense", "expected HOST:PORT")),
    ("controller", "--state-dir TMP/file", ("TMP/file", "expected a directory")),
    ("controller", "--advertise-addr a:b:c", ("advertise-addr", "expected HOST:PORT")),
    ("controller", "--etcd-endpoints x", ("etcd-endpoints", '"x"', "expected HOST")),
    ("controller", "--etcd-cafile TMP/none", ("--etcd-cafile", "expected an existing file")),
    (
        "controller",
        "--etcd-certfile TMP/file",
        ("--etcd-certfile", "expected --etcd-keyfile as well"),
    ),
    ("controller", "--encryption-key TMP/none", ("--encryption-key", "expected an existing file")),
    ("controller", "--subnet-size 99", ("--subnet-size: value 99", "expected 9 to 29")),
    ("controller", "--default-addr-pool x", ("default-addr-pool", '"x"')),
    ("controller", "--data-path-port 1", ("data-path-port", "1", "expected 1024")),
    ("controller", "--heartbeat-period soon", ("soon", "expected")),
    ("controller", "--subnet-size many", ("--subnet-size", "many", "integer")),
    ("controller", "--no-such-flag", ("No such option", "--no-such-flag")),
]


async def _started(*_: object) -> None:
    raise AssertionError("the daemon started")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name: errors cut values at 80 characters."""
    with TemporaryDirectory() as name:
        path = Path(name)
        (path / "file").write_text("no folder, and no PEM\n")
        (path / "file.yaml").write_text("controller: [\n")
        (path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
        yield path


@pytest.mark.parametrize(("program", "flags", "parts"), ROWS)
def test_a_flag_that_is_not_valid_is_refused_in_one_line(
    program: str,
    flags: str,
    parts: tuple[str, ...],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    module = import_module(f"{program}.__main__")
    app = ModuleType("app")
    monkeypatch.setattr(app, "run", _started, raising=False)
    monkeypatch.setitem(sys.modules, f"{program}.app", app)
    monkeypatch.setattr(module.logs, "set_up", lambda _: None)
    monkeypatch.setattr(module, "give_back_freed_memory", lambda: None)
    monkeypatch.setattr(module, "keep_out_of_core_files", lambda: None)
    words = f"{VALID[program]} {flags}".replace("TMP", str(folder)).split()
    monkeypatch.setattr(sys, "argv", [program, *words])
    with pytest.raises(SystemExit) as ended:
        run_daemon(module.main)
    shown = capsys.readouterr()
    assert (ended.value.code, shown.out, shown.err.count("\n")) == (WRONG, "", 1)
    assert shown.err.startswith("Error: ")
    for part in parts:
        assert part.replace("TMP", str(folder)) in shown.err
