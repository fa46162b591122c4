"""Why a program cannot be run, found in the file itself, beneath the image's root."""

import os
import platform
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.runtime.program.beneath import Root
from agent.runtime.program.binfmt import read_program
from agent.runtime.program.inspection import _with_path, fault
from pyswarm_core.plaintext import is_utf8
from tests.fixtures.programs import CASES, PATH, Case, make_programs
from tests.fixtures.rootfs import make_rootfs

WORKER = {"uid": 1000, "gid": 1000}


@pytest.fixture(scope="module")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_rootfs(tmp_path_factory.mktemp("image") / "rootfs")
    make_programs(root)
    return root


def config(case: Case) -> dict[str, object]:
    process = {"args": [case.command], "cwd": case.dir or "/", "env": [f"PATH={PATH}"]}
    return {"process": {**process, "user": WORKER if case.user else {}}}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.command}{case.dir}")
def test_what_is_wrong_with_a_program_is_said_with_its_path(rootfs: Path, case: Case) -> None:
    if case.user and os.geteuid():
        pytest.skip("needs files of another user")
    assert fault(rootfs, config(case)) == case.says.replace("MACHINE", platform.machine())


def test_nothing_is_said_of_a_program_that_can_run(rootfs: Path) -> None:
    for command in ("/bin/sh", "sh", "/bin/../bin/busybox"):
        assert fault(rootfs, config(Case(command=command, says=""))) == ""


def test_what_a_mount_hides_is_not_judged(rootfs: Path) -> None:
    hidden = config(Case(command="/volume/run", says=""))
    assert fault(rootfs, {**hidden, "mounts": [{"destination": "/volume"}]}) == ""


@pytest.mark.parametrize("ask", [Root.stat, Root.resolved, lambda root, path: root.head(path, 9)])
def test_no_link_leads_out_of_the_root(tmp_path: Path, ask: Callable[[Root, str], object]) -> None:
    (tmp_path / "secret").write_text("secret")
    root = tmp_path / "root"
    root.mkdir()
    for number, target in enumerate((f"{tmp_path}/secret", "../secret", "/../secret", "/proc/1")):
        (root / str(number)).symlink_to(target)
        with pytest.raises(FileNotFoundError):
            ask(Root(root), f"/{number}")
    with pytest.raises(FileNotFoundError):
        ask(Root(root), "/../secret")


def test_names_are_shown_on_one_line_and_shortened(rootfs: Path) -> None:
    said = fault(rootfs, config(Case(command="/bin/\n\x1b[2J" + "x" * 5000, says="")))
    assert said.isprintable()
    assert len(said) < 1000


def test_a_link_to_a_name_that_is_no_utf8_is_told_in_utf8(tmp_path: Path) -> None:
    (tmp_path / "run").symlink_to(os.fsdecode(b"/no\xff"))
    said = fault(tmp_path, config(Case(command="/run", says="")))
    assert is_utf8(said)
    assert r"/run is a link to /no\\udcff" in said


@pytest.mark.parametrize(
    "head",
    [b"\x7fELF", b"\x7fELF\2\1" + bytes(12), b"\x7fELF\2\1" + b"\xff" * 200, b"#!", b"#!\r\n"],
)
def test_a_broken_file_is_judged_without_an_error(head: bytes) -> None:
    assert read_program(head, "x86_64").fault


def test_an_interpreter_is_named_as_the_kernel_reads_it() -> None:
    assert read_program(b"#! /usr/bin/env -S a b\nx", "x86_64").interpreter == "/usr/bin/env"
    assert read_program(b"#!/bin/sh\t-e\r\n", "x86_64").interpreter == "/bin/sh"
    assert read_program(b"#!/bin/sh\r\n", "x86_64").interpreter == "/bin/sh\r"


@pytest.mark.parametrize(
    "message",
    [
        "chdir `/no/such`: No such file or directory",
        'unable to start container process: chdir to cwd ("/no/such") set in config.json failed:'
        " no such file or directory",
    ],
)
def test_a_working_directory_that_is_missing_is_named(message: str) -> None:
    said = 'working directory "/no/such": no such file or directory'
    assert _with_path(message, "true") == said
