"""Secrets and configs on a real tmpfs: what it is, when it is full, and a thousand files."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from agent.runtime import mounts
from agent.runtime.base import RuntimeFailed
from agent.secrets import store as storing
from agent.secrets.plan import Content
from agent.secrets.store import SecretStore
from tests.unit.agent.secrets.test_secrets import Host, secret, task
from tests.unit.agent.secrets.test_swaps import change, newer, swapped

SIZE = 64 * 1024
LARGE = Content(b"x" * (SIZE // 2))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SecretStore]:
    found = SecretStore(tmp_path)
    found.prepare()
    yield found
    mounts.unmount(found.root)


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SecretStore]:
    monkeypatch.setattr(storing, "SHARE", str(SIZE))
    found = SecretStore(tmp_path)
    found.prepare()
    yield found
    mounts.unmount(found.root)


def test_the_tmpfs_is_for_root_alone_and_not_swapped(store: SecretStore) -> None:
    lines = Path("/proc/self/mounts").read_text().splitlines()
    (fields,) = [words for line in lines if (words := line.split())[1] == str(store.root)]
    options = set(fields[3].split(","))
    assert fields[2] == "tmpfs"
    assert {"nosuid", "nodev", "noexec", "mode=700"} <= options
    release = Path("/proc/sys/kernel/osrelease").read_text()
    major, minor = (int(word) for word in release.split("-")[0].split(".")[:2])
    assert ("noswap" in options) == ((major, minor) >= (6, 4))
    later = SecretStore(store.root.parent)
    later.prepare()
    assert len([line for line in lines if f" {store.root} " in line]) == 1


async def test_a_full_tmpfs_refuses_what_does_not_fit_and_keeps_the_rest(
    small: SecretStore,
) -> None:
    host = Host(small)
    host.contents = {"id-large": LARGE, "id-other": LARGE}
    await host.ready(task("t1", secret("db")))
    with pytest.raises(RuntimeFailed, match=r"cannot make .* quarter of its memory, is full"):
        await host.ready(task("t2", secret("large")))
    assert [path.name for path in (small.root / "tasks").iterdir()] == ["t1"]
    with pytest.raises(RuntimeFailed, match=r"secret other: the tmpfs .* is full"):
        await host.ready(task("t3", secret("other")))
    assert host.held == {"id-db", "id-conf", "id-large"}
    host.clean("t2")
    assert host.held == {"id-db", "id-conf"}
    await host.ready(task("t4", secret("key")))


async def test_a_swap_on_a_full_tmpfs_replaces_nothing(small: SecretStore) -> None:
    host = Host(small)
    plain = task("t1")
    bare = replace(plain.spec.container_spec, configs=(), secrets=(secret("a"), secret("b")))
    given = replace(plain, spec=replace(plain.spec, container_spec=bare))
    await host.ready(given)
    host.contents["id-b-new"] = LARGE
    new = change(newer(secret("a")), newer(secret("b")))
    with pytest.raises(RuntimeFailed, match=r"cannot replace .* is full"):
        await swapped(host, given, new)
    files = small.directory("t1") / "secrets"
    assert [(files / name).read_text() for name in ("a", "b")] == ["id-a", "id-b"]
    assert [path.name for path in small.directory("t1").iterdir()] == ["secrets"]


async def test_a_thousand_secrets_on_one_task_are_made_and_replaced(store: SecretStore) -> None:
    host = Host(store)
    plain = task("t1")
    many = tuple(secret(f"s{number}") for number in range(1_000))
    spec = replace(plain.spec.container_spec, configs=(), secrets=many)
    given = replace(plain, spec=replace(plain.spec, container_spec=spec))
    (mount,) = await host.ready(given)
    assert mount["destination"] == "/run/secrets"
    assert await swapped(host, given, change(*map(newer, many)))
    files = store.directory("t1") / "secrets"
    assert {path.name: path.read_text() for path in files.iterdir()} == {
        one.file.name: f"{one.id}-new" for one in many
    }
    assert len(host.asked) == 2_000
