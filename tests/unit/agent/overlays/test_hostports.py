"""Numbers for ports of mode host."""

from agent.overlays.hostports import with_numbers
from pyswarm_core.ports import CHOSEN_BY_AGENTS
from pyswarm_core.specs import PortConfig, Protocol, PublishMode

TCP, UDP = Protocol.TCP, Protocol.UDP


def port(published: int = 0, protocol: Protocol = TCP) -> PortConfig:
    return PortConfig(
        target_port=80, published_port=published, protocol=protocol, publish_mode=PublishMode.HOST
    )


def test_a_port_gets_the_lowest_number_that_its_protocol_has_free() -> None:
    chosen = with_numbers((port(), port(), port(protocol=UDP)), {(TCP, 32768)})
    assert chosen is not None
    assert [p.published_port for p in chosen] == [32769, 32770, 32768]


def test_a_number_that_was_asked_for_is_kept_and_the_mesh_is_left_out() -> None:
    assert with_numbers((port(8080), PortConfig(target_port=80)), set()) == (port(8080),)


def test_when_all_are_taken_there_is_none() -> None:
    assert with_numbers((port(),), {(TCP, n) for n in CHOSEN_BY_AGENTS}) is None
