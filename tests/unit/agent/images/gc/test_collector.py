"""The collector, with images in memory and a disk of numbers."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from agent.images.base import ImageConfig
from agent.images.fake import FakeImages, FakeRegistry
from agent.images.gc import ages
from agent.images.gc.collector import Collector
from agent.images.gc.plan import Disk, Policy
from agent.session.needed import needed
from agent.tasks.record import Record
from pyswarm_core.clock import HOUR, MINUTE
from pyswarm_core.ids import TaskId
from pyswarm_core.images.disk import image_key
from tests.unit.agent.session.test_needed import RECORD

WEB, OLD, NEW = "docker.io/library/web:2", "docker.io/library/old:1", "docker.io/library/new:1"


class _Counter:
    def __init__(self) -> None:
        self.reasons: list[str] = []

    def follow(self, collector: Collector) -> None:
        """Nobody reads the disk."""

    def removed(self, reason: str, freed: int) -> None:
        self.reasons.append(reason)


class _Host:
    """A host with three images; a task needs `web`."""

    def __init__(self, images: FakeImages, folder: Path, policy: Policy) -> None:
        self.images = images
        self.records: dict[TaskId, Record] = {}
        self.counter = _Counter()
        self.percent: Callable[[], int] = lambda: 10
        self.collector = Collector(
            images,
            policy,
            folder,
            lambda: needed(self.records.values()),
            observer=self.counter,
            measure=lambda: Disk(self.percent()),
        )

    async def names(self) -> set[str]:
        return {name for image in (await self.images.stored()).images for name in image.names}


@asynccontextmanager
async def _host(
    folder: Path, policy: Policy | None = None, unused: dict[str, int] | None = None
) -> AsyncIterator[_Host]:
    registry = FakeRegistry()
    async with asyncio.TaskGroup() as group:
        images = FakeImages(registry, group)
        found = {}
        for name in (WEB, OLD, NEW):
            registry.push(name, ImageConfig(user=name))
            found[name] = (await images.resolve(name)).id
        given = {found[name]: age for name, age in (unused or {}).items()}
        ages.save(folder / "image-ages.json", given)
        host = _Host(images, folder, policy or Policy())
        host.records[TaskId("t1")] = replace(RECORD, image_id=found[WEB], kept_images=())
        yield host


def _after(removals: Callable[[], int], values: list[int]) -> Callable[[], int]:
    return lambda: values[min(removals(), len(values) - 1)]


async def test_without_pressure_and_age_nothing_is_removed(tmp_path: Path) -> None:
    async with _host(tmp_path, unused={OLD: 99 * HOUR}) as host:
        await host.collector.collect()
        assert await host.names() == {WEB, OLD, NEW}
        assert host.collector.disk.reason == ""


async def test_an_image_that_was_unused_for_the_age_is_removed(tmp_path: Path) -> None:
    policy = Policy(max_age=24 * HOUR)
    async with _host(tmp_path, policy, {WEB: 99 * HOUR, OLD: 99 * HOUR, NEW: HOUR}) as host:
        await host.collector.collect()
        assert await host.names() == {WEB, NEW}
        assert host.counter.reasons == ["age"]


async def test_a_full_disk_is_relieved_until_the_low_threshold(tmp_path: Path) -> None:
    async with _host(tmp_path, unused={OLD: 99 * HOUR, NEW: HOUR}) as host:
        host.percent = _after(lambda: len(host.counter.reasons), [90, 79])
        await host.collector.collect()
        assert await host.names() == {WEB, NEW}
        assert host.counter.reasons == ["pressure"]
        assert host.collector.disk.reason == ""


async def test_a_disk_that_stays_full_is_reported_with_the_images_left(tmp_path: Path) -> None:
    async with _host(tmp_path, unused={OLD: 99 * HOUR}) as host:
        host.percent = lambda: 93
        await host.collector.collect()
        assert await host.names() == {WEB, NEW}  # NEW is too young
        told = host.collector.disk
        assert told.reason.startswith("the disk of its images is 93% full")
        assert [told.has(image_key(name)) for name in (WEB, OLD, NEW)] == [True, False, True]
        host.percent = lambda: 80
        await host.collector.collect()
        assert host.collector.disk.reason
        host.percent = lambda: 79
        await host.collector.collect()
        assert host.collector.disk.reason == ""


async def test_an_image_that_a_task_begins_to_need_stays(tmp_path: Path) -> None:
    """The plan was made before the task came."""
    async with _host(tmp_path, unused={OLD: 99 * HOUR, NEW: 9 * HOUR}) as host:
        values: Iterator[int] = iter([90, 85, 85])
        spec = replace(
            RECORD.spec, container_spec=replace(RECORD.spec.container_spec, image="new:1")
        )

        def measure() -> int:
            if host.counter.reasons:
                host.records[TaskId("t2")] = replace(RECORD, image_id="", spec=spec)
            return next(values)

        host.percent = measure
        await host.collector.collect()
        assert await host.names() == {WEB, NEW}


async def test_ages_survive_a_restart_and_need_no_clock(tmp_path: Path) -> None:
    async with _host(tmp_path, Policy(max_age=HOUR), {OLD: HOUR - MINUTE}) as host:
        await host.collector.collect()
        kept = ages.load(tmp_path / "image-ages.json")
        assert HOUR - MINUTE in {age // MINUTE * MINUTE for age in kept.values()}
        assert await host.names() == {WEB, OLD, NEW}


@pytest.mark.parametrize("content", [b"", b"[]", b'{"a": "b"}', b"\xff"])
def test_a_file_that_cannot_be_read_costs_the_ages(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "image-ages.json"
    path.write_bytes(content)
    assert ages.load(path) == {}


async def test_a_prune_removes_what_is_named_but_nothing_that_is_needed(tmp_path: Path) -> None:
    async with _host(tmp_path) as host:
        ids = [image.id for image in (await host.images.stored()).images]
        done = [await host.collector.prune(one) for one in (*ids, "unknown")]
        removed = [one for one in done if one is not None]
        assert {name for one in removed for name in one.untagged} == {OLD, NEW}
        assert all(one.deleted for one in removed)
        assert await host.names() == {WEB}
        assert host.counter.reasons == ["prune", "prune"]
