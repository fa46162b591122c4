"""Which version this is, by git or as it was built."""

import subprocess
from pathlib import Path

import pytest

from pyswarm_core import version as module
from pyswarm_core.limits import PROTOCOL, PROTOCOL_OLDEST
from pyswarm_core.objects import NodeDescription
from pyswarm_core.validation import description_problems
from pyswarm_core.version import from_description, version


@pytest.fixture(autouse=True)
def _forget() -> None:
    version.cache_clear()


@pytest.mark.parametrize(
    ("described", "expected"),
    [
        ("v1.2.3-0-gabc1234", "1.2.3"),
        ("v1.2.3-4-gabc1234", "1.2.4.dev4+gabc1234"),
        ("v1.2.3-0-gabc1234-dirty", "1.2.4.dev0+gabc1234.dirty"),
        ("v2.0.0rc1-2-gabc1234", "2.0.0rc1.dev2+gabc1234"),
    ],
)
def test_a_commit_is_on_its_way_to_the_release_after_its_tag(described: str, expected: str) -> None:
    assert from_description(described) == expected


def test_two_commits_of_a_checkout_have_two_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "pyswarm_core"
    package.mkdir()
    monkeypatch.setattr(module, "_HERE", package)

    def git(*words: str) -> None:
        identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
        command = ["git", "-C", str(tmp_path), *identity, *words]
        subprocess.run(command, check=True, capture_output=True)

    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "one")
    first = version()
    git("commit", "-q", "--allow-empty", "-m", "two")
    version.cache_clear()
    second = version()
    assert first != second
    assert first.startswith("0.1.0.dev1+g")
    assert not description_problems(NodeDescription(hostname="a", engine_version=second))
    git("tag", "v3.1.4")
    version.cache_clear()
    assert version() == "3.1.4"


def test_what_was_built_says_what_it_was_built_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_HERE", tmp_path)
    (tmp_path / "_version.py").write_text('"""Built."""\n\nVERSION = "9.8.7"\n')
    assert version() == "9.8.7"


def test_without_git_and_a_build_there_is_a_version_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_HERE", tmp_path / "there" / "is" / "nothing")
    assert version()[0].isdigit()


def test_an_agent_that_tells_no_protocol_speaks_the_first() -> None:
    assert NodeDescription(hostname="a").spoken == 1
    assert NodeDescription(hostname="a", protocol=PROTOCOL).spoken == PROTOCOL
    assert 1 <= PROTOCOL_OLDEST <= PROTOCOL
