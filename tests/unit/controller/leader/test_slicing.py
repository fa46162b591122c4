"""A limiter lets few in at once, and holds their places for a while after them."""

import asyncio

from controller.brain.slices import Slices
from controller.leader.slicing import RateLimiter, SliceRunner


async def passes(count: int) -> None:
    """Let everything that is ready run, so many times over."""
    for _ in range(count):
        await asyncio.sleep(0)


async def go_through(limiter: RateLimiter, gone: list[int], number: int) -> None:
    async with limiter:
        gone.append(number)


async def test_no_more_than_its_places_go_through_in_one_pass() -> None:
    limiter, gone = RateLimiter(2), list[int]()
    async with asyncio.TaskGroup() as group:
        for number in range(5):
            group.create_task(go_through(limiter, gone, number))
        await asyncio.sleep(0)
        assert gone == [0, 1]
    assert gone == [0, 1, 2, 3, 4]


async def test_a_place_stays_taken_during_the_pause() -> None:
    limiter, gone = RateLimiter(1, pause_s=3600), list[int]()
    await go_through(limiter, gone, 1)
    waiting = asyncio.create_task(go_through(limiter, gone, 2))
    await passes(10)
    assert gone == [1]
    waiting.cancel()


async def test_a_failure_inside_gives_the_place_back() -> None:
    limiter = RateLimiter(1)
    try:
        async with limiter:
            raise ValueError
    except ValueError:
        pass
    gone = list[int]()
    await go_through(limiter, gone, 1)
    assert gone == [1]


async def test_of_all_sliced_work_one_slice_runs_per_pass_in_turn() -> None:
    runner, ran = SliceRunner(), list[str]()

    def work(name: str) -> Slices[str]:
        for _ in range(2):
            ran.append(name)
            yield
        ran.append(name)
        return name

    async with asyncio.TaskGroup() as group:
        done = [group.create_task(runner.run(work(name))) for name in "abc"]
        most = 0
        while len(ran) < 9:
            before = len(ran)
            await asyncio.sleep(0)
            most = max(most, len(ran) - before)
    assert most == 1
    assert "".join(ran) == "aabcabcbc"  # the first one asks twice before the others come
    assert [task.result() for task in done] == ["a", "b", "c"]
