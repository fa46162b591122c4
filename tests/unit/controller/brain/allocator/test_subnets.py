"""Subnets and VNIs: the lowest that is free, and what is in the way of the rest."""

from ipaddress import IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.api.changes.joining import _require_unclaimed as require_unclaimed
from controller.brain.allocator import subnets
from controller.brain.allocator.subnets import (
    block_prefix,
    check_subnet,
    choose_subnet,
    overlap,
    parse_subnet,
)
from controller.brain.allocator.vni import allocate_vni
from pyswarm_core.errors import AlreadyExists, Conflict, InvalidArgument
from pyswarm_core.limits import NETWORKS_MAX, VNI_MAX, VNI_MIN
from tests.fixtures import build


def test_first_network_gets_the_pools_first_subnet() -> None:
    assert str(choose_subnet(["10.128.0.0/9"], 16, {})) == "10.128.0.0/16"


def test_networks_and_routes_are_jumped_over() -> None:
    taken = {"a": "10.128.0.0/16", "b": "10.130.0.0/20"}
    chosen = choose_subnet(["10.128.0.0/9"], 16, taken, ["10.129.7.0/24", "0.0.0.0/0"])
    assert str(chosen) == "10.131.0.0/16"


def test_exhausted_pool_says_how_many_it_had() -> None:
    taken = {"a": "10.0.0.0/25", "b": "10.0.0.128/25"}
    with pytest.raises(Conflict, match=r"all 2 subnets of /25 in 10.0.0.0/24 are in use"):
        choose_subnet(["10.0.0.0/24"], 25, taken)


def test_second_pool_is_used_when_the_first_is_full() -> None:
    chosen = choose_subnet(["10.0.0.0/24", "10.9.0.0/16"], 24, {"a": "10.0.0.0/24"})
    assert str(chosen) == "10.9.0.0/24"


def test_an_overlap_names_the_conflict() -> None:
    subnet = IPv4Network("10.1.0.0/16")
    assert overlap(subnet, {"app": "10.1.2.0/24"}) == "network app (10.1.2.0/24)"
    assert overlap(subnet, {}, ["10.0.0.0/8"]) == "a route of the host (10.0.0.0/8)"
    assert overlap(subnet, {"app": "10.2.0.0/16"}, ["0.0.0.0/0"]) == ""


def test_a_requested_subnet_that_is_taken_is_refused() -> None:
    with pytest.raises(Conflict, match="overlaps network app"):
        check_subnet("10.1.0.0/16", {"app": "10.1.0.0/24"})


@pytest.mark.parametrize("text", ["", "10.0.0.0/33", "10.0.0.1/24", "fd00::/64", "10.0.0.0/30"])
def test_malformed_or_tiny_subnet_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="subnet"):
        parse_subnet(text)


@pytest.mark.parametrize(("size", "block"), [(16, 26), (22, 26), (24, 28), (26, 29), (29, 29)])
def test_small_subnets_have_small_blocks(size: int, block: int) -> None:
    assert block_prefix(IPv4Network((0, size))) == block


@given(
    st.lists(st.tuples(st.integers(0, 255), st.integers(18, 28)), max_size=12),
    st.integers(18, 26),
)
def test_prop_chosen_subnet_is_the_lowest_that_overlaps_nothing(
    taken: list[tuple[int, int]], size: int
) -> None:
    pool = IPv4Network("10.0.0.0/16")
    networks = {
        str(index): str(IPv4Network((f"10.0.{third}.0", prefix), strict=False))
        for index, (third, prefix) in enumerate(taken)
    }
    free = [
        candidate
        for candidate in pool.subnets(new_prefix=size)
        if not any(candidate.overlaps(IPv4Network(other)) for other in networks.values())
    ]
    if free:
        assert choose_subnet([str(pool)], size, networks) == free[0]
    else:
        with pytest.raises(Conflict):
            choose_subnet([str(pool)], size, networks)


def test_vnis_are_handed_out_in_turn_and_wrap() -> None:
    assert allocate_vni(VNI_MIN, {}) == (VNI_MIN, VNI_MIN + 1)
    assert allocate_vni(VNI_MIN, {VNI_MIN, VNI_MIN + 1}) == (VNI_MIN + 2, VNI_MIN + 3)
    assert allocate_vni(VNI_MAX, {}) == (VNI_MAX, VNI_MIN)
    assert allocate_vni(VNI_MAX, {VNI_MAX}) == (VNI_MIN, VNI_MIN + 1)


def test_networks_are_parsed_once_however_often_they_are_compared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parsed: list[object] = []

    def counted(text: object, *, strict: bool = True) -> IPv4Network:
        parsed.append(text)
        return IPv4Network(text, strict)

    many = [f"10.{number >> 8}.{number & 255}.0/24" for number in range(NETWORKS_MAX)]
    networks = {f"n{number}": text for number, text in enumerate(many)}
    state = build.state(networks=[build.network(name, text) for name, text in networks.items()])
    choose_subnet(["10.0.0.0/8"], 24, networks)
    monkeypatch.setattr(subnets, "IPv4Network", counted)
    chosen = choose_subnet(["10.0.0.0/8"], 24, networks)
    require_unclaimed(state, (), "host", "192.0.2.1")
    assert not overlap(chosen, networks)
    assert parsed == ["10.0.0.0/8", (int(chosen.network_address), 24)]
    with pytest.raises(AlreadyExists, match=r"belongs to network n0 \(10.0.0.0/24\)"):
        require_unclaimed(state, (), "host", "10.0.0.255")
