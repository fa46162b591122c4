"""Services, tasks, nodes and networks in the form of Docker's API, as `inspect` shows them. PURE.

Objects have IPv4 addresses; `Addresses` adds the IPv6 addresses that belong to them.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pyswarm_core.addresses import address6
from pyswarm_core.clock import after
from pyswarm_core.docker.documents import document
from pyswarm_core.docker.networking import BLOCK_METADATA
from pyswarm_core.docker.units import format_time
from pyswarm_core.ids import NetworkId
from pyswarm_core.objects import Network, Service
from pyswarm_core.specs import IpamConfig, NetworkSpec, ipv4_config
from pyswarm_core.views import NetworkMembers, NodeView, TaskCheck, TaskView

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
    del found["SameTemplate"]
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


def of_network(network: Network) -> dict[str, Any]:
    """The network with Docker's keys, then with those of pyswarm alone."""
    found = document(network)
    spec = network.spec
    pools = [_pool(network.subnet, ipv4_config(spec))]
    if network.subnet6:
        pools.append(_pool(network.subnet6, IpamConfig()))
    return {
        "Name": spec.name,
        "ID": network.id,
        "Created": found.pop("CreatedAt"),
        "Scope": "swarm",
        "Driver": spec.driver,
        "EnableIPv6": spec.enable_ipv6,
        "IPAM": {"Driver": spec.ipam.driver, "Config": pools},
        "Internal": spec.internal,
        "Attachable": spec.attachable,
        "Ingress": spec.ingress,
        "Options": _options(spec),
        "Labels": spec.labels,
        **{key: value for key, value in found.items() if key != "ID"},
    }


def _options(spec: NetworkSpec) -> dict[str, str]:
    encrypted = {"encrypted": ""} if spec.encrypted else {}
    return encrypted | ({BLOCK_METADATA: "true"} if spec.block_metadata else {})


def of_members(members: NetworkMembers) -> dict[str, Any]:
    """The network with its services and hosts; each host also with its blocks and the revision that
    it acknowledged. A network with IPv6 has additional keys.
    """
    network = members.network
    return {
        **of_network(network),
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
                        "EndpointIP": task.address,
                        **_six(network, "EndpointIPv6", task.address),
                        "Node": task.node_name,
                        "State": task.state.word,
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
