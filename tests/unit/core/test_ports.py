"""Ports of hosts: how they are told, and who holds them by row."""

import numpy as np
import pytest

from pyswarm_core.indexes.nodes import HeldPorts
from pyswarm_core.ports import HostPort, host_ports
from pyswarm_core.specs import EndpointSpec, PortConfig, Protocol, PublishMode


@pytest.mark.parametrize(
    ("port", "word"),
    [
        (HostPort(Protocol.TCP, 80), "80/tcp"),
        (HostPort(Protocol.UDP, 53, "10.0.0.5"), "10.0.0.5:53/udp"),
        (HostPort(Protocol.TCP, 80, "::1"), "[::1]:80/tcp"),
        (HostPort(Protocol.SCTP, 80, "eth0"), "eth0:80/sctp"),
    ],
)
def test_a_port_is_told_as_people_write_it(port: HostPort, word: str) -> None:
    assert str(port) == word


def test_only_fixed_ports_in_mode_host_are_taken_of_a_host() -> None:
    spec = EndpointSpec(
        ports=(
            PortConfig(target_port=80, published_port=80),
            PortConfig(target_port=81, publish_mode=PublishMode.HOST),
            PortConfig(target_port=82, published_port=8082, publish_mode=PublishMode.HOST),
        )
    )
    assert host_ports(spec) == (HostPort(Protocol.TCP, 8082),)


def test_a_port_is_held_while_one_task_holds_it() -> None:
    held, port = HeldPorts(), HostPort(Protocol.TCP, 80)
    held.count(np.array([1]), port, 1, 2)
    held.count(np.array([1]), port, 1, 2)
    held.count(np.array([1]), port, -1, 2)
    assert held.held(port, 2).tolist() == [False, True]
    held.count(np.array([1]), port, -1, 2)
    assert held.held(port, 2).tolist() == [False, False]


def test_a_port_is_held_on_addresses_that_overlap() -> None:
    held = HeldPorts()
    held.count(np.array([0]), HostPort(Protocol.TCP, 80, "10.0.0.5"), 1, 1)
    assert held.held(HostPort(Protocol.TCP, 80), 1).tolist() == [True]
    assert held.held(HostPort(Protocol.TCP, 80, "10.0.0.6"), 1).tolist() == [False]
    assert held.held(HostPort(Protocol.UDP, 80), 1).tolist() == [False]


def test_columns_grow_with_the_table_and_forget_a_node() -> None:
    held, port = HeldPorts(), HostPort(Protocol.TCP, 80)
    held.count(np.array([0]), port, 1, 1)
    held.count(np.array([2]), port, 1, 3)
    assert held.held(port, 5).tolist() == [True, False, True, False, False]
    held.forget_row(0)
    held.forget_row(4)
    assert held.held(port, 3).tolist() == [False, False, True]
