"""Path MTUs: found with few echoes, and kept while they are unchanged."""

from hypothesis import given
from hypothesis import strategies as st

from agent.network.pathmtu.measure import LEAST, EchoPathMtu, largest


class Path:
    """Carries packets up to this size; 0: the other end does not answer."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.asked: list[int] = []

    async def carries(self, size: int) -> bool:
        self.asked.append(size)
        return size <= self.size


async def test_a_path_that_carries_full_packets_is_asked_once() -> None:
    path = Path(1500)
    assert await largest(path.carries, 1500) == 1500
    assert path.asked == [1500]


async def test_a_host_that_answers_nothing_is_not_judged() -> None:
    path = Path(0)
    assert await largest(path.carries, 1500) is None
    assert path.asked == [1500, LEAST]


@given(st.integers(LEAST, 9000), st.integers(LEAST, 9000))
async def test_prop_the_largest_size_is_found_with_few_questions(size: int, most: int) -> None:
    path = Path(size)
    assert await largest(path.carries, most) == min(size, most)
    assert len(path.asked) <= 16


class World:
    """The path MTU by host, and the hosts that were sent echoes."""

    def __init__(self, **sizes: int) -> None:
        self.sizes = sizes
        self.asked: list[str] = []
        self.paths = EchoPathMtu(self._carries)

    async def _carries(self, address: str, size: int) -> bool:
        self.asked.append(address)
        return size <= self.sizes[address]


async def test_only_new_hosts_and_narrow_paths_are_asked_again_soon() -> None:
    world = World(near=1500, far=1300, deaf=0)
    assert await world.paths.measure(["near", "far", "deaf"], 1500)
    assert world.paths.measured == {"near": 1500, "far": 1300}
    world.asked.clear()
    assert not await world.paths.measure(["near", "far", "deaf"], 1500)
    assert world.asked == ["far", "far"]


async def test_a_path_that_got_wider_or_is_gone_is_noticed() -> None:
    world = World(near=1500, far=1300)
    await world.paths.measure(["near", "far"], 1500)
    world.sizes["far"] = 1400
    assert await world.paths.measure(["near", "far"], 1500)
    assert world.paths.measured == {"near": 1500, "far": 1400}
    world.sizes["far"] = 0
    assert not await world.paths.measure(["near", "far"], 1500)
    assert await world.paths.measure(["near"], 1500)
    assert world.paths.measured == {"near": 1500}
