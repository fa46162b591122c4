"""The agent's configuration file: the names of flags, and no others."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from agent.__main__ import main
from agent.config import Config


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
    return (seen[0] if seen else None), done.output


def test_a_file_names_flags_as_the_command_line_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "insecure-registry: [r.test:5000]\nlabel: [zone=a]\npull-stall: 3s\nlog-max-file: 5\n"
    config, said = read(tmp_path, monkeypatch, text)
    assert config is not None, said
    assert config.insecure_registries == ("r.test:5000",)
    assert (config.labels, config.pull_stall_s, config.log_max_file) == ({"zone": "a"}, 3.0, 5)


def test_a_key_that_is_no_flag_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, said = read(tmp_path, monkeypatch, "insecure-registries: [r.test:5000]\n")
    assert config is None
    assert "names no flag: insecure-registries" in said
