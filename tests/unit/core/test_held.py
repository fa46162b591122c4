"""The longest pass of the event loop is kept."""

from pyswarm_core.aio.held import TimedSelector, run_measured


def test_the_longest_pass_is_kept() -> None:
    times = iter([1.0, 2.0, 5.0, 6.0])
    with TimedSelector(lambda: next(times)) as selector:
        longest = []
        for _ in range(3):
            selector.select(0)
            longest.append(selector.longest_s)
    assert longest == [1.0, 3.0, 3.0]


def test_an_event_loop_asks_it_once_per_pass() -> None:
    ticks = 0

    def clock() -> float:
        nonlocal ticks
        ticks += 1
        return float(ticks)

    async def main() -> None:
        nonlocal ticks
        ticks += 10

    selector = TimedSelector(clock)
    run_measured(selector, main())
    assert selector.longest_s == 11.0
