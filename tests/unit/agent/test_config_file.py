"""The agent's configuration file: the names of flags, and no others."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from agent.__main__ import main
from agent.config import Config, accepted_tasks
from pyswarm_core.limits import NODE_TASKS_LIMIT


def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> tuple[Config | None, str]:
    """What an agent would have run with, and what it said."""
    seen: list[Config] = []

    async def run(config: Config) -> None:
        seen.append(config)

    monkeypatch.setattr("agent.app.run", run)
    monkeypatch.setattr("agent.__main__.logs.set_up", lambda level: None)
    file = tmp_path / "agent.yaml"
    file.write_text(text)
    done = CliRunner().invoke(main, ["--config", str(file), "--advertise-addr", "192.0.2.1"])
    return (seen[0] if seen else None), f"{done.output}{done.exception or ''}"


def test_a_file_names_flags_as_the_command_line_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "insecure-registry: [r.test:5000]\nlabel: [zone=a]\npull-stall: 3s\nlog-max-file: 5\n"
    config, said = read(tmp_path, monkeypatch, text)
    assert config is not None, said
    assert config.insecure_registries == ("r.test:5000",)
    assert (config.labels, config.pull_stall_s, config.log_max_file) == ({"zone": "a"}, 3.0, 5)


@pytest.mark.parametrize(
    ("text", "on"), [("", True), ("fast-path: on", True), ("fast-path: off", False)]
)
def test_the_fast_path_is_on_unless_it_is_turned_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, on: bool
) -> None:
    config, said = read(tmp_path, monkeypatch, text)
    assert config is not None, said
    assert config.fast_path is on
    monkeypatch.setenv("PYSWARM_AGENT_FAST_PATH", "off")
    config, said = read(tmp_path, monkeypatch, "")
    assert config is not None, said
    assert not config.fast_path


def test_a_key_that_is_no_flag_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, said = read(tmp_path, monkeypatch, "insecure-registries: [r.test:5000]\n")
    assert config is None
    assert "expected names of flags, found insecure-registries" in said


@pytest.mark.parametrize(
    ("memory", "pids", "files", "accepted"),
    [
        (64 << 30, 4 << 20, 1 << 20, 1000),
        (2 << 30, 4 << 20, 1 << 20, 512),
        (64 << 30, 16 << 10, 1 << 20, 512),
        (64 << 30, 4 << 20, 4_096, 512),
        (1 << 20, 4 << 20, 1 << 20, 1),
    ],
)
def test_a_host_accepts_what_its_resources_allow(
    memory: int, pids: int, files: int, accepted: int
) -> None:
    assert accepted_tasks(memory, pids, files) == accepted


def test_max_tasks_can_be_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, said = read(tmp_path, monkeypatch, "max-tasks: 7\n")
    assert config is not None, said
    assert config.max_tasks == 7
    for wrong in (0, NODE_TASKS_LIMIT + 1):
        refused, said = read(tmp_path, monkeypatch, f"max-tasks: {wrong}\n")
        assert refused is None
        assert "--max-tasks" in said
