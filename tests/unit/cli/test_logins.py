"""`--with-registry-auth`: the user's login goes out with the service, and nowhere else."""

import json
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from cli.service.spec.logins import login_for
from pyswarm_core.codec import from_proto
from pyswarm_core.docker.reference import parse_reference
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.specs import RegistryLogin
from tests.unit.cli.conftest import Pyswarm
from tests.unit.cli.objects import service_reply
from tests.unit.cli.scripted import Script

IMAGE = "registry.test:5000/team/web:1"
ANN = {"auth": b64encode(b"ann:right:1").decode()}
BOB = {"username": "bob", "password": "left"}


def written(path: Path, told: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(told if isinstance(told, str) else json.dumps(told))
    return path


def found(home: Path, image: str = IMAGE, **own: str) -> tuple[str, str] | None:
    login = login_for(parse_reference(image), {"HOME": str(home), **own})
    assert login is None or login.registry == parse_reference(image).registry
    return (login.username, login.password) if login else None


@pytest.mark.parametrize(
    "key",
    ["registry.test:5000", "https://registry.test:5000", "http://registry.test:5000/v2/",
     "registry.test:5000/team", "registry.test:5000/team/web"],
)  # fmt: skip
def test_a_registry_is_found_by_every_name_that_tools_give_it(tmp_path: Path, key: str) -> None:
    written(tmp_path / ".docker/config.json", {"auths": {key: ANN}})
    assert found(tmp_path) == ("ann", "right:1")


@pytest.mark.parametrize("key", ["https://index.docker.io/v1/", "docker.io"])
def test_docker_hub_is_found_by_its_old_name(tmp_path: Path, key: str) -> None:
    written(tmp_path / ".docker/config.json", {"auths": {key: BOB}})
    assert found(tmp_path, "web:1") == ("bob", "left")


@pytest.mark.parametrize("key", ["registry.test", "other.test:5000", "registry.test:5000/other"])
def test_a_login_for_another_place_is_not_sent(tmp_path: Path, key: str) -> None:
    written(tmp_path / ".docker/config.json", {"auths": {key: ANN}})
    assert found(tmp_path) is None


def test_the_first_file_that_has_a_login_wins(tmp_path: Path) -> None:
    written(tmp_path / "run/containers/auth.json", {"auths": {"other.test": ANN}})
    written(tmp_path / ".config/containers/auth.json", {"auths": {"registry.test:5000": BOB}})
    written(tmp_path / "d/config.json", {"auths": {"registry.test:5000": ANN}})
    own = {"XDG_RUNTIME_DIR": str(tmp_path / "run"), "DOCKER_CONFIG": str(tmp_path / "d")}
    assert found(tmp_path, **own) == ("bob", "left")
    named = written(tmp_path / "named.json", {"auths": {"registry.test:5000": ANN}})
    assert found(tmp_path, REGISTRY_AUTH_FILE=str(named)) == ("ann", "right:1")


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ("{", "cannot be read"),
        ("[]", "expected a JSON object"),
        ({"auths": {"registry.test:5000": {"auth": "%"}}}, "not USER:PASSWORD"),
        ({"auths": {"registry.test:5000": {"identitytoken": "secret"}}}, "identity token"),
        ({"credHelpers": {"registry.test:5000": "none-such"}}, "docker-credential-none-such"),
        ({"credHelpers": {"registry.test:5000": "../bin/echo"}}, "docker-credential-"),
    ],
)
def test_a_login_that_cannot_be_used_is_said_so(tmp_path: Path, told: Any, said: str) -> None:
    written(tmp_path / ".docker/config.json", told)
    with pytest.raises(InvalidArgument, match=said) as caught:
        found(tmp_path)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("told", "answer"),
    [
        ({"credHelpers": {"registry.test:5000": "test"}}, ("ann", "right")),
        ({"credsStore": "test", "auths": {"registry.test:5000": {}}}, ("ann", "right")),
        ({"credsStore": "test", "auths": {}}, None),
    ],
)
def test_a_credential_helper_is_queried(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    told: Any,
    answer: tuple[str, str] | None,
) -> None:
    helper = written(
        tmp_path / "bin/docker-credential-test",
        "#!/bin/sh\n"
        'test "$1 $(cat)" = "get registry.test:5000" || exit 1\n'
        'echo \'{"Username": "ann", "Secret": "right"}\'\n',
    )
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{helper.parent}:/usr/bin:/bin")
    written(tmp_path / ".docker/config.json", told)
    assert found(tmp_path) == answer


@pytest.mark.parametrize("answer", ["", "[]", "{}", "null", '{"Username": "ann"}', r"\\377"])
def test_a_helper_that_gives_no_login_is_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    program = tmp_path / "bin/docker-credential-test"
    written(program, f"#!/bin/sh\nprintf '{answer}'\n").chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    written(tmp_path / ".docker/config.json", {"credHelpers": {"registry.test:5000": "test"}})
    with pytest.raises(InvalidArgument, match="docker-credential-test"):
        found(tmp_path)


@pytest.mark.parametrize("told", [{"auths": []}, {"credHelpers": 1}, {"auths": {IMAGE: "x"}}])
def test_a_file_of_another_shape_has_no_login(tmp_path: Path, told: Any) -> None:
    written(tmp_path / ".docker/config.json", told)
    assert found(tmp_path) is None


@pytest.mark.parametrize(
    ("words", "rpc"),
    [
        (("create", "-d", "--with-registry-auth", IMAGE), "CreateService"),
        (("update", "-d", "--with-registry-auth", "--image", IMAGE, "web"), "UpdateService"),
    ],
)
def test_the_flag_sends_the_login_and_shows_it_to_nobody(
    script: Script,
    pyswarm: Pyswarm,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    rpc: str,
) -> None:
    named = written(tmp_path / "auth.json", {"auths": {"registry.test:5000": ANN}})
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(named))
    script.on(rpc, service_reply()).on("GetService", service_reply())
    ran = pyswarm("service", *words)
    assert (ran.code, ran.err) == (0, "")
    assert "right" not in ran.out
    login = from_proto(RegistryLogin, script.requests(rpc)[0].registry_login)
    assert (login.registry, login.username, login.password) == (
        "registry.test:5000", "ann", "right:1",
    )  # fmt: skip


def test_without_a_login_the_service_is_made_with_a_warning(
    script: Script, pyswarm: Pyswarm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "none.json"))
    script.on("CreateService", service_reply())
    ran = pyswarm("service", "create", "-d", "--with-registry-auth", IMAGE)
    assert ran.code == 0
    assert ran.err.startswith("warning: no login for registry.test:5000 in ")
    assert not script.requests("CreateService")[0].HasField("registry_login")


def test_without_the_flag_nothing_is_sent(
    script: Script, pyswarm: Pyswarm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = written(tmp_path / "auth.json", {"auths": {"registry.test:5000": ANN}})
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(named))
    script.on("CreateService", service_reply())
    pyswarm("service", "create", "-d", IMAGE)
    assert not script.requests("CreateService")[0].HasField("registry_login")
