"""What is allocated to a service, and what the rules of a task's namespace make of it."""

import json

from tests.e2e.acceptance.fleet import Fleet


def vip_of(fleet: Fleet, service: str) -> str:
    """A service's virtual address on its first network."""
    words = "{{range .Endpoint.VirtualIPs}}{{.Addr}} {{end}}"
    inspected = fleet("service", "inspect", service, "--format", words)
    return inspected.split()[0].partition("/")[0]


def behind(fleet: Fleet, task_id: str, vip: str) -> set[str]:
    """The addresses that a task's rules lead connections to a virtual address to."""
    return {address for at, address in backends(fleet, task_id) if at == vip}


def backends(fleet: Fleet, task_id: str) -> list[tuple[str, str]]:
    """Each virtual address with each address that a task's rules lead its connections to."""
    listed = fleet.inside(task_id, "nft", "-j", "list", "map", "inet", "pyswarm", "backends").out
    maps = [item["map"] for item in json.loads(listed)["nftables"] if "map" in item]
    elements = [element for found in maps for element in found.get("elem", ())]
    return sorted((key["concat"][0], address) for key, address in elements)
