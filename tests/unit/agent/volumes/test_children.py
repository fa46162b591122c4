"""The program that works on file systems, and its time limits."""

import asyncio
import fcntl
import os
import sys
from collections.abc import Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from agent.runtime.base import RuntimeFailed
from agent.volumes import child, children
from agent.volumes.children import Children
from pyswarm_core.clock import MINUTE, SECOND
from pyswarm_core.volumes import limits


async def test_work_is_done_by_a_process(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(10_000))
    found = await Children().ask("measure", path=str(tmp_path), entries=10)
    assert found["inodes"] == 1


async def test_a_bind_starts_no_interpreter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    for path in (tmp_path, tmp_path / "none", tmp_path / "-x"):
        await Children().probe(str(path))
    with pytest.raises(
        RuntimeFailed, match="cannot start /no/such/python on this host: no such file"
    ):
        await Children().ask("measure", path=str(tmp_path), entries=10)


async def test_an_error_names_the_reason(tmp_path: Path) -> None:
    with pytest.raises(RuntimeFailed, match="No such file or directory"):
        await Children().ask("measure", path=str(tmp_path / "none"), entries=10)


async def test_what_takes_too_long_is_ended(tmp_path: Path) -> None:
    target = str(tmp_path / "_data")
    held = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)  # what the process waits for
    try:
        with pytest.raises(RuntimeFailed, match="the file system has not answered for 100ms"):
            await Children().ask(
                "unmount", SECOND // 10, lock=str(tmp_path), target=target, lazy=False, sync=False
            )
    finally:
        os.close(held)


