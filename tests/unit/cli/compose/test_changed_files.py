"""Files that change while a command runs: one state of them is applied, or none."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compose.files import Disk
from compose.mapping import stack
from compose.report import Refused
from pyswarm_core.api.v1 import stacks_pb2
from pyswarm_core.codec import from_proto
from pyswarm_core.stacks.changes import ApplyStack
from tests.unit.cli.conftest import Pyswarm
from tests.unit.cli.scripted import Script

FILE = """\
services:
  app: {image: "app:%s", configs: [c]}
configs: {c: {file: ./c.txt}}
"""
DEPLOY = ("stack", "deploy", "-c", "stack.yaml", "--detach", "shop")


@pytest.fixture
def folder(script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stack.yaml").write_text(FILE % "1")
    (tmp_path / "c.txt").write_text("one")
    script.on("ApplyStack", stacks_pb2.StackReply())
    return tmp_path


def replaced(path: Path, text: str) -> None:
    """A file of the same name, size and time, as an editor or `git checkout` makes one."""
    status = path.stat()
    other = path.with_suffix(".new")
    other.write_text(text)
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(path)


def appended(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def removed(path: Path, text: str) -> None:
    del text
    path.unlink()


@pytest.mark.parametrize("change", [replaced, appended, removed])
def test_a_file_that_changed_after_it_was_read_is_told(
    tmp_path: Path, change: Callable[[Path, str], None]
) -> None:
    disk = Disk()
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
        assert disk.read(str(tmp_path / name)) == name.encode()
    disk.expect_unchanged()
    change(tmp_path / "b", "c")
    assert disk.read(str(tmp_path / "b")) == b"b"
    with pytest.raises(Refused) as caught:
        disk.expect_unchanged()
    expected = f"{tmp_path}/b: the file changed while the project was read: run the command again"
    assert str(caught.value) == expected


@pytest.mark.parametrize("name", ["stack.yaml", "c.txt"])
def test_a_change_between_two_reads_is_refused_with_the_file(
    pyswarm: Pyswarm, script: Script, folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    made = stack.stack_of

    def late(*given: Any) -> Any:
        found = made(*given)
        replaced(folder / name, FILE % "2" if name == "stack.yaml" else "two")
        return found

    monkeypatch.setattr(stack, "stack_of", late)
    for command in (DEPLOY, ("compose", "-f", "stack.yaml", "up", "-d")):
        done = pyswarm(*command)
        assert done.code != 0
        assert f"{folder}/{name}: the file changed while the project was read" in done.err
    assert not script.requests("ApplyStack")


def test_a_change_after_the_files_were_read_does_not_count(
    pyswarm: Pyswarm, script: Script, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cli.compose import localbinds

    pinned = localbinds.pinned

    def late(*given: Any) -> Any:
        replaced(folder / "stack.yaml", FILE % "2")
        replaced(folder / "c.txt", "two")
        return pinned(*given)

    monkeypatch.setattr(localbinds, "pinned", late)
    assert pyswarm(*DEPLOY).code == 0
    [request] = script.requests("ApplyStack")
    applied = from_proto(ApplyStack, request)
    [service] = applied.spec.services
    assert service.task_template.container_spec.image == "app:1"
    [config] = applied.spec.configs
    assert config.data == b"one"
