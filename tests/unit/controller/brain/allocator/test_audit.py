"""A new leader sees what is given out twice, however it came about, and nothing else."""

import pytest
from msgspec.structs import replace

from controller.brain.allocator.audit import audit
from pyswarm_core.ids import NetworkId
from pyswarm_core.objects import Block, Endpoint, Network, Service, Task, TaskAddress, VirtualIp
from pyswarm_core.objects import TaskDetail as Detail
from pyswarm_core.states import TaskState
from tests.fixtures import build
from tests.fixtures.build import nodes, service, task

NET = NetworkId("net")


def network(*blocks: tuple[str, int], name: str = "net", subnet: str = "10.128.0.0/16") -> Network:
    held = tuple(Block(cidr=cidr, node_number=number) for cidr, number in blocks)
    return replace(build.network(name, subnet, vni=len(name) + 4096), blocks=held)


def with_vip(name: str, address: str) -> Service:
    endpoint = Endpoint(virtual_ips=(VirtualIp(network_id=NET, addr=address),))
    return replace(service(name), endpoint=endpoint)


def at(
    name: str, address: str, *, node: str = "n1", on: str = "net", state: str = "running"
) -> Task:
    detail = Detail(addresses=(TaskAddress(network_id=NetworkId(on), address=address),))
    return task(name, node=node, state=TaskState[state.upper()], detail=detail)


SOUND = network(("10.128.0.0/26", 1), ("10.128.0.64/26", 2))


def found(
    networks: list[Network], services: list[Service] | None = None, tasks: list[Task] | None = None
) -> list[str]:
    services = services if services is not None else [service("web")]
    state = build.state(nodes=nodes(2), networks=networks, services=services, tasks=tasks or [])
    return [text for text in audit(state) if text is not None]


def test_a_sound_state_has_nothing_twice() -> None:
    tasks = [
        at("web.1", "10.128.0.2"),
        at("web.2", "10.128.0.66", node="n2"),
        at("web.3", "10.128.0.2", state="failed"),
        at("web.4", "10.128.0.2", node="removed"),
        at("web.5", "172.30.0.2", on="bridge"),
        at("web.6", "172.30.0.2", on="bridge", node="n2"),
    ]
    services = [service("web"), with_vip("db", "10.128.255.254"), with_vip("api", "10.128.255.253")]
    assert found([SOUND, network(name="other", subnet="10.129.0.0/16")], services, tasks) == []


def test_two_tasks_with_one_address_are_named() -> None:
    assert found([SOUND], tasks=[at("web.1", "10.128.0.2"), at("web.2", "10.128.0.2")]) == [
        "network net: tasks web.1 and web.2 have 10.128.0.2"
    ]


def test_the_address_of_a_task_that_is_to_end_may_be_free() -> None:
    """Its agent gave it to another task, and the leader that knew of its end has not stored it."""
    ending = replace(at("web.1", "10.128.0.2"), desired_state=TaskState.SHUTDOWN)
    assert found([SOUND], tasks=[ending, at("web.2", "10.128.0.2")]) == []


def test_two_services_with_one_virtual_address_are_named() -> None:
    pair = [with_vip("db", "10.128.255.254"), with_vip("api", "10.128.255.254")]
    assert found([SOUND], pair) == [
        "network net: 10.128.255.254/32 of service db overlaps 10.128.255.254/32 of service api"
    ]


def test_a_virtual_address_in_a_nodes_block_is_named() -> None:
    assert found([SOUND], [with_vip("db", "10.128.0.70")]) == [
        "network net: 10.128.0.70/32 of service db overlaps 10.128.0.64/26 of node number 2"
    ]


@pytest.mark.parametrize("second", ["10.128.0.0/26", "10.128.0.16/28"])
def test_two_nodes_with_one_block_are_named(second: str) -> None:
    assert found([network(("10.128.0.0/26", 1), (second, 2))]) == [
        f"network net: {second} of node number 2 overlaps 10.128.0.0/26 of node number 1"
    ]


def test_networks_that_overlap_or_share_a_vni_are_named() -> None:
    assert found([network(name="one"), network(name="two", subnet="10.128.7.0/24")]) == [
        "networks one and two share VNI 4099",
        "10.128.7.0/24 of network two overlaps 10.128.0.0/16 of network one",
    ]


def test_what_cannot_be_looked_at_is_named_and_the_rest_is_looked_at() -> None:
    twice = [at("web.1", "10.128.0.1"), at("web.2", "10.128.0.1")]
    texts = found([network(name="torn", subnet="nonsense"), SOUND], tasks=twice)
    assert len(texts) == 2
    assert texts[0].startswith("networks cannot be looked at: AddressValueError")
    assert texts[1].startswith("network net: tasks ")
