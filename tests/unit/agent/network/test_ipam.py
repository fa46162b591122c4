"""Addresses of a host's blocks: lowest first, just released last, never a reserved one."""

from hypothesis import given
from hypothesis import strategies as st

from agent.network.ipam import Exhausted, Pool, capacity, gateway


def test_the_first_address_is_the_gateways_and_tasks_start_at_the_second() -> None:
    assert gateway("10.128.0.0/26") == "10.128.0.1"
    assert Pool(("10.128.0.0/26",)).allocate() == "10.128.0.2"


def test_a_freed_address_is_used_only_when_no_fresh_one_is_left() -> None:
    pool = Pool(("10.0.0.0/29",))
    first = [pool.allocate() for _ in range(3)]
    pool.release("10.0.0.2")
    pool.release("10.0.0.3")
    assert first == ["10.0.0.2", "10.0.0.3", "10.0.0.4"]
    rest = [pool.allocate() for _ in range(4)]
    assert rest == ["10.0.0.5", "10.0.0.6", "10.0.0.2", "10.0.0.3"]


def test_exhausted_blocks_say_so_with_numbers() -> None:
    pool = Pool(("10.0.0.0/30", "10.0.1.0/30"))
    assert [pool.allocate(), pool.allocate()] == ["10.0.0.2", "10.0.1.2"]
    refused = pool.allocate()
    assert refused == Exhausted(("10.0.0.0/30", "10.0.1.0/30"), 2)
    assert "all 2 of 10.0.0.0/30, 10.0.1.0/30 are in use" in str(refused)


def test_without_a_block_nothing_is_handed_out() -> None:
    assert str(Pool().allocate()) == "no free address: all 0 of no block are in use on this node"


def test_another_block_continues_where_the_first_ended() -> None:
    pool = Pool(("10.0.0.0/30",))
    pool.allocate()
    pool.extend(("10.0.0.0/30", "10.0.0.4/30"))
    assert pool.allocate() == "10.0.0.6"


def test_adopted_addresses_are_not_given_again() -> None:
    pool = Pool(("10.0.0.0/29",))
    assert pool.take("10.0.0.2")
    assert not pool.take("10.0.0.2")
    assert not pool.take("10.9.9.9")
    assert pool.allocate() == "10.0.0.3"


def test_an_address_of_a_block_that_left_does_not_come_back() -> None:
    pool = Pool(("10.0.0.0/30", "10.0.1.0/30"))
    pool.take("10.0.1.2")
    pool.extend(("10.0.0.0/30",))
    pool.release("10.0.1.2")
    assert pool.allocate() == "10.0.0.2"
    assert isinstance(pool.allocate(), Exhausted)


@given(st.lists(st.integers(min_value=-1, max_value=12), max_size=60))
def test_prop_no_address_is_held_twice_and_every_one_is_for_tasks(moves: list[int]) -> None:
    blocks = ("10.0.0.0/29", "10.0.7.0/29")
    pool, held = Pool(blocks), list[str]()
    for move in moves:
        if 0 <= move < len(held):
            pool.release(held.pop(move))
            continue
        address = pool.allocate()
        if isinstance(address, Exhausted):
            assert len(held) == capacity(blocks)
            continue
        assert address not in held
        assert int(address.rpartition(".")[2]) in range(2, 7)
        held.append(address)
    assert pool.used == len(held)
