"""New versions in running containers: each file is replaced at once, and the program told after."""

import asyncio
import errno
import os
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from agent.runtime.base import RuntimeFailed
from agent.secrets.plan import Content, files_of
from agent.secrets.secrets import Secrets
from agent.secrets.store import SecretStore
from agent.tasks.record import InPlaceChange, Record
from agent.tasks.reloading import is_due, signals
from pyswarm_core.errors import PermissionDenied
from pyswarm_core.ids import TaskId
from pyswarm_core.payloads.references import SecretReference
from pyswarm_core.specs import ContainerSpec, Resources, TaskSpec
from tests.fixtures.records import record
from tests.unit.agent.secrets.test_secrets import CONTEXT, Host, host, killed_at, secret, store

__all__ = ["host", "store"]


def task(*references: SecretReference) -> Record:
    return record("t1", spec=TaskSpec(container_spec=ContainerSpec(image="w", secrets=references)))


def newer(one: SecretReference, signal: str = "HUP") -> SecretReference:
    return one.reloaded(f"{one.id}-new", 2, signal)


def change(*references: SecretReference, forced: bool = False) -> InPlaceChange:
    return InPlaceChange(2, Resources(), secrets=references, configs=(), forced=forced)


async def swapped(host: Host, before: Record, new: InPlaceChange) -> bool:
    host.records[before.task_id] = replace(before, in_place_change=new)
    after = replace(before, spec=new.with_references(before.spec))
    return await host.secrets.swap(after, CONTEXT, host.told.append)


async def test_a_file_is_replaced_by_a_rename_in_the_directory_that_is_mounted(host: Host) -> None:
    old, other = secret("db", "sub/db", 0o400), secret("key")
    given = task(old, other)
    await host.ready(given)
    directory = host.store.directory("t1")
    mounted, kept = (directory / "secrets").stat().st_ino, (directory / "secrets/key").stat().st_ino
    with (directory / "secrets/sub/db").open("rb") as opened:
        assert await swapped(host, given, change(newer(old), other))
        assert opened.read() == b"id-db", "what was opened before stays whole"
    assert (directory / "secrets/sub/db").read_bytes() == b"id-db-new"
    assert (directory / "secrets/sub/db").stat().st_mode & 0o7777 == 0o400
    assert (directory / "secrets").stat().st_ino == mounted
    assert (directory / "secrets/key").stat().st_ino == kept
    assert sorted(path.name for path in directory.iterdir()) == ["secrets"]
    assert not await swapped(host, given, change(newer(old), other)), "nothing differs any more"


async def test_the_former_version_goes_once_the_record_has_the_new_one(host: Host) -> None:
    given, new = task(secret("db")), change(newer(secret("db")))
    await host.ready(given)
    await swapped(host, given, new)
    host.secrets.trim(TaskId("t1"))
    assert host.held == {"id-db", "id-db-new"}
    host.records[TaskId("t1")] = replace(given, spec=new.with_references(given.spec))
    host.secrets.trim(TaskId("t1"))
    assert host.held == {"id-db-new"}


async def test_a_version_that_a_thousand_services_get_is_fetched_once(host: Host) -> None:
    names = [TaskId(f"t{number}") for number in range(1_000)]
    old = task(secret("db"))
    given = [replace(old, task_id=name) for name in names]
    await asyncio.gather(*map(host.ready, given))
    assert host.asked == [("secret", "id-db")]
    new = change(newer(secret("db")))
    await asyncio.gather(*(swapped(host, one, new) for one in given))
    assert host.asked == [("secret", "id-db"), ("secret", "id-db-new")]
    rolled = replace(secret("db"), secret_id="id-db-third")
    after = [replace(task(rolled), task_id=TaskId(f"{name}-after")) for name in names]
    await asyncio.gather(*map(host.ready, after))
    assert host.asked[2:] == [("secret", "id-db-third")]


async def test_a_version_that_a_container_gets_stays_though_the_next_change_is_known(
    host: Host,
) -> None:
    given, other = task(secret("db")), replace(task(secret("db")), task_id=TaskId("t2"))
    await host.ready(given)
    await host.ready(other)
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def slow(work: Callable[..., Any], *args: Any) -> Any:
        if work == host.store.swap:
            begun.set()
            await may_end.wait()
        return work(*args)

    host.secrets = Secrets(host.store, host._fetch, lambda: host.records, slow)
    swap = asyncio.create_task(swapped(host, given, change(newer(secret("db")))))
    await begun.wait()
    third = replace(secret("db"), secret_id="id-third")
    host.records[TaskId("t1")] = replace(given, in_place_change=change(third, forced=True))
    host.clean("t2")
    assert host.held == {"id-db", "id-db-new"}
    may_end.set()
    assert await swap
    assert (host.store.directory("t1") / "secrets/db").read_text() == "id-db-new"
    host.secrets.trim(TaskId("t1"))
    assert host.held == {"id-db"}


