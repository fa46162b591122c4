"""Services with volumes of an SMB server, in a machine whose kernel has CIFS. tests/vm/run."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import preflight
from cli.daemons import entering
from tests.e2e.acceptance.fleet import IMAGE, PATIENT, Fleet, playground
from tests.fixtures import commands
from tests.vm.samba import PASSWORD, USER, Server, serving

HOST, SHARE = "host1", "//127.0.0.1/share"
_, SECRET = PASSWORD.split(",")
"""A part of the password that is the same with the comma doubled."""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    preflight.prepare()
    with commands.ready(), playground(tmp_path_factory.mktemp("home"), 1, **PATIENT) as found:
        yield found


@pytest.fixture(scope="module")
def server(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server on the host itself."""
    enter = entering(Path(fleet.netns(HOST)), None)
    with serving(tmp_path_factory.mktemp("smb"), enter) as found:
        yield found


def volume(fleet: Fleet, name: str, *options: str, password: str = PASSWORD) -> None:
    words = (f"share={SHARE}", f"username={USER}", f"password={password}", *options)
    given = [word for one in words for word in ("-o", one)]
    fleet("volume", "create", "-d", "cifs", *given, name)


def shell(fleet: Fleet, name: str, source: str, script: str, *flags: str) -> None:
    mount = ("--mount", f"source={source},target=/data", "--stop-grace-period", "0s")
    words = ("--name", name, *mount, *flags, "--entrypoint", "sh", IMAGE, "-c", script)
    fleet("service", "create", *words)


def removed(fleet: Fleet, *names: str) -> None:
    """Remove the volumes, once no task has them."""
    fleet.until(lambda: fleet.run("volume", "rm", "-f", *names).code == 0, "nothing uses them")


def mounts(fleet: Fleet) -> str:
    return fleet.on(HOST, "cat", "/proc/self/mountinfo").out


def test_containers_share_the_files_and_nothing_shows_the_password(
    fleet: Fleet, server: Server
) -> None:
    volume(fleet, "media", "o=vers=3.0,uid=70")
    local = f"username={USER},password={PASSWORD.replace(',', ',,')},vers=3.0"
    fleet("volume", "create", "-o", "type=cifs", "-o", f"device={SHARE}", "-o", f"o={local}", "own")
    shell(fleet, "writer", "media", "echo written >/data/file; exec sleep 1000")
    (task,) = fleet.running("writer")
    fleet.until((server.exported / "file").exists, "it has written")
    read = fleet("run", "--rm", "-v", "own:/data", "--entrypoint", "cat", IMAGE, "/data/file")
    assert (read, (server.exported / "file").read_text()) == ("written", "written\n")
    assert fleet.contained(task["ID"], "stat", "-c", "%u", "/data/file").out == "70\n"
    assert f" - cifs {SHARE} " in mounts(fleet)

    (media, own) = json.loads(fleet("volume", "inspect", "media", "own"))
    assert media["Options"]["password"] == "***"
    assert own["Options"]["o"] == f"username={USER},password=***,vers=3.0"
    shown = [
        mounts(fleet),
        fleet.contained(task["ID"], "cat", "/proc/mounts").out,
        fleet("task", "inspect", task["ID"]),
        fleet("service", "inspect", "writer"),
        fleet("events", "--since", "24h", "--until", "0s"),
    ]
    assert [text for text in shown if SECRET in text] == []
    places = (str(fleet.run_dir), str(fleet.state_dir))
    found = fleet.on(HOST, "grep", "-rlaF", "--devices=skip", SECRET, *places)
    assert (found.code, found.out) == (1, ""), found

    fleet("service", "rm", "writer")
    fleet.until(lambda: " - cifs " not in mounts(fleet), "it is unmounted")
    removed(fleet, "media", "own")
    assert (server.exported / "file").read_text() == "written\n"


def test_a_task_s_error_says_what_the_server_refuses(fleet: Fleet, server: Server) -> None:
    volume(fleet, "refused", password="mistyped")
    once = ("--detach", "--restart-condition", "none")
    shell(fleet, "refused", "refused", "exec sleep 1000", *once)
    told = (
        f"volume refused: cannot mount {SHARE}: Permission denied: the server refuses the user or"
        " the password: check username, password and domain, and who may use the share"
    )
    fleet.until(lambda: fleet.error_of("refused"), "its task fails")
    assert fleet.error_of("refused") == told
    fleet("service", "rm", "refused")
    removed(fleet, "refused")


def test_a_task_with_a_user_namespace_is_refused_with_the_reason(
    fleet: Fleet, server: Server
) -> None:
    volume(fleet, "mapped")
    once = ("--detach", "--restart-condition", "none", "--userns", "auto")
    shell(fleet, "mapped", "mapped", "exec sleep 1000", *once)
    fleet.until(lambda: fleet.error_of("mapped"), "its task fails")
    told = "volume mapped: the kernel maps no owners of cifs for --userns: leave --userns out"
    assert fleet.error_of("mapped").startswith(told)
    fleet("service", "rm", "mapped")
    removed(fleet, "mapped")


def test_a_server_that_hangs_delays_nothing_else(fleet: Fleet, server: Server) -> None:
    volume(fleet, "stuck")
    once = ("--detach", "--restart-condition", "none")
    agent = fleet.daemon(HOST)
    with server.hanging():
        shell(fleet, "stuck", "stuck", "exec sleep 1000", *once)
        shell(fleet, "other", "plain", "exec sleep 1000")
        assert len(fleet.running("other")) == 1
        fleet.until(lambda: fleet.error_of("stuck"), "its task fails")
        told = "volume stuck: the file system has not answered for 1m0s"
        assert fleet.error_of("stuck") == told
        fleet("service", "rm", "stuck", "other")
        removed(fleet, "stuck", "plain")
        fleet.until(lambda: " - cifs " not in mounts(fleet), "nothing is mounted")
    assert fleet.daemon(HOST) == agent
