"""Every flag of both daemons: a value that is not valid is named with what is expected."""

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import click
import pytest

import agent.__main__
import agent.app
import controller.__main__
import controller.app
from pyswarm_core.aio.daemon import WRONG, run_daemon

NOT_VALID = {
    agent.__main__: {
        "--node-generic-resource": "gpu=0",
        "--config": "no.yaml",
        "--controller": "host1",
        "--hostname": "a b",
        "--advertise-addr": "::1",
        "--availability": "off",
        "--fleet": "Fleet",
        "--cgroup-parent": "pyswarm",
        "--bridge-subnet": "10.0.0.0/33",
        "--data-path-port": "70000",
        "--fast-path": "maybe",
        "--cpus": "two",
        "--memory": "lots",
        "--max-tasks": "none",
        "--label": "zone",
        "--registry-mirror": "mirror",
        "--insecure-registry": "http://registry",
        "--pull-stall": "never",
        "--image-gc-high": "full",
        "--image-gc-low": "-1",
        "--image-gc-min-age": "soon",
        "--image-gc-max-age": "never",
        "--log-max-size": "big",
        "--log-max-file": "0",
        "--log-level": "loud",
    },
    controller.__main__: {
        "--state-dir": __file__,
        "--encryption-key": "no.key",
        "--listen": "host1",
        "--registry-addr": "host1",
        "--registry-quota": "much",
        "--registry-dir": __file__,
        "--audit-log-maxsize": "big",
        "--audit-log-maxbackup": "none",
        "--advertise-addr": "a:b:c:1",
        "--etcd-endpoints": "host1",
        "--etcd-cafile": "no.pem",
        "--etcd-certfile": "no.pem",
        "--etcd-keyfile": "no.pem",
        "--metrics-addr": "host1",
        "--health-addr": "host1",
        "--log-level": "loud",
        "--default-addr-pool": "10.0.0.0/33",
        "--subnet-size": "wide",
        "--data-path-port": "70000",
        "--heartbeat-period": "often",
        "--agent-grace": "15",
        "--task-history-limit": "-1",
    },
}
ANY_TEXT = {
    agent.__main__: {
        *("--state-dir", "--run-dir", "--join-token", "--registry-auth-file", "--resolv-conf"),
        *("--join-token-file", "--rejoin"),
        *("--metrics-addr", "--health-addr"),  # checked when they are bound
    },
    controller.__main__: {"--name", "--etcd-user", "--etcd-prefix", "--convert", "--registry"},
}
ADDRESS = {
    agent.__main__: ("--advertise-addr", "192.0.2.1"),
    controller.__main__: ("--advertise-addr", "192.0.2.1:2377"),
}
OUT_OF_RANGE = {
    agent.__main__: {
        "--cpus": "0",
        "--memory": "0",
        "--pull-stall": "0s",
        "--max-tasks": "0",
        "--log-max-file": "101",
    },
    controller.__main__: {
        "--audit-log-maxsize": "0",
        "--audit-log-maxbackup": "1001",
        "--subnet-size": "99",
        "--heartbeat-period": "1h0m0s",
        "--agent-grace": "24h0m0s",
    },
}
CASES = [
    (module, flag, value)
    for table in (NOT_VALID, OUT_OF_RANGE)
    for module, flags in table.items()
    for flag, value in flags.items()
]


@pytest.fixture(autouse=True)
def no_daemon(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def run(*_: object) -> NoReturn:
        pytest.fail("a daemon was started")

    for module in (agent, controller):
        monkeypatch.setattr(module.app, "run", run)
    monkeypatch.chdir(tmp_path)


def test_every_flag_is_in_a_table() -> None:
    for module, flags in NOT_VALID.items():
        options = [each for each in module.main.params if isinstance(each, click.Option)]
        assert {each.opts[0] for each in options} == flags.keys() | ANY_TEXT[module]


@pytest.mark.parametrize(
    ("module", "flag", "value"),
    CASES,
    ids=[f"{module.__package__}{flag}={value}" for module, flag, value in CASES],
)
def test_a_value_that_is_not_valid_is_named_with_what_is_expected(
    module: ModuleType,
    flag: str,
    value: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["daemon", *ADDRESS[module], flag, value])
    with pytest.raises(SystemExit) as ended:
        run_daemon(module.main)
    assert ended.value.code == WRONG
    begin, end = re.escape(f"Error: {flag}: value "), re.escape(" is not valid: ")
    quoted = rf'(?:"{re.escape(value)}"|{re.escape(value)})'
    pattern = rf"{begin}{quoted}{end}(?:\S.*: )?expected \S.*\n"
    assert re.fullmatch(pattern, capsys.readouterr().err)


@pytest.mark.parametrize("name", ["log_level", "fast_path"])
def test_a_value_of_the_environment_is_answered_the_same(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(f"PYSWARM_AGENT_{name.upper()}", "maybe")
    monkeypatch.setattr(sys, "argv", ["agent"])
    with pytest.raises(SystemExit):
        run_daemon(agent.__main__.main)
    flag = "--" + name.replace("_", "-")
    assert f'Error: {flag}: value "maybe" is not valid: expected ' in capsys.readouterr().err
