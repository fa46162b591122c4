"""`login` and `logout`: Docker's file, and the credential helper that it names."""

import json
import os
import stat
from pathlib import Path

import pytest

from cli.image.accounts import files
from cli.image.accounts.login import require_server
from cli.service.spec.logins import login_for
from pyswarm_core.docker.reference import parse_reference
from pyswarm_core.errors import InvalidArgument, PyswarmError
from tests.unit.cli.conftest import Pyswarm
from tests.unit.cli.scripted import Script

SERVER = "registry.test:5000"
HELPER = """#!/bin/sh
printf '%s ' "$1" >>"$HELPER_LOG"; cat >>"$HELPER_LOG"; echo >>"$HELPER_LOG"
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "docker" / "config.json"


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A credential helper that notes what it was asked."""
    program = tmp_path / "bin" / "docker-credential-noting"
    program.parent.mkdir()
    program.write_text(HELPER)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    monkeypatch.setenv("HELPER_LOG", str(tmp_path / "log"))
    return tmp_path / "log"


def test_a_login_is_stored_as_docker_does_and_found_again(path: Path) -> None:
    path.parent.mkdir()
    path.write_text('{"auths": {"other.test": {"auth": "eDp5"}}, "psFormat": "x"}')
    assert files.store(path, SERVER, "ann", "ri:ght") == ""
    document = json.loads(path.read_text())
    assert document["auths"][SERVER] == {"auth": "YW5uOnJpOmdodA=="}
    assert (document["auths"]["other.test"], document["psFormat"]) == ({"auth": "eDp5"}, "x")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    found = login_for(parse_reference(f"{SERVER}/web"), {"REGISTRY_AUTH_FILE": str(path)})
    assert found is not None
    assert (found.username, found.password) == ("ann", "ri:ght")
    assert files.erase(path, SERVER)
    assert not files.erase(path, SERVER)
    assert list(json.loads(path.read_text())["auths"]) == ["other.test"]


def test_docker_hub_has_dockers_key(path: Path) -> None:
    files.store(path, "docker.io", "ann", "right")
    assert list(json.loads(path.read_text())["auths"]) == ["https://index.docker.io/v1/"]
    found = login_for(parse_reference("web"), {"REGISTRY_AUTH_FILE": str(path)})
    assert found is not None
    assert files.erase(path, "docker.io")


@pytest.mark.parametrize("named", [{"credsStore": "noting"}, {"credHelpers": {SERVER: "noting"}}])
def test_a_helper_keeps_the_password(named: dict[str, object], path: Path, helper: Path) -> None:
    path.parent.mkdir()
    path.write_text(json.dumps(named))
    assert files.store(path, SERVER, "ann", "right") == "noting"
    assert "right" not in path.read_text()
    assert json.loads(path.read_text())["auths"] == {SERVER: {}}
    assert files.erase(path, SERVER)
    stored, erased = helper.read_text().splitlines()
    assert json.loads(stored.removeprefix("store ")) == {
        "ServerURL": SERVER,
        "Username": "ann",
        "Secret": "right",
    }
    assert erased == f"erase {SERVER}"


def test_a_helper_that_is_missing_stores_nothing(path: Path) -> None:
    path.parent.mkdir()
    path.write_text('{"credsStore": "none-such"}')
    with pytest.raises(PyswarmError, match="docker-credential-none-such store failed"):
        files.store(path, SERVER, "ann", "right")
    assert path.read_text() == '{"credsStore": "none-such"}'


@pytest.mark.parametrize("text", ["{", "[]", '{"auths": []}', "\0"])
def test_a_file_that_is_not_valid_is_left_as_it_is(text: str, path: Path) -> None:
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(InvalidArgument, match="cannot be read"):
        files.store(path, SERVER, "ann", "right")
    assert path.read_text() == text


@pytest.mark.parametrize(
    ("given", "server"),
    [
        (None, "docker.io"),
        ("https://index.docker.io/v1/", "docker.io"),
        ("https://registry.test:5000/v2/", SERVER),
        ("localhost:5000", "localhost:5000"),
    ],
)
def test_servers_are_named_as_in_docker(given: str | None, server: str) -> None:
    assert require_server(given) == server


@pytest.mark.parametrize("given", ["registry", "a b:5000", "registry.test/team", "-x", ":5000"])
def test_other_servers_are_refused(given: str, script: Script, pyswarm: Pyswarm) -> None:
    ran = pyswarm("logout", "--", given)
    assert (ran.code, script.asked) == (2, [])
    assert f'SERVER: value "{given}" is not valid: expected HOST[:PORT]' in ran.err


def test_a_login_without_what_it_needs_is_refused(pyswarm: Pyswarm) -> None:
    ran = pyswarm("login", "--password-stdin", SERVER)
    assert (ran.code, "--username" in ran.err) == (2, True)
    ran = pyswarm("login", "-u", "ann", "-p", "x", "--password-stdin", SERVER)
    assert ran.code == 2
    assert "WARNING! Using --password via the CLI is insecure" in ran.err


def test_logging_out_twice(path: Path, pyswarm: Pyswarm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(path.parent))
    files.store(path, SERVER, "ann", "right")
    assert pyswarm("logout", SERVER).out == f"Removing login credentials for {SERVER}\n"
    assert pyswarm("logout", SERVER).out == f"Not logged in to {SERVER}\n"


def podmans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The environment of a user who has logged in with podman."""
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    path = tmp_path / "run" / "containers" / "auth.json"
    path.parent.mkdir(parents=True)
    path.write_text(
        json.dumps({"auths": {SERVER: {"auth": "b2xkOm9sZA=="}, "other.test": {"auth": "eDp5"}}})
    )
    return path


def test_what_was_just_logged_in_counts(
    tmp_path: Path, pyswarm: Pyswarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = podmans(tmp_path, monkeypatch)
    monkeypatch.setattr("cli.image.transfer.skopeo.run", lambda *_, **__: "")
    ran = pyswarm("login", "-u", "ann", "-p", "right", SERVER)
    assert (ran.code, ran.out) == (0, "Login Succeeded\n")
    assert f"Removing the former login for {SERVER} from {earlier}\n" in ran.err
    found = login_for(parse_reference(f"{SERVER}/web"), os.environ)
    assert found is not None
    assert (found.username, found.password) == ("ann", "right")
    assert list(json.loads(earlier.read_text())["auths"]) == ["other.test"]
    again = pyswarm("login", "-u", "bob", "-p", "right", SERVER)
    assert "Removing" not in again.err


def test_logging_out_ends_podmans_login_too(
    tmp_path: Path, pyswarm: Pyswarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    podmans(tmp_path, monkeypatch)
    assert pyswarm("logout", SERVER).out == f"Removing login credentials for {SERVER}\n"
    assert login_for(parse_reference(f"{SERVER}/web"), os.environ) is None
    assert login_for(parse_reference("other.test/web"), os.environ) is not None


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "config.json"
    path.symlink_to(tmp_path / "file" / "config.json")
    with pytest.raises(InvalidArgument, match=r"config.json cannot be "):
        files.store(path, SERVER, "ann", "right")
