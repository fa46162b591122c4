"""One work per key, for all who ask, as long as somebody waits."""

import asyncio

from agent.images.base import ImageNotFound, RegistryUnavailable, ReportProgress
from agent.images.sharing import SharedPulls


class Work:
    """Runs until released; counts its runs and how many were at work at once."""

    def __init__(self) -> None:
        self.release = asyncio.Event()
        self.begun = asyncio.Event()
        self.runs = self.now = self.most = 0
        self.error: Exception | None = None

    async def __call__(self, report: ReportProgress) -> None:
        self.runs += 1
        self.now += 1
        self.most = max(self.most, self.now)
        self.begun.set()
        try:
            await self.release.wait()
        finally:
            self.now -= 1
        if self.error:
            raise self.error


async def test_an_error_reaches_every_caller_and_ends_nothing_else() -> None:
    async with asyncio.TaskGroup() as group:
        shared, failing, fine = SharedPulls(group), Work(), Work()
        failing.error = ImageNotFound("no")
        failing.release.set()
        calls = [group.create_task(_outcome(shared, "a", failing)) for _ in range(3)]
        other = group.create_task(_outcome(shared, "b", fine))
        assert [await call for call in calls] == ["no"] * 3
        fine.release.set()
        assert await other == "done"
    assert (failing.runs, fine.runs) == (1, 1)


async def test_the_work_ends_when_the_last_caller_leaves() -> None:
    async with asyncio.TaskGroup() as group:
        shared, work = SharedPulls(group), Work()
        calls = [group.create_task(shared.join("a", None, work)) for _ in range(2)]
        await work.begun.wait()
        calls[0].cancel()
        await asyncio.wait([calls[0]])
        assert work.now == 1
        calls[1].cancel()
        await asyncio.wait([calls[1]])
        await asyncio.sleep(0)
    assert work.now == 0


async def test_who_asks_after_all_left_gets_a_work_of_his_own_never_beside_the_old() -> None:
    async with asyncio.TaskGroup() as group:
        shared, work = SharedPulls(group), Work()
        first = group.create_task(shared.join("a", None, work))
        await work.begun.wait()
        first.cancel()
        second = group.create_task(_outcome(shared, "a", work))
        await asyncio.wait([first])
        work.release.set()
        assert await second == "done"
    assert (work.runs, work.most) == (2, 1)


async def test_a_caller_that_leaves_before_the_work_began_leaves_nothing_behind() -> None:
    async with asyncio.TaskGroup() as group:
        shared, work = SharedPulls(group), Work()
        work.release.set()
        call = group.create_task(shared.join("a", None, work))
        await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait([call])
        assert await _outcome(shared, "a", work) == "done"


async def test_works_for_different_callers_follow_each_other() -> None:
    async with asyncio.TaskGroup() as group:
        shared, work = SharedPulls(group), Work()
        work.release.set()
        for variant in ("ann", "bob", "ann"):
            group.create_task(shared.join("a", variant, work))
    assert work.most == 1
    assert work.runs >= 2


async def test_closing_tells_who_still_waits() -> None:
    async with asyncio.TaskGroup() as group:
        shared, work = SharedPulls(group), Work()
        call = group.create_task(_outcome(shared, "a", work))
        await work.begun.wait()
        shared.close()
        assert "stopping" in await call
    assert work.now == 0


async def test_a_work_that_ends_after_its_last_caller_left_is_not_interrupted() -> None:
    begun, ends, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work(report: ReportProgress) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await ends.wait()  # its program is killed, and is there until it is waited for
            ended.set()

    async with asyncio.TaskGroup() as group:
        shared = SharedPulls(group)
        call = group.create_task(shared.join("a", None, work))
        await begun.wait()
        call.cancel()
        await asyncio.wait([call])
        shared.close()
        await asyncio.sleep(0)
        ends.set()
    assert ended.is_set()


async def _outcome(shared: SharedPulls, key: str, work: Work) -> str:
    try:
        await shared.join(key, None, work)
    except (ImageNotFound, RegistryUnavailable) as error:
        return str(error)
    return "done"
