"""Which mounts of the machine a playground's host keeps."""

from pathlib import Path
from typing import Any

import pytest

from cli.playground import disks
from cli.playground.fleet import Fleet

PLAN = Fleet(name="lab", nodes=2)
HOST = PLAN.hosts[0]


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """The commands that are run, as words."""
    found: list[list[str]] = []
    monkeypatch.setattr(disks, "_run", lambda *words: found.append([str(word) for word in words]))
    monkeypatch.setattr(Path, "mkdir", lambda *_, **__: None)
    monkeypatch.setattr(Path, "touch", lambda *_, **__: None)
    return found


def mounted(monkeypatch: pytest.MonkeyPatch, *paths: str) -> None:
    """These are the machine's mounts."""
    text = "".join(f"x {path} tmpfs rw 0 0\n" for path in paths)
    monkeypatch.setattr(Path, "read_text", lambda *_: text)


def test_a_host_lets_go_of_what_others_have_mounted(
    ran: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounted(
        monkeypatch, "/", "/run", "/var/lib", "/run/netns", "/run/netns/lab-lan", str(PLAN.run_dir),
        str(HOST.state_dir), str(PLAN.hosts[1].state_dir), "/home", "/running",
    )  # fmt: skip
    disks.make_namespace(PLAN, HOST)
    let_go = ran[0][ran[0].index("-c") + 3 :]
    assert let_go == ["/run/netns/lab-lan", "/run/netns", str(PLAN.hosts[1].state_dir)]


def test_a_program_below_a_host_s_own_folders_stays_visible(
    ran: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = Path("/var/lib/ci/venv")
    monkeypatch.setattr(disks, "_PROGRAM", (Path("/opt/pyswarm"), python, python))
    mounted(monkeypatch, "/", "/var/lib/ci", "/var/lib/other")
    disks.make_namespace(PLAN, HOST)
    let_go = ran[0][ran[0].index("-c") + 3 :]
    kept = ran[1][ran[1].index("-ec") + 4 :]
    assert let_go == ["/var/lib/other"]
    assert kept == [str(PLAN.run_dir), str(HOST.state_dir), str(python)]


def test_a_namespace_that_cannot_be_bound_is_made_on_another_processor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ran: list[tuple[str, ...]] = []

    def run(*words: str) -> None:
        ran.append(words)
        if words[:3] != ("taskset", "--cpu-list", "5"):
            raise disks.DiskFailed("unshare: mount failed: Invalid argument")

    monkeypatch.setattr(disks, "_run", run)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {7, 5, 3})
    disks._run_on_any_processor("unshare", "sh")
    assert [words[:-2] for words in ran] == [(), *(("taskset", "--cpu-list", p) for p in "35")]


def test_a_namespace_that_no_processor_can_bind_is_refused_with_the_first_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failures = iter(["first", *(f"on {n}" for n in range(4096))])

    def run(*_: str) -> None:
        raise disks.DiskFailed(next(failures))

    monkeypatch.setattr(disks, "_run", run)
    with pytest.raises(disks.DiskFailed, match="first"):
        disks._run_on_any_processor("unshare")
