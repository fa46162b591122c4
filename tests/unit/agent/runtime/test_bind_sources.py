"""Sources of binds, as they are on a host's disk."""

import os
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from agent.runtime.base import RuntimeFailed
from agent.runtime.isolation import binds
from agent.runtime.isolation.binds import expected_over_proc, source_of
from pyswarm_core.volumes.mounts import BindOptions, Mount, MountType


def bind(source: str, *, create: bool = False, beneath: str = "") -> Mount:
    options = BindOptions(create_mountpoint=create, beneath=beneath)
    return Mount(type=MountType.BIND, source=source, target="/data", bind_options=options)


def refusal(mount: Mount) -> str:
    with pytest.raises(RuntimeFailed) as error:
        source_of(mount)
    return str(error.value)


def test_a_bind_needs_its_source_unless_it_is_to_be_made(tmp_path: Path) -> None:
    missing = str(tmp_path / "a" / "b")
    told = f'invalid mount config for type "bind": bind source path does not exist: {missing}'
    assert refusal(bind(missing)) == told
    assert not Path(missing).exists()
    assert source_of(bind(missing, create=True)).path == missing
    assert source_of(bind(missing)).path == missing
    assert Path(missing).is_dir()


def test_links_are_followed_once_and_the_file_behind_them_is_named(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    found = source_of(bind(f"{tmp_path}/link"))
    status = (tmp_path / "real").stat()
    assert found.path == f"{tmp_path}/real"
    assert (found.device, found.inode) == (status.st_dev, status.st_ino)
    assert (found.target, found.source) == ("/data", f"{tmp_path}/link")


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("/proc/self/root", "magic link"),
        ("/etc/passwd/x", "not a directory"),
        ("/" + "n" * 300, "too long"),
    ],
)
def test_what_cannot_be_a_source_is_named_with_the_reason(source: str, told: str) -> None:
    assert told in refusal(bind(source)).lower()


def test_a_loop_of_links_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert "too many symbolic links" in refusal(bind(f"{tmp_path}/a"))


