"""Rules about what exists once: addresses and ports, after every revision that touches them."""

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv4Network

from pyswarm_core.ids import NetworkId, NodeId, TaskId
from pyswarm_core.kinds import NETWORK, SERVICE
from pyswarm_core.objects import Task, TaskAddress
from pyswarm_core.specs import PublishMode
from tests.sim.hosts import Host
from tests.sim.placement import number, occupies
from tests.sim.rules import Rule
from tests.sim.view import Change, View


class VirtualAddresses:
    """A virtual address is one service's, inside its network's subnet and in no node's block."""

    rule = Rule.VIRTUAL_IPS

    def broken_by(self, change: Change, view: View) -> Iterator[str]:
        if not change.of(SERVICE) and not change.of(NETWORK):
            return
        holders: dict[tuple[NetworkId, str], str] = {}
        for service in view.services.values():
            for vip in service.endpoint.virtual_ips:
                name = service.spec.name
                other = holders.setdefault((vip.network_id, vip.addr), name)
                if other != name:
                    yield f"services {other} and {name} have the virtual address {vip.addr}"
                yield from _of_no_node(view, vip.network_id, IPv4Address(vip.addr), name)


def _of_no_node(
    view: View, network_id: NetworkId, address: IPv4Address, name: str
) -> Iterator[str]:
    network = view.networks.get(network_id)
    if network is None:
        return
    if address not in IPv4Network(network.subnet):
        yield f"the virtual address {address} of {name} is not of {network.spec.name}"
    for block in network.blocks:
        if address in IPv4Network(block.cidr):
            yield f"the virtual address {address} of {name} lies in node {block.node_number}'s"


class TaskAddresses:
    """No two tasks that take room on nodes of the fleet have one address of a network. What is
    stored of a task lags behind its agent, which gives the address of an ended task to another
    one; and a host that lies of its own tasks may name any address in its blocks.
    """

    rule = Rule.TASK_ADDRESSES

    def __init__(self, hosts: Mapping[str, Host]) -> None:
        self._hosts = hosts

    def broken_by(self, change: Change, view: View) -> Iterator[str]:
        if not any(new is not None and new.detail.addresses for _, new in change.tasks):
            return
        holders: dict[tuple[NetworkId, str], list[Task]] = {}
        for task in view.tasks.values():
            for held in task.detail.addresses if _is_there(task, view) else ():
                if held.network_id in view.networks:
                    holders.setdefault((held.network_id, held.address), []).append(task)
        for (network_id, address), tasks in holders.items():
            if len(tasks) > 1:
                held = TaskAddress(network_id, address)
                left = [task.id for task in tasks if self._has(task, held)]
                if len(left) > 1:
                    yield f"tasks {' and '.join(left)} have {address}"

    def _has(self, task: Task, held: TaskAddress) -> bool:
        """Whether the task has the address on its host too."""
        host = next((one for one in self._hosts.values() if one.node_id == task.node_id), None)
        if host is None:
            return True
        record = host.record(task.id)
        if record is None or record.ended:
            return IPv4Address(held.address) in host.addresses(task.id, held.network_id)
        return host.liar is None or held in record.detail.addresses


def _is_there(task: Task, view: View) -> bool:
    return occupies(task) and task.node_id in view.nodes


class PublishedPorts:
    """A port of the mesh leads to one service, and no host's own port is in its way."""

    rule = Rule.PUBLISHED_PORTS

    def broken_by(self, change: Change, view: View) -> Iterator[str]:
        if not change.of(SERVICE):
            return
        holders: dict[tuple[str, int], tuple[str, PublishMode]] = {}
        for service in view.services.values():
            for port in service.endpoint.ports:
                if not port.published_port:
                    continue
                mine = (service.spec.name, port.publish_mode)
                other = holders.setdefault(number(port), mine)
                if other[0] != mine[0] and PublishMode.INGRESS in (other[1], mine[1]):
                    yield f"services {other[0]} and {mine[0]} publish {number(port)}"


class HostPorts:
    """Of the tasks that take room on a node, no two hold one port of the host. The store may not
    have the end of one that its agent has recorded.
    """

    rule = Rule.HOST_PORTS

    def __init__(self, hosts: Mapping[str, Host]) -> None:
        self._hosts = hosts

    def broken_by(self, change: Change, view: View) -> Iterator[str]:
        if not any(new is not None and new.detail.ports for _, new in change.tasks):
            return
        holders: dict[tuple[NodeId, tuple[str, int]], TaskId] = {}
        for task in view.tasks.values():
            for port in task.detail.ports if _is_there(task, view) else ():
                other = holders.setdefault((task.node_id, number(port)), task.id)
                if other != task.id and not (self._has_ended(task.id) or self._has_ended(other)):
                    yield f"tasks {other} and {task.id} hold {number(port)} on {task.node_id}"

    def _has_ended(self, task_id: TaskId) -> bool:
        records = (host.record(task_id) for host in self._hosts.values())
        return any(record is not None and record.ended for record in records)
