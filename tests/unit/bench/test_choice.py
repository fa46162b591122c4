"""Which benchmarks run, and what is said when none can."""

import pytest
from click.testing import CliRunner

from bench.__main__ import benchmarks, main


def test_what_measures_is_found_and_nothing_else() -> None:
    found = benchmarks("bench")
    assert found["containers"] == "bench.containers"
    assert not {"peer", "report", "wrk", "floor"} & found.keys()
    assert benchmarks("bench.peer")["containers"] == "bench.peer.containers"


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    done = CliRunner().invoke(main, ["nothing"])
    assert done.exit_code != 0
    assert "containers" in done.output


def test_no_docker_is_answered_with_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    done = CliRunner().invoke(main, ["--peer"])
    assert done.exit_code != 0
    assert "scripts/setup peer" in done.output
