"""The files of secrets and configs on a host: fetched once, made whole, removed with their last
task.
"""

import asyncio
import errno
import os
import signal
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from agent.runtime.base import RuntimeFailed
from agent.secrets import store as storing
from agent.secrets.plan import Content, files_of, mounts_of
from agent.secrets.secrets import Secrets
from agent.secrets.store import SecretStore
from agent.tasks.record import Record
from pyswarm_core.errors import InvalidArgument, PermissionDenied, PyswarmError, Unavailable
from pyswarm_core.ids import TaskId
from pyswarm_core.payloads.references import ConfigReference, FileTarget, SecretReference
from pyswarm_core.specs import ContainerSpec, TaskSpec
from pyswarm_core.states import TaskState
from pyswarm_core.templates.context import Context
from tests.fixtures.records import record

CONTEXT = Context(service_name="web", task_id="t1", slot="2", node_hostname="host1")
OWN: Any = {"uid": str(os.getuid()), "gid": str(os.getgid())}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SecretStore:
    """On a directory in place of a tmpfs."""
    monkeypatch.setattr(storing, "_mount_tmpfs", lambda target: None)
    found = SecretStore(tmp_path)
    found.prepare()
    return found


def secret(source: str, target: str = "", mode: int = 0o444) -> SecretReference:
    file = FileTarget(name=target or source, mode=mode, **OWN)
    return SecretReference(secret_id=f"id-{source}", secret_name=source, file=file)


def task(name: str, *references: SecretReference, **changes: Any) -> Record:
    config = ConfigReference(
        config_id="id-conf", config_name="conf", file=FileTarget(name="/etc/conf", **OWN)
    )
    spec = ContainerSpec(image="web", secrets=references, configs=(config,))
    return record(name, spec=TaskSpec(container_spec=spec), **changes)


class Host:
    """Secrets of a host, a controller that fails as often as `failures` says, and its records."""

    def __init__(self, store: SecretStore) -> None:
        self.store = store
        self.asked: list[tuple[str, str]] = []
        self.failures: list[PyswarmError] = []
        self.told: list[str] = []
        self.contents: dict[str, Content] = {}
        self.records: dict[TaskId, Record] = {}
        self.secrets = Secrets(store, self._fetch, lambda: self.records)

    async def _fetch(self, kind: str, object_id: str, task_id: str) -> Content:
        await asyncio.sleep(0)
        if self.failures:
            raise self.failures.pop(0)
        self.asked.append((kind, object_id))
        return self.contents.get(object_id, Content(object_id.encode()))

    async def ready(self, one: Record) -> list[dict[str, Any]]:
        self.records[one.task_id] = one
        return list((await self.secrets.ready(one, CONTEXT, self.told.append)).mounts)

    def clean(self, name: str) -> None:
        """The task has ended, and its container is gone."""
        task_id = TaskId(name)
        self.records[task_id] = replace(self.records[task_id], state=TaskState.COMPLETE)
        self.secrets.released(task_id)
        self.records[task_id] = replace(self.records[task_id], clean=True)

    @property
    def held(self) -> set[str]:
        return {path.name for path in (self.store.root / "payloads").iterdir()}


@pytest.fixture
def host(store: SecretStore) -> Host:
    return Host(store)


async def test_a_version_is_fetched_once_for_all_tasks_of_a_node(host: Host) -> None:
    await asyncio.gather(*(host.ready(task(f"t{n}", secret("db"))) for n in range(5)))
    assert sorted(host.asked) == [("config", "id-conf"), ("secret", "id-db")]
    assert host.held == {"id-conf", "id-db"}


async def test_it_is_removed_with_its_last_task(host: Host) -> None:
    for name in ("t1", "t2"):
        await host.ready(task(name, secret("db"), secret("own" + name)))
    host.clean("t1")
    assert host.held == {"id-conf", "id-db", "id-ownt2"}
    host.clean("t2")
    assert not host.held
    assert not list((host.store.root / "tasks").iterdir())


async def test_a_task_that_is_prepared_again_keeps_its_versions(host: Host) -> None:
    await host.ready(task("t1", secret("db"), state=TaskState.PREPARING))
    host.secrets.released(TaskId("t1"))
    assert host.held == {"id-conf", "id-db"}


async def test_a_later_agent_finds_what_an_earlier_one_fetched(
    host: Host, store: SecretStore
) -> None:
    await host.ready(task("t1", secret("db")))
    later = Host(store)
    later.records = host.records
    await later.ready(task("t2", secret("db")))
    assert not later.asked


