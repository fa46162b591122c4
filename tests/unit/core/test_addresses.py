"""IPv6 addresses that follow from IPv4."""

from pyswarm_core.addresses import address6, block6


def test_host_n_of_one_subnet_is_host_n_of_the_other() -> None:
    assert address6("10.128.0.0/16", "fd00:1::/64", "10.128.1.5") == "fd00:1::105"


def test_a_block_keeps_its_host_bits() -> None:
    assert block6("10.128.0.0/16", "fd00:1::/64", "10.128.0.64/26") == "fd00:1::40/122"
