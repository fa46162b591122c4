"""`pyswarm build --node`: what is sent to the node, and what it prints."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from cli.image.building.context import sources
from cli.image.building.display import Plain
from cli.image.building.progress import BuildFailed, Place, Progress
from cli.image.building.remote import _PLACE, Lines, packed, request_of
from pyswarm_core.docker.building.recipe import Recipe, secret, tag
from pyswarm_core.specs import RegistryLogin
from pyswarm_core.streams.requests import BuildImageRequest, BuildSecret
from tests.unit.cli.conftest import Pyswarm
from tests.unit.cli.scripted import Script

FROM = "FROM r:5000/base:1\nRUN make\n"


def write(top: Path, **files: str) -> None:
    for name, text in files.items():
        path = top / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def asked(top: Path, work: Path, **given: Any) -> BuildImageRequest:
    recipe = Recipe(context=str(top), **given)
    return request_of("n1", recipe, sources(recipe, work))


def names(top: Path, work: Path) -> dict[str, tarfile.TarInfo]:
    """The entries of the archive."""
    content = b"".join(packed(sources(Recipe(context=str(top)), work)))
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        return {entry.name.rstrip("/"): entry for entry in archive}


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


@pytest.fixture
def top(tmp_path: Path) -> Path:
    folder = tmp_path / "context"
    write(folder, Dockerfile=FROM, a="1", sub__b="2", sub__c="3")
    return folder


def test_the_context_is_sent_without_what_is_ignored_and_without_owners(
    top: Path, work: Path
) -> None:
    write(top, _DOT_dockerignore="*\n!sub/b\n!x*\n", node_modules__huge="x" * 100)
    (top / "xlink").symlink_to("sub/b")
    (top / "sub" / "b").chmod(0o750)
    found = names(top, work)
    assert sorted(found) == ["sub", "sub/b", "xlink"]
    assert {(one.uid, one.gid) for one in found.values()} == {(0, 0)}
    assert found["sub/b"].mode == 0o750
    assert found["xlink"].linkname == "sub/b"
    (top / ".dockerignore").unlink()
    everything = ["Dockerfile", "a", "node_modules", "node_modules/huge", "sub", "sub/b", "sub/c"]
    assert sorted(names(top, work)) == [*everything, "xlink"]


def test_what_the_flags_say_is_sent(
    top: Path, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OURS", "of the environment")
    monkeypatch.setenv("TOKEN", "sesame")
    logins = tmp_path / "auth.json"
    logins.write_text(json.dumps({"auths": {"r:5000": {"auth": "YW5uOnJpZ2h0"}, "other:1": {}}}))
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(logins))
    (tmp_path / "key").write_bytes(b"\0key")
    file = tmp_path / "elsewhere"
    file.write_text(FROM)
    found = asked(
        top,
        work,
        file=str(file),
        tags=(tag("web:1"), tag("r:5000/web")),
        build_args=("A=1", "OURS", "MISSING"),
        labels=("x=y",),
        target="0",
        no_cache=True,
        pull=True,
        secrets=(secret(f"id=key,src={tmp_path}/key"), secret("id=token,env=TOKEN")),
        platform="linux/arm64",
        network="none",
        add_hosts=("db:10.0.0.1",),
        cache_from="r:5000/cache",
        cache_to="r:5000/cache",
    )
    login = RegistryLogin(registry="r:5000", username="ann", password="right")
    assert found == BuildImageRequest(
        ref="n1",
        dockerfile=FROM.encode(),
        name="elsewhere",
        tags=("docker.io/library/web:1", "r:5000/web:latest"),
        build_args=("A=1", "OURS=of the environment"),
        labels=("x=y",),
        target="0",
        no_cache=True,
        pull=True,
        secrets=(BuildSecret(id="key", data=b"\0key"), BuildSecret(id="token", data=b"sesame")),
        platform="linux/arm64",
        network="none",
        add_hosts=("db:10.0.0.1",),
        cache_from="r:5000/cache",
        cache_to="r:5000/cache",
        logins=(login,),
    )
    assert "sesame" not in repr(found)
    assert "right" not in repr(found)


async def test_bytes_become_lines_of_bounded_length(
    top: Path, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = Lines(progress(top, work))
    for part in (b"STEP 1/2: FROM r:5000/base:1\nSTEP 2", b"/2: RUN make\r\non", b"e\ntwo"):
        await lines.write(part)
    lines.end()
    await lines.write(b"x" * 200_000)
    shown = capsys.readouterr().err.splitlines()
    name = "Dockerfile"
    assert shown[:4] == [
        f"[1/2] FROM r:5000/base:1 ({name}:1)", f"[2/2] RUN make ({name}:2)", "one", "two",
    ]  # fmt: skip
    assert max(map(len, shown)) <= 64 * 1024 + 3


def progress(top: Path, work: Path) -> Progress:
    found = sources(Recipe(context=str(top)), work)
    return Progress("", found, Plain(found.content.name))


def test_paths_of_the_node_are_not_in_errors(top: Path, work: Path) -> None:
    write(top, Dockerfile="FROM scratch\nCOPY b /\n")
    for where, place in (
        ("/var/lib/pyswarm/pulls/build-a_b1/context", _PLACE),
        (str(top), Place.here(top)),
    ):
        shown = progress(top, work)
        shown.line("STEP 1/2: FROM scratch")
        shown.line("STEP 2/2: COPY b /")
        shown.line(
            'Error: building at STEP "COPY b /": checking on sources under "x": copier: stat:'
            f' "{where}/b": no such file or directory'
        )
        with pytest.raises(BuildFailed) as raised:
            shown.end(failed=True, place=place)
        expected = "b: the context has no such file, or .dockerignore excludes it"
        assert str(raised.value) == f"Dockerfile:2: COPY b /: {expected}"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--secret", "id=a,src={}/none"), '--secret: file "'),
        (("-f", "{}/none"), "--file"),
        (("--target", "x"), "--target"),
        (("--iidfile", "{}/no/dir"), "--iidfile"),
    ],
)
def test_bad_input_is_refused_before_anything_is_sent(
    pyswarm: Pyswarm, script: Script, top: Path, words: tuple[str, ...], said: str
) -> None:
    ran = pyswarm("build", "--node", "n1", *(word.format(top) for word in words), str(top))
    assert (ran.code, ran.out) == (2, "")
    assert said.format(top) in ran.err
    assert script.asked == []