async def test_files_have_their_modes_and_those_below_run_secrets_one_mount(host: Host) -> None:
    given = task("t1", secret("db"), secret("db", "sub/x", 0o400), secret("key", "/etc/key"))
    mounts = await host.ready(given)
    directory = host.store.directory("t1")
    assert [(one["destination"], one["source"]) for one in mounts] == [
        ("/run/secrets", f"{directory}/secrets"),
        ("/etc/conf", f"{directory}/files/3"),
        ("/etc/key", f"{directory}/files/2"),
    ]
    assert all({"ro", "nosuid", "nodev", "noexec"} <= set(one["options"]) for one in mounts)
    assert (directory / "secrets/db").read_text() == "id-db"
    modes = {
        one.place: (directory / one.place).stat().st_mode & 0o7777
        for one in files_of(given.spec.container_spec)
    }
    assert modes["secrets/db"] == 0o444
    assert modes["secrets/sub/x"] == 0o400
    assert (directory / "secrets/sub").stat().st_mode & 0o777 == 0o755
    assert directory.stat().st_mode & 0o777 == 0o700


def test_only_a_config_whose_mode_says_so_is_executed() -> None:
    program, text = (
        ConfigReference(file=FileTarget(path, mode=mode), config_id=path, config_name=path)
        for path, mode in (("/start.sh", 0o555), ("/conf", 0o444))
    )
    spec = ContainerSpec(
        image="web:1", configs=(program, text), secrets=(secret("key", "/key", 0o555),)
    )
    options = {one["destination"]: one["options"] for one in mounts_of(files_of(spec), "/d")}
    assert "exec" in options["/start.sh"]
    assert "noexec" not in options["/start.sh"]
    assert all("noexec" in options[path] for path in ("/conf", "/key"))


async def test_a_user_namespace_sees_the_owners_that_references_name(host: Host) -> None:
    given = task("t1", secret("db"))
    assert not any("idmap" in one["options"] for one in await host.ready(given))
    container = replace(given.spec.container_spec, userns_mode="auto")
    mapped = replace(given, spec=replace(given.spec, container_spec=container))
    assert all("idmap" in one["options"] for one in await host.ready(mapped))


