"""IPv6 addresses that follow from IPv4."""

from ipaddress import IPv4Address, IPv6Address

import pytest

from pyswarm_core.addresses import address4, address6, block6, packed6


def test_host_n_of_one_subnet_is_host_n_of_the_other() -> None:
    assert address6("10.128.0.0/16", "fd00:1::/64", "10.128.1.5") == "fd00:1::105"
    assert address4("10.128.0.0/16", "fd00:1::/64", "fd00:1::105") == "10.128.1.5"
    with pytest.raises(ValueError, match="IPv4"):
        address4("10.128.0.0/16", "fd00:1::/64", "fd00:1::1:0:0")


def test_packed_addresses_follow_in_the_same_way() -> None:
    found = packed6("10.128.0.0/16", "fd00:1::/64", IPv4Address("10.128.1.5").packed)
    assert found == IPv6Address("fd00:1::105").packed


def test_a_block_keeps_its_host_bits() -> None:
    assert block6("10.128.0.0/16", "fd00:1::/64", "10.128.0.64/26") == "fd00:1::40/122"