async def test_a_version_stays_until_the_record_has_it_though_the_next_change_is_known(
    host: Host,
) -> None:
    given, other = task(secret("db")), replace(task(secret("db")), task_id=TaskId("t2"))
    new, third = newer(secret("db")), replace(secret("db"), secret_id="id-third")
    await host.ready(given)
    await host.ready(other)
    assert await swapped(host, given, change(new))
    host.records[TaskId("t1")] = replace(given, in_place_change=change(third, forced=True))
    host.clean("t2")
    assert host.held == {"id-db", "id-db-new"}
    recorded = replace(given, spec=change(new).with_references(given.spec))
    host.records[TaskId("t1")] = replace(recorded, in_place_change=change(third, forced=True))
    host.secrets.trim(TaskId("t1"))
    assert host.held == {"id-db-new"}


async def test_versions_that_a_container_got_go_with_it(host: Host) -> None:
    """It ended before its record had them."""
    given, other = task(secret("db")), replace(task(secret("db")), task_id=TaskId("t2"))
    await host.ready(given)
    await host.ready(other)
    assert await swapped(host, given, change(newer(secret("db"))))
    host.clean("t1")
    assert host.held == {"id-db"}


async def test_a_template_that_names_the_secret_changes_with_it(host: Host) -> None:
    host.contents["id-url"] = Content(b"db://{{secret `db`}}", is_template=True)
    given = task(secret("db"), secret("url"))
    await host.ready(given)
    assert await swapped(host, given, change(newer(secret("db")), secret("url")))
    text = (host.store.directory("t1") / "secrets/url").read_text()
    assert text == "db://id-db-new"


async def test_a_file_elsewhere_is_refused_and_nothing_is_replaced(host: Host) -> None:
    near, far = secret("db"), secret("db", "/etc/db")
    given = task(near, far)
    await host.ready(given)
    with pytest.raises(RuntimeFailed, match="/etc/db does not change in a running container"):
        await swapped(host, given, change(newer(near), newer(far)))
    directory = host.store.directory("t1")
    assert (directory / "secrets/db").read_bytes() == b"id-db"
    assert not (directory / "staged").exists()


async def test_a_full_tmpfs_and_a_refusing_controller_replace_nothing(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = task(secret("a"), secret("b"))
    await host.ready(given)
    new = change(newer(secret("a")), newer(secret("b")))
    host.failures = [PermissionDenied("task t1 uses no secret of that id")]
    with pytest.raises(RuntimeFailed, match="task t1 uses no secret"):
        await swapped(host, given, new)
    host.contents = {"id-a-new": Content(b"new"), "id-b-new": Content(b"new")}
    await swapped(host, given, change(newer(secret("a")), secret("b")))
    await swapped(host, given, change(secret("a"), secret("b")))
    room = [1]
    real = os.write

    def full(descriptor: int, data: Any) -> int:
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        room.pop()
        return real(descriptor, data)

    host.store.put("id-b-new", Content(b"new"))
    monkeypatch.setattr("agent.secrets.store.os.write", full)
    with pytest.raises(RuntimeFailed, match=r"cannot replace .* is full"):
        await swapped(host, given, new)
    directory = host.store.directory("t1")
    for name in ("a", "b"):
        assert (directory / "secrets" / name).read_text() == f"id-{name}"


async def test_an_agent_killed_at_any_step_leaves_whole_files_and_its_successor_ends_the_swap(
    store: SecretStore,
) -> None:
    """Killed before each system call of the swap."""
    old, new = b"old" * 1000, b"new" * 2000
    files = files_of(task(secret("a"), secret("b", "s/b"), secret("c")).spec.container_spec)
    for left in range(40):
        store.make("t1", files, lambda one: old)
        died = killed_at(left, lambda: store.swap("t1", files, lambda one: new))
        found = [(store.directory("t1") / one.place).read_bytes() for one in files]
        assert set(found) <= {old, new}
        store.swap("t1", files, lambda one: new)
        assert {(store.directory("t1") / one.place).read_bytes() for one in files} == {new}
        assert not (store.directory("t1") / "staged").exists()
        if not died:
            break
        store.remove("t1")
    else:
        pytest.fail("it never came to its end")
    assert left > 12


def test_each_signal_is_sent_once_and_only_for_what_changes() -> None:
    a, b, c = secret("a"), secret("b"), secret("c")
    before = task(a, b, c)
    assert not is_due(before, change(a, b, c))
    assert not is_due(before, InPlaceChange(2, Resources()))
    assert is_due(before, change(a, newer(b), c))
    assert signals(before, change(newer(a), newer(b), c), swapped=True) == ("HUP",)
    assert signals(before, change(newer(a, "none"), b, c), swapped=True) == ()
    new = change(newer(a, "USR1"), newer(b), c)
    assert signals(before, new, swapped=False) == ("USR1", "HUP"), "an agent was killed before it"


def test_a_rollback_tells_the_program_as_the_version_did_that_it_leaves() -> None:
    assert signals(task(newer(secret("a"))), change(secret("a")), swapped=True) == ("HUP",)


def test_a_change_that_another_took_back_is_told_if_files_were_replaced() -> None:
    a = secret("a")
    assert is_due(task(newer(a)), change(newer(a), forced=True))
    assert signals(task(newer(a)), change(newer(a), forced=True), swapped=True) == ("HUP",)
    assert signals(task(newer(a)), change(newer(a), forced=True), swapped=False) == ()
