"""Which process of a host holds a port that a container is to publish."""

import os
import socket
from pathlib import Path

import pytest

from agent.listening import conflict
from pyswarm_core.specs import PortConfig, Protocol


@pytest.mark.parametrize(
    ("kind", "protocol"),
    [(socket.SOCK_STREAM, Protocol.TCP), (socket.SOCK_DGRAM, Protocol.UDP)],
)
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_the_holder_of_a_port_is_named(
    kind: socket.SocketKind, protocol: Protocol, family: socket.AddressFamily
) -> None:
    with socket.socket(family, kind) as held:
        held.bind(("", 0))
        if kind is socket.SOCK_STREAM:
            assert (
                conflict([PortConfig(target_port=80, published_port=held.getsockname()[1])]) == ""
            )
            held.listen()
        number = held.getsockname()[1]
        port = PortConfig(target_port=80, published_port=number, protocol=protocol)
        name = Path("/proc/self/comm").read_text().strip()
        assert conflict([port]) == (
            f"port {number}/{protocol} is in use on this host by {name} (process {os.getpid()})"
        )
    assert conflict([port]) == ""


def test_ports_without_a_number_and_of_sctp_conflict_with_nothing() -> None:
    ports = [
        PortConfig(target_port=80),
        PortConfig(target_port=80, published_port=1, protocol=Protocol.SCTP),
    ]
    assert conflict(ports) == ""