async def test_a_task_waits_for_a_controller_and_says_for_what(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.secrets.secrets.FETCH_RETRY_S", (0.0,))
    host.failures = [Unavailable("no controller is connected")] * 3
    await host.ready(task("t1", secret("db")))
    assert set(host.told) == {
        "waiting for config conf from a controller: no controller is connected"
    }, "the first that waits, and no other in turn"
    assert not host.failures
    assert sorted(host.asked) == [("config", "id-conf"), ("secret", "id-db")]


async def test_what_a_controller_refuses_is_the_task_s_error(host: Host) -> None:
    host.failures = [PermissionDenied("task t1 uses no secret of that id")]
    with pytest.raises(RuntimeFailed, match="uses no secret of that id"):
        await host.ready(task("t1", secret("db")))


async def test_a_full_tmpfs_is_named_and_nothing_half_made_stays(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    await host.ready(task("t1", secret("db")))

    def full(descriptor: int, data: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("agent.secrets.store.os.write", full)
    with pytest.raises(RuntimeFailed, match=r"cannot make .* a quarter of its memory, is full"):
        await host.ready(task("t2", secret("db")))
    with pytest.raises(RuntimeFailed, match="secret new: the tmpfs"):
        await host.ready(task("t3", secret("new")))
    monkeypatch.undo()
    assert host.held == {"id-conf", "id-db"}
    assert [path.name for path in (host.store.root / "tasks").iterdir()] == ["t1"]


async def test_a_task_may_have_a_thousand_secrets(host: Host) -> None:
    many = [secret(f"s{number}") for number in range(999)]
    (_, *others) = await host.ready(task("t1", *many))
    assert len(others) == 1
    assert len(list((host.store.directory("t1") / "secrets").iterdir())) == 999


STEPS = ("mkdir", "rename", "open", "write", "close", "fchown", "fchmod", "chmod")
"""System calls by which the files of tasks are made and replaced."""


def killed_at(step: int, work: Callable[[], object]) -> bool:
    """Do the work in a process of its own, which SIGKILL ends before that system call; whether it
    did.
    """
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status) or not status, status
        return os.WIFSIGNALED(status)
    left = [step]

    def dying(*args: Any, real: Any, **kwargs: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)

    for name in STEPS:
        setattr(os, name, partial(dying, real=getattr(os, name)))
    try:
        work()
    except BaseException:
        os._exit(1)
    os._exit(0)


async def test_a_killed_agent_leaves_no_directory_that_is_not_whole(store: SecretStore) -> None:
    """Killed before each system call that makes a task's files, and once more from the start."""
    files = files_of(task("t1", secret("a"), secret("b", "/etc/b")).spec.container_spec)
    for left in range(60):
        died = killed_at(left, lambda: store.make("t1", files, lambda one: b"whole"))
        directory = store.directory("t1")
        if directory.exists():
            assert [(directory / one.place).read_bytes() for one in files] == [b"whole"] * 3
        if not died:
            break
        store.make("t1", files, lambda one: b"whole")
        assert [(directory / one.place).read_bytes() for one in files] == [b"whole"] * 3
        store.remove("t1")
        assert not list((store.root / "tasks").iterdir())
    else:
        pytest.fail("it never came to its end")
    assert left > 20


def template(text: str) -> Content:
    return Content(text.encode(), is_template=True)


async def test_a_template_has_the_task_s_context_its_secrets_configs_and_variables(
    host: Host,
) -> None:
    host.contents["id-db"] = template(
        '{{.Service.Name}}.{{.Task.Slot}}@{{.Node.Hostname}} {{secret "k"}} {{config "/etc/conf"}}'
        ' {{env "LEVEL"}}'
    )
    given = task("t1", secret("db"), secret("key", "k"))
    container = replace(given.spec.container_spec, env=("LEVEL=debug",))
    given = replace(given, spec=replace(given.spec, container_spec=container))
    host.contents["id-key"] = Content(b"{{.Service.ID}}")
    await host.ready(given)
    text = (host.store.directory("t1") / "secrets/db").read_text()
    assert text == "web.2@host1 {{.Service.ID}} id-conf debug"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('hunter2 {{secret "none"}}', "secret target none not found"),
        ('hunter2 {{config "none"}}', "config target none not found"),
        ('hunter2 {{env "NONE"}}', "variable NONE is not set by --env"),
        ('{{secret (secret "pw")}}', "cannot call secret: its argument is not valid"),
        ('{{"pw" | secret | env}}', "cannot call env: its argument is not valid"),
        ('{{range secret "pw"}}{{end}}', "cannot range over a value that is no list"),
        ('{{(secret "pw").Field}}', "field .Field does not exist: the value has no fields"),
        ('{{index (secret "pw") "x"}}', "cannot call index: its argument is not valid"),
        ('{{lt (secret "pw") 3}}', "cannot call lt: wrong type of argument"),
    ],
)
async def test_a_template_that_fails_names_the_secret_and_shows_none_of_it(
    host: Host, text: str, told: str
) -> None:
    host.contents["id-db"] = template(text)
    host.contents["id-key"] = Content(b"hunter2")
    with pytest.raises(InvalidArgument) as caught:
        await host.ready(task("t1", secret("db"), secret("key", "pw")))
    assert told in str(caught.value)
    assert "secret db" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert not list((host.store.root / "tasks").iterdir())


async def test_templates_that_name_each_other_or_themselves_end(host: Host) -> None:
    host.contents["id-a"] = template('a {{secret "b"}}')
    host.contents["id-b"] = template('b {{secret "a"}} {{secret "b"}}')
    await host.ready(task("t1", secret("a"), secret("b")))
    directory = host.store.directory("t1") / "secrets"
    assert (directory / "a").read_text() == """a b {{secret "a"}} {{secret "b"}}"""
    assert (directory / "b").read_text() == """b a {{secret "b"}} b {{secret "a"}} {{secret "b"}}"""


async def test_a_preparation_that_is_aborted_leaves_no_files_behind(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task is clean as soon as its preparation has ended: its thread has, too."""
    begun, may_end = threading.Event(), threading.Event()
    make = host.store.make

    def slow(*args: Any) -> Path:
        begun.set()
        may_end.wait(30)
        return make(*args)

    monkeypatch.setattr(host.store, "make", slow)
    preparing = asyncio.create_task(host.ready(task("t1", secret("db"))))
    await asyncio.to_thread(begun.wait, 30)
    preparing.cancel()
    done, _ = await asyncio.wait({preparing}, timeout=0.05)
    may_end.set()
    assert not done
    with pytest.raises(asyncio.CancelledError):
        await preparing
    host.clean("t1")
    assert not list((host.store.root / "tasks").iterdir())
    assert not host.held