def test_a_dangling_link_is_not_replaced_by_a_directory(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("missing")
    assert "does not exist" in refusal(bind(f"{tmp_path}/a"))
    assert refusal(bind(f"{tmp_path}/a", create=True))
    assert (tmp_path / "a").is_symlink()
    assert not (tmp_path / "missing").exists()


@pytest.mark.parametrize("name", ["with space", "ünïcode", "x" * 255, "100%:name", "-rf"])
def test_any_name_is_resolved_as_it_is(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    assert source_of(bind(f"{tmp_path}/{name}")).path == f"{tmp_path}/{name}"


def test_paths_of_proc_that_the_configuration_covers_are_expected() -> None:
    """CDI devices mount beneath /proc/driver; nothing covers /proc itself."""
    oci = {
        "mounts": [{"destination": "/proc"}, {"destination": "/proc/driver/gpu"}],
        "linux": {"maskedPaths": ["/proc/kcore"], "readonlyPaths": ["/proc/sys"]},
    }
    assert expected_over_proc(oci) == {"/proc/driver/gpu", "/proc/kcore", "/proc/sys"}
    assert expected_over_proc({}) == frozenset()


@pytest.mark.parametrize(
    ("point", "is_refused"),
    [
        ("/proc/sys/fs/binfmt_misc", False),
        ("/proc/kcore", False),
        ("/proc", True),
        ("/proc/1", True),
    ],
)
def test_a_mount_over_proc_that_is_neither_configured_nor_of_the_host_is_refused(
    monkeypatch: pytest.MonkeyPatch, point: str, is_refused: bool
) -> None:
    of_host = ["/proc/sys/fs/binfmt_misc", "/proc"]
    monkeypatch.setattr(
        binds, "_mounts_over_proc", lambda pid: of_host if pid == os.getpid() else [point]
    )
    if is_refused:
        with pytest.raises(RuntimeFailed, match=f"a mount covers {point}: "):
            binds.verify((), 1, {"/proc/kcore"})
    else:
        binds.verify((), 1, {"/proc/kcore"})


# Beneath an allowed path


@pytest.fixture
def srv(tmp_path: Path) -> Path:
    """An allowed path, beside a directory that no bind may reach."""
    made = tmp_path / "srv"
    (made / "app" / "data").mkdir(parents=True)
    (tmp_path / "etc").mkdir()
    return made


@pytest.mark.parametrize("path", ["", "/", "/app", "/app/data", "/inner", "/inner/data"])
def test_a_source_beneath_the_allowed_path_is_resolved(srv: Path, path: str) -> None:
    (srv / "inner").symlink_to("app")
    found = source_of(bind(f"{srv}{path}", beneath=str(srv)))
    assert found.path == str((srv / path.lstrip("/")).resolve())


@pytest.mark.parametrize(
    "link", ["/etc", "{outside}", "../etc", "app/../../etc", "/proc/self/root/etc", "{srv}/app"]
)
@pytest.mark.parametrize("rest", ["", "/x"])
@pytest.mark.parametrize("create", [False, True])
def test_a_link_that_leads_out_is_not_followed(
    srv: Path, link: str, rest: str, create: bool
) -> None:
    """One with an absolute target leads out of the directory, wherever it ends."""
    outside = srv.parent / "etc"
    (srv / "link").symlink_to(link.format(outside=outside, srv=srv))
    before = sorted(Path("/etc").iterdir())
    told = refusal(bind(f"{srv}/link{rest}", beneath=str(srv), create=create))
    assert f"it leads out of the allowed path {srv} by a symbolic link" in told
    assert not list(outside.iterdir())
    assert sorted(Path("/etc").iterdir()) == before


@pytest.mark.parametrize("path", ["{srv}/../etc", "{srv}2", "/etc", "{srv}//app", "{srv}/./app"])
def test_a_name_that_is_not_beneath_is_refused(srv: Path, path: str) -> None:
    assert "it leads out of the allowed path" in refusal(
        bind(path.format(srv=srv), beneath=str(srv))
    )


@pytest.mark.parametrize("name", ["srv", "deep/srv"])
def test_an_allowed_path_that_is_a_link_allows_nothing(tmp_path: Path, name: str) -> None:
    """A container with a bind above it could have placed the link."""
    (tmp_path / "real" / "srv").mkdir(parents=True)
    (tmp_path / "deep").symlink_to("real")
    (tmp_path / "srv").symlink_to("real/srv")
    allowed = f"{tmp_path}/{name}"
    for source in (allowed, f"{allowed}/x"):
        told = refusal(bind(source, beneath=allowed, create=True))
        assert f"the allowed path {allowed} is or has a symbolic link" in told
    assert not list((tmp_path / "real" / "srv").iterdir())


def test_missing_directories_are_made_beneath_it(srv: Path) -> None:
    source = f"{srv}/new/deep"
    assert "does not exist" in refusal(bind(source, beneath=str(srv)))
    assert source_of(bind(source, beneath=str(srv), create=True)).path == source
    assert Path(source).is_dir()
    missing = f"{srv}/none"
    assert "does not exist" in refusal(bind(missing, beneath=missing, create=True))
    assert not Path(missing).exists()


def test_a_link_that_is_exchanged_all_the_time_never_leads_out(srv: Path) -> None:
    """CVE-2021-25741 with a writer that exchanges the source as fast as it can."""
    outside = srv.parent / "etc"
    (srv / "link").symlink_to(outside)
    ended = threading.Event()
    good = (srv / "app").stat()

    def exchange() -> None:
        while not ended.is_set():
            for name in ("app", "link"):
                (srv / name).rename(srv / "held")
                (srv / "held").rename(srv / "source")
                (srv / "source").rename(srv / name)

    writer = threading.Thread(target=exchange)
    writer.start()
    try:
        for _ in range(3000):
            with suppress(RuntimeFailed):
                found = source_of(bind(f"{srv}/source", beneath=str(srv)))
                assert (found.device, found.inode) == (good.st_dev, good.st_ino)
    finally:
        ended.set()
        writer.join()
