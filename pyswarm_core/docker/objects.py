"""Services, tasks, nodes and networks in the form of Docker's API, as `inspect` shows them. PURE.

Objects have IPv4 addresses; `Addresses` adds the IPv6 addresses that belong to them.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pyswarm_core.addresses import address6
from pyswarm_core.clock import after
from pyswarm_core.docker.documents import document, without_unset
from pyswarm_core.docker.networking import BLOCK_METADATA, MTU, scope_of
from pyswarm_core.docker.units import format_time
from pyswarm_core.ids import NetworkId
from pyswarm_core.images.disk import KEY_BYTES
from pyswarm_core.objects import Network, Service
from pyswarm_core.specs import PREDEFINED_NETWORKS, IpamConfig, NetworkSpec, ipv4_config
from pyswarm_core.views import NetworkMembers, NetworkTask, NodeView, TaskCheck, TaskView

Addresses = Callable[[NetworkId, str], Sequence[str]]
"""An address on a network and, if the network has IPv6, the IPv6 address that belongs to it."""


def of_service(service: Service, addresses: Addresses) -> dict[str, Any]:
    """The service; the newest earlier spec is its PreviousSpec. It has a virtual address of each IP
    version of a network.
    """
    found = document(service)
    found["Endpoint"]["VirtualIPs"] = [
        {"NetworkID": vip.network_id, "Addr": address}
        for vip in service.endpoint.virtual_ips
        for address in addresses(vip.network_id, vip.addr)
    ]
    previous = found.pop("PreviousSpecs")
    found["PreviousSpec"] = previous[0]["Spec"] if previous else None
    found["PreviousSpecs"] = previous
    del found["SameTemplate"], found["Gate"]
    return found


def of_task(
    view: TaskView, addresses: Addresses, checks: Iterable[TaskCheck] = ()
) -> dict[str, Any]:
    """The task with its status, its addresses, and its checks as its agent has them."""
    known = {check.kind: check_document(check) for check in checks}
    health = view.task.detail.health.value
    assumed = {"Status": health, "Log": []} if health else None
    task, detail = view.task, view.task.detail
    return {
        "ID": task.id,
        "Version": {"Index": task.spec_version},
        "CreatedAt": format_time(task.created_at),
        "Name": view.name,
        "Spec": document(view.spec) if view.spec else {},
        "ServiceID": task.service_id,
        "ServiceName": view.service_name,
        "Slot": task.slot,
        "NodeID": task.node_id,
        "NodeName": view.node_name,
        "Status": {
            "Timestamp": format_time(task.status_at or task.created_at),
            "State": task.state.word,
            "Message": detail.message,
            "Err": detail.error,
            "OOM": detail.oom,
            "Health": known.get("health", assumed),
            "Readiness": known.get("readiness"),
            "ContainerStatus": {
                "ContainerID": task.id if detail.pid else "",
                "PID": detail.pid,
                "ExitCode": detail.exit_code,
            },
        },
        "DesiredState": task.desired_state.word,
        "Restarts": task.restarts,
        "NetworksAttachments": [
            {
                "Network": {"ID": held.network_id},
                "Addresses": addresses(held.network_id, held.address),
            }
            for held in detail.addresses
        ],
    }


def check_document(check: TaskCheck) -> dict[str, Any]:
    """A check as Docker's State.Health, with the settings that are in effect."""
    return {
        "Status": check.state.value,
        "FailingStreak": check.failing_streak,
        "Config": document(check.config),
        "Log": [
            {
                "Start": format_time(result.started_at),
                "End": format_time(after(result.started_at, result.duration)),
                "ExitCode": result.exit_code,
                "Output": result.output,
            }
            for result in check.results
        ],
    }


def of_node(view: NodeView) -> dict[str, Any]:
    """The node, and the reservations of its tasks."""
    found = document(view.node)
    if view.leader:
        found["ManagerStatus"] = {"Leader": True, "Reachability": "reachable"}
    elif status := manager_status(view):
        found["ManagerStatus"] = {"Leader": False, "Reachability": status.lower()}
    certificate = found["Certificate"]
    certificate["Issuer"] = view.node.certificate.issuer.hex()
    disk = view.node.status.image_disk
    images = len(disk.images) // KEY_BYTES
    found["Status"]["ImageDisk"] = {"Full": bool(disk.reason), "Reason": disk.reason}
    found["Status"]["ImageDisk"] |= {"Images": images} if disk.reason else {}
    found["Tasks"] = view.tasks
    found["Reserved"] = document(view.reserved)
    return found