class Hanging:
    """In place of the processes: those for a path or host that hangs end when the test does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.hung: list[str] = []
        self.never = asyncio.Event()
        monkeypatch.setattr(children, "_output", self._output)

    async def _output(
        self, work: str, words: Sequence[str], data: bytes, limit: int
    ) -> tuple[bytes, int]:
        about = words[-1] if work == "probe" else data.decode()
        if "hangs" in about:
            self.hung.append(about)
            await self.never.wait()
        return b"{}", 0


async def hanging(work: Iterable[Coroutine[Any, Any, object]]) -> list[asyncio.Task[object]]:
    begun = [asyncio.create_task(one) for one in work]
    for _ in range(5):
        await asyncio.sleep(0)
    return begun


async def end(begun: Iterable[asyncio.Task[object]]) -> None:
    for task in begun:
        task.cancel()
    await asyncio.gather(*begun, return_exceptions=True)


async def test_binds_that_hang_delay_no_volumes_and_no_binds_of_other_paths(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hung, asked = Hanging(monkeypatch), Children()
    begun = await hanging(asked.probe("/hangs") for _ in range(children.PROBES_AT_ONCE + 9))
    assert hung.hung == ["/hangs"]
    await asked.probe("/answers")
    begun += await hanging(asked.probe(f"/hangs/{n}") for n in range(children.PROBES_AT_ONCE + 9))
    assert len(hung.hung) == children.PROBES_AT_ONCE
    for work in ("loop", "make", "unmount", "measure", "mount"):
        await asked.ask(work, host="nas")
    await end(begun)


async def test_a_server_that_hangs_delays_no_volumes_of_another_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hung, asked = Hanging(monkeypatch), Children()
    begun = await hanging(asked.ask("mount", host="hangs", device=f":/{n}") for n in range(99))
    begun += await hanging(asked.ask("mount", host="", device="/dev/hangs") for n in range(99))
    assert len(hung.hung) == 2 * children.MOUNTS_OF_ONE
    await asked.ask("mount", host="nas", device=":/x")
    await asked.ask("loop")
    await end(begun)


async def test_a_probe_that_was_answered_stands_for_its_path_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert children.ANSWERED_S == 1
    asked, probed = Children(), list[str]()
    now = 100.0

    async def output(work: str, words: Sequence[str], data: bytes, limit: int) -> tuple[bytes, int]:
        probed.append(words[-1])
        if "hangs" in words[-1]:
            raise RuntimeFailed("the file system has not answered for 20s")
        return b"", 0

    monkeypatch.setattr(children, "_output", output)
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now)
    for path in ("/a", "/b", "/a", "/b"):
        await asked.probe(path)
    assert probed == ["/a", "/b"]
    now += 0.5
    await asked.probe("/c")
    await asked.probe("/a")
    now += 0.5
    for path in ("/a", "/c"):
        await asked.probe(path)
    assert probed == ["/a", "/b", "/c", "/a"]
    for _ in range(2):
        with pytest.raises(RuntimeFailed):
            await asked.probe("/hangs")
    assert probed[4:] == ["/hangs", "/hangs"]
    assert list(asked._answered) == ["/c", "/a"]


async def test_a_probe_goes_on_for_others_when_one_task_is_cancelled(tmp_path: Path) -> None:
    asked = Children()
    first = asyncio.create_task(asked.probe(str(tmp_path)))
    second = asyncio.create_task(asked.probe(str(tmp_path)))
    third = asyncio.create_task(asked.probe(str(tmp_path)))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(second, third)
    with pytest.raises(asyncio.CancelledError):
        await first
    await asked.probe(str(tmp_path))


async def test_all_who_wait_for_one_probe_learn_that_it_failed() -> None:
    asked = Children(answer=SECOND // 100)
    slow = asyncio.Semaphore(0)
    asked._probing = slow
    begun = [asyncio.create_task(asked.probe("/x")) for _ in range(3)]
    await asyncio.sleep(0)

    async def refused(*_: object) -> None:
        raise RuntimeFailed("the file system has not answered for 10ms")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(children, "_output", refused)
        slow.release()
        errors = await asyncio.gather(*begun, return_exceptions=True)
    assert [str(one) for one in errors] == ["the file system has not answered for 10ms"] * 3


@pytest.mark.parametrize("work", ["unmount", "make", "loop", "mount"])
@pytest.mark.parametrize("target", ["/", "/proc", "{}/../x", "{}x"])
async def test_nothing_outside_of_the_directory_of_a_volume_is_mounted_or_unmounted(
    tmp_path: Path, work: str, target: str
) -> None:
    lock = tmp_path / "volume"
    lock.mkdir()
    fields = {"image": f"{tmp_path}/i", "type": "tmpfs", "device": "x", "flags": 0, "data": ""}
    request = {**fields, "lock": str(lock), "target": target.format(lock)}
    with pytest.raises(child.Failed, match="is not in the directory of the volume"):
        child.DONE[work](request)
    with pytest.raises(child.Failed, match="is not in the directory of the volume"):
        child.DONE[work]({**request, "lock": "/"})


async def test_a_volume_with_too_many_files_is_not_measured(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}").touch()
    with pytest.raises(RuntimeFailed, match="it has more than 2 files"):
        await Children().ask("measure", path=str(tmp_path), entries=2)


def test_work_has_the_time_limits_of_the_table() -> None:
    assert limits.VOLUME_ANSWER == 20 * SECOND
    assert limits.VOLUME_MOUNT_MAX == MINUTE
    assert limits.VOLUME_FILL_MAX == 30 * MINUTE
    assert limits.VOLUME_MEASURE_MAX == 2 * MINUTE


@pytest.mark.parametrize(
    ("top", "found"),
    [
        ("/state/v 1", ["/state/v 1/b", "/state/v 1"]),
        ("/state/v", []),
        ("/state", ["/state/v 1/b", "/state/v 1"]),
    ],
)
def test_mounts_are_found_by_whole_names(tmp_path: Path, top: str, found: list[str]) -> None:
    table = tmp_path / "mountinfo"
    lines = ["/", "/state/v\\0401", "/state/v\\0401/b", "/state2"]
    text = "".join(f"1 2 0:1 / {point} rw - tmpfs none rw\n" for point in lines)
    table.write_text(text)
    assert child.mounts_below(top, str(table)) == found


def test_a_directory_that_vanishes_meanwhile_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    (tmp_path / "stays").touch()
    opened = os.open

    def vanishing(path: Any, *words: Any, **given: Any) -> int:
        if path == "gone":
            raise FileNotFoundError(path)
        return opened(path, *words, **given)

    monkeypatch.setattr(os, "open", vanishing)
    assert child.do_measure({"path": str(tmp_path), "entries": 10})["inodes"] == 2
