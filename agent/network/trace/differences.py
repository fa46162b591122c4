"""The differences between plan and kernel on a path from a task. PURE.

Most are found by the dataplane's `check` and repaired by its `sync`. Differences of other networks'
devices are left out.
"""

import re
from collections.abc import Iterable, Iterator

import msgspec

from agent.network.base import Drift
from agent.network.names import Names
from pyswarm_core.ids import NetworkId, TaskId
from pyswarm_core.traces import Difference


class ChosenRoute(msgspec.Struct, frozen=True, kw_only=True):
    """The route that the kernel chooses to an address; without a device there is none."""

    device: str = ""
    via: str = ""
    source: str = ""
    mtu: int = 0
    """The device's MTU."""

    def __str__(self) -> str:
        words = {"via": self.via, "dev": self.device, "src": self.source}
        return " ".join(f"{word} {value}" for word, value in words.items() if value)


def of_plan(
    drifts: Iterable[Drift], names: Names, task_id: TaskId, network_id: NetworkId
) -> Iterator[Difference]:
    """The differences in the task's rules, the host, its rules, and the network's devices."""
    ours = (names.bridge(network_id), names.vxlan(network_id), names.veth(task_id, network_id))
    for drift in drifts:
        devices = re.findall(rf"{names.prefix}[a-z][0-9a-f]+", drift.detail)
        if drift.detail == f"task {task_id}":
            text = (
                "the rules in the task's namespace were changed outside pyswarm "
                "(table inet pyswarm)"
            )
            yield Difference(where="task_rules", text=text)
        elif drift.kind == "rules" and names.table in drift.detail:
            yield Difference(
                where="rules", text=f"table {drift.detail} was changed outside pyswarm"
            )
        elif drift.kind != "rules" and (not devices or any(one in ours for one in devices)):
            text = f"{drift.kind} {drift.detail} differs between plan and kernel"
            yield Difference(where="host", text=text)


def of_route(
    route: ChosenRoute, names: Names, network_id: NetworkId, address: str
) -> Iterator[Difference]:
    """A difference if the host's route to the address does not use the network's devices."""
    if not route.device:
        text = f"the host has no route to {address}: it has received no peer with that address"
        yield Difference(where="peer", text=text)
    elif route.device not in (names.bridge(network_id), names.vxlan(network_id)):
        text = f"the host's route to {address} is {route}, outside the network"
        yield Difference(where="route", text=text)