def manager_status(view: NodeView) -> str:
    """Docker's words; empty for a node that is not a manager."""
    if view.leader:
        return "Leader"
    if view.controller:
        return "Reachable"
    return "Unreachable" if view.node.spec.role == "manager" else ""


def of_network(
    members: NetworkMembers, *, verbose: bool = False, whole: bool = False
) -> dict[str, Any]:
    """Docker's document of a network, with the containers of all hosts, then the keys of pyswarm
    alone; with `verbose` also services, and of each host its blocks and the revision that it
    acknowledged.

    `whole`: for templates, with Docker's second name of the id and with unset keys of pyswarm.
    """
    network, spec = members.network, members.network.spec
    own = document(network)
    created, _ = own.pop("CreatedAt"), own.pop("ID")
    return {
        "Name": spec.name,
        "Id": network.id,
        **({"ID": network.id} if whole else {}),
        "Created": created,
        "Scope": scope_of(network),
        "Driver": spec.driver,
        "EnableIPv4": True,
        "EnableIPv6": spec.enable_ipv6,
        "IPAM": {"Driver": spec.ipam.driver, "Options": None, "Config": _pools(network)},
        "Internal": spec.internal,
        "Attachable": spec.attachable,
        "Ingress": spec.ingress,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": _containers(members),
        "Options": _options(spec),
        "Labels": spec.labels,
        **(own if whole else {} if network.id in PREDEFINED_NETWORKS else without_unset(own)),
        **(_services(members) if verbose else {}),
    }


def _pools(network: Network) -> list[dict[str, str]]:
    """The subnets; none of a predefined network, as each agent has its own."""
    pools = [_pool(network.subnet, ipv4_config(network.spec))] if network.subnet else []
    return [*pools, _pool(network.subnet6, IpamConfig())] if network.subnet6 else pools


def _options(spec: NetworkSpec) -> dict[str, str]:
    given = {
        "encrypted": "" if spec.encrypted else None,
        MTU: str(spec.mtu) if spec.mtu else None,
        BLOCK_METADATA: "true" if spec.block_metadata else None,
    }
    return {key: value for key, value in given.items() if value is not None}


def _containers(members: NetworkMembers) -> dict[str, Any]:
    """Docker's map of containers by id."""
    network = members.network
    return {
        task.container_id or task.task_id: {
            "Name": _container_name(task),
            "EndpointID": "",
            "MacAddress": "",
            "IPv4Address": _in_subnet(task.address, network.subnet),
            "IPv6Address": _in_subnet(_six(network, "", task.address).get("", ""), network.subnet6),
        }
        for service in members.services
        for task in service.tasks
    }


def _container_name(task: NetworkTask) -> str:
    """The name that lists of containers show: `db`, or SERVICE.SLOT.TASK of a task of a service."""
    is_task = task.container_id in ("", task.task_id)
    return f"{task.name}.{task.task_id}" if is_task else task.name


def _in_subnet(address: str, subnet: str) -> str:
    """`10.128.0.2/16`; without the prefix length if the subnet is unknown."""
    prefix = subnet.partition("/")[2]
    return f"{address}/{prefix}" if address and prefix else address


def _services(members: NetworkMembers) -> dict[str, Any]:
    """A network with IPv6 has additional keys."""
    network = members.network
    hosts = {peer.node_name: peer.addr for peer in members.peers}
    return {
        "Services": {
            service.name: {
                "VIP": service.vip,
                **_six(network, "VIPv6", service.vip),
                "Ports": [
                    f"Target: {port.target_port}/{port.protocol}, Publish: {port.published_port}"
                    for port in service.ports
                ],
                "Tasks": [
                    {
                        "Name": task.name,
                        "ID": task.task_id,
                        "EndpointID": "",
                        "EndpointIP": task.address,
                        **_six(network, "EndpointIPv6", task.address),
                        "Node": task.node_name,
                        "State": task.state.word,
                        "Info": {"Host IP": hosts.get(task.node_name, "")},
                    }
                    for task in service.tasks
                ],
            }
            for service in members.services
        },
        "Peers": [
            {
                "Name": peer.node_name,
                "IP": peer.addr,
                "Blocks": list(peer.blocks),
                "Acknowledged": peer.acknowledged,
            }
            for peer in members.peers
        ],
    }


def _six(network: Network, key: str, address: str) -> dict[str, str]:
    if not network.subnet6 or not address:
        return {}
    return {key: address6(network.subnet, network.subnet6, address)}


def _pool(subnet: str, config: IpamConfig) -> dict[str, str]:
    pool = {"Subnet": subnet, "IPRange": config.ip_range, "Gateway": config.gateway}
    return {key: value for key, value in pool.items() if value}
