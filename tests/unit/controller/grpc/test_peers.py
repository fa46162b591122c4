"""Whom a connection is with."""

from types import SimpleNamespace
from typing import Any

import pytest

from controller.grpc.peers import address_of


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:192.0.2.1:4711", "192.0.2.1"),
        ("ipv6:[::ffff:192.0.2.1]:4711", "192.0.2.1"),
        ("ipv6:%5B::ffff:192.0.2.1%5D:4711", "192.0.2.1"),
        ("ipv6:[fe80::1%25eth0]:4711", "fe80::1"),
        ("ipv6:[::1]:4711", "::1"),
        ("unix:/run/api.sock", ""),
        ("unix:", ""),
    ],
)
def test_the_address_of_a_caller(peer: str, address: str) -> None:
    context: Any = SimpleNamespace(peer=lambda: peer)
    assert address_of(context) == address
