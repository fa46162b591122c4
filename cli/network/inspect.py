"""`pyswarm network inspect`."""

from typing import Any

import click

from cli import flags, inspection, session
from cli.lazy import Verb
from pyswarm_core.addresses import address6
from pyswarm_core.docker import documents
from pyswarm_core.objects import Network
from pyswarm_core.specs import IpamConfig, ipv4_config
from pyswarm_core.views import NetworkMembers


@click.command(
    cls=Verb,
    help="Display detailed information on one or more networks\n\n"
    "Example: pyswarm network inspect app --format '{{.Subnet}}'",
)
@flags.inspect_format
@click.option("-v", "--verbose", is_flag=True, help="Include services, tasks and hosts")
@click.argument("networks", nargs=-1, required=True, metavar="NETWORK...")
def inspect(*, form: str, verbose: bool, networks: tuple[str, ...]) -> None:
    client = session.connect()

    def read(ref: str) -> dict[str, Any]:
        if not verbose:
            return document(client.network(ref))
        members = client.network_members(ref)
        return {**document(members.network), **membership(members)}

    inspection.inspect_all(networks, form, read)


def membership(members: NetworkMembers) -> dict[str, Any]:
    """Who is on the network, in Docker's shape; each peer also with its blocks and its progress.
    IPv6 has keys of its own, where the network has it.
    """
    return {
        "Services": {
            service.name: {
                "VIP": service.vip,
                **_six(members.network, "VIPv6", service.vip),
                "Ports": [
                    f"Target: {port.target_port}/{port.protocol}, Publish: {port.published_port}"
                    for port in service.ports
                ],
                "Tasks": [
                    {
                        "Name": task.name,
                        "ID": task.task_id,
                        "EndpointIP": task.address,
                        **_six(members.network, "EndpointIPv6", task.address),
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


def document(network: Network) -> dict[str, Any]:
    """The network as Docker shows one, then as we keep it."""
    found = documents.document(network)
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
        "Options": {"encrypted": ""} if spec.encrypted else {},
        "Labels": spec.labels,
        **{key: value for key, value in found.items() if key != "ID"},
    }


def _six(network: Network, key: str, address: str) -> dict[str, str]:
    if not network.subnet6 or not address:
        return {}
    return {key: address6(network.subnet, network.subnet6, address)}


def _pool(subnet: str, config: IpamConfig) -> dict[str, str]:
    pool = {"Subnet": subnet, "IPRange": config.ip_range, "Gateway": config.gateway}
    return {key: value for key, value in pool.items() if value}
