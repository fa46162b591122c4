"""Requests about one container, as an agent answers them."""

import asyncio
from pathlib import Path

import pytest

from agent.images.fake import FakeImages, FakeRegistry
from agent.runtime.fake import CommandScript, FakeRuntime, Script
from agent.session.tunnels import Dialer
from pyswarm_core.api.v1 import dispatcher_pb2 as pb
from pyswarm_core.api.v1 import files_pb2
from pyswarm_core.ids import TaskId
from pyswarm_core.states import TaskState
from pyswarm_core.traces import Facts, TraceProbe
from tests.fixtures.agent_parts import collector_of
from tests.unit.agent.test_tunnels import _streams, dialled, sampler
from tests.unit.agent.test_worker import CHECK, IMAGE, NODE, Host, assigned, task, with_check

T1 = TaskId("t1")
PAUSE = pb.OpenTunnel(pause=files_pb2.PauseRequest(ref="t1", paused=True))
UNPAUSE = pb.OpenTunnel(pause=files_pb2.PauseRequest(ref="t1"))


async def _traced(probe: TraceProbe) -> Facts:
    return Facts()


class _Stubborn(FakeRuntime):
    """A runtime that cannot freeze anything."""

    async def pause(self, container_id: str) -> None:
        from agent.runtime.base import RuntimeFailed

        raise RuntimeFailed("a process hangs in the kernel")


async def asked(
    host: Host, *requests: pb.OpenTunnel, stopped: bool = False
) -> list[list[pb.TunnelFrame]]:
    """The answers about the task t1, which is healthy."""
    host.registry.push(IMAGE)
    host.runtime.scripts[T1] = Script(commands={"check": CommandScript(output=b"fine")})
    answers = []
    async with asyncio.TaskGroup() as group, host.worker() as worker:
        await worker.assign(assigned(with_check(task(), healthcheck=CHECK)), NODE)
        await host.until(lambda seen: T1 in seen and seen[T1].detail.serving)
        images = FakeImages(FakeRegistry(), group)
        streams = _streams(host.runtime)
        measure, kept = sampler(worker), collector_of(images, worker, host.directory)
        dialer = Dialer(
            worker, images, host.runtime, _traced, streams, sampler=measure, collector=kept
        )
        for request in requests:
            async with dialled() as (to, at):
                await dialer.open(to, request)
            answers.append(at.frames[1:])
        if stopped:
            await worker.assign(assigned(task(desired=TaskState.SHUTDOWN)), NODE)
            await host.reaches(T1, TaskState.SHUTDOWN)
        dialer.close()
    return answers


async def test_a_pause_freezes_the_container_and_takes_the_task_out_of_its_backends(
    tmp_path: Path,
) -> None:
    host = Host(tmp_path)
    ((end,),) = await asked(host, PAUSE)
    assert end.HasField("end")
    await host.until(lambda seen: seen[T1].detail.paused)
    assert not host.seen[T1].detail.serving
    (found,) = await host.runtime.found()
    assert found.paused


async def test_a_container_goes_on(tmp_path: Path) -> None:
    host = Host(tmp_path)
    await asked(host, PAUSE, UNPAUSE)
    await host.until(lambda seen: not seen[T1].detail.paused and seen[T1].detail.serving)
    (found,) = await host.runtime.found()
    assert not found.paused


async def test_a_stop_reaches_a_paused_container(tmp_path: Path) -> None:
    host = Host(tmp_path)
    await asked(host, PAUSE, stopped=True)
    assert host.seen[T1].detail.exit_code == 143


@pytest.mark.parametrize(
    ("requests", "words"),
    [
        ((PAUSE, PAUSE), "container web.1 is already paused"),
        ((UNPAUSE,), "container web.1 is not paused"),
    ],
)
async def test_what_is_so_already_is_an_error(
    tmp_path: Path, requests: tuple[pb.OpenTunnel, ...], words: str
) -> None:
    *_, (last,) = await asked(Host(tmp_path), *requests)
    assert (last.error.kind, last.error.message) == ("Conflict", words)


async def test_a_container_that_cannot_be_frozen_goes_on(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.runtime = _Stubborn()
    ((last,),) = await asked(host, PAUSE)
    assert (last.error.kind, "hangs in the kernel" in last.error.message) == ("Unavailable", True)
    await host.until(lambda seen: not seen[T1].detail.paused and seen[T1].detail.serving)


async def test_the_processes_are_sent(tmp_path: Path) -> None:
    ((top, end),) = await asked(
        Host(tmp_path), pb.OpenTunnel(top=files_pb2.TopRequest(ref="t1", options=["-ef"]))
    )
    assert list(top.top.titles) == ["UID", "PID", "CMD"]
    assert len(top.top.rows) == 1
    assert end.HasField("end")


async def test_changed_files_are_sent(tmp_path: Path) -> None:
    host = Host(tmp_path / "host")
    (tmp_path / "host").mkdir()
    upper = tmp_path / "upper"
    (upper / "etc").mkdir(parents=True)
    (upper / "etc" / "new").touch()
    host.runtime.roots["t1"] = str(upper)
    request = pb.OpenTunnel(changes=files_pb2.ChangesRequest(ref="t1"))
    ((changes, end),) = await asked(host, request)
    found = [(one.kind, one.path) for one in changes.changes.changes]
    assert found == [("A", "/etc"), ("A", "/etc/new")]
    assert end.HasField("end")


async def test_the_sizes_of_the_containers_that_have_files_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, upper = Host(tmp_path), tmp_path / "upper"
    upper.mkdir()
    (upper / "file").write_bytes(b"x" * 100)
    request = pb.OpenTunnel(sizes=files_pb2.SizesRequest(task_ids=["t9", "t1"]))
    ((end,),) = await asked(host, request)
    assert end.HasField("end")
    host = Host(tmp_path / "other")
    host.directory.mkdir()
    host.runtime.roots["t1"] = str(upper)
    ((sizes, end),) = await asked(host, request)
    (one,) = sizes.sizes.sizes
    assert (one.task_id, one.written_bytes, one.image_bytes) == ("t1", 100, 0)
    monkeypatch.setattr("agent.files.sizes.SIZE_ENTRIES_MAX", 0)
    host.directory = tmp_path / "third"
    host.directory.mkdir()
    ((sizes, end),) = await asked(host, request)
    assert sizes.sizes.sizes[0].written_bytes == -1


@pytest.mark.parametrize(
    "request_",
    [
        pb.OpenTunnel(changes=files_pb2.ChangesRequest(ref="t9")),
        pb.OpenTunnel(top=files_pb2.TopRequest(ref="t9")),
        pb.OpenTunnel(pause=files_pb2.PauseRequest(ref="t9", paused=True)),
    ],
)
async def test_a_task_of_another_node_is_not_found(tmp_path: Path, request_: pb.OpenTunnel) -> None:
    ((last,),) = await asked(Host(tmp_path), request_)
    assert last.error.kind == "NotFound"
