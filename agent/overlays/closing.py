"""Closes to tasks what this agent itself knows of the control plane: its metrics, the controllers
that it connects to, and the registries that it mirrors without encryption. SHELL.

Controllers send the rest. Names are resolved again periodically; while a name does not resolve, its
last addresses stay closed.
"""

import asyncio
from collections.abc import Callable, Iterable

from agent.overlays.overlays import Overlays
from pyswarm_core.aio.hosts import HostNames, host_addresses
from pyswarm_core.aio.logs import EventLog
from pyswarm_core.clock import seconds
from pyswarm_core.controlplane import (
    ControlEndpoint,
    ControlHost,
    listening_on,
    split_address,
)
from pyswarm_core.limits import CONTROL_PERIOD, METRICS_ADDRS_MAX

_log = EventLog("agent.closing")

OWN = "agent"
"""The source of what the agent itself knows."""


class Closing:
    """What the agent closes by itself. `run` keeps it up to date."""

    def __init__(
        self,
        overlays: Overlays,
        own: Iterable[ControlHost],
        registries: Iterable[str],
        controllers: Callable[[], Iterable[str]],
    ) -> None:
        """`own`: where the agent listens; `registries`: URLs; `controllers` returns the known
        addresses of controllers.
        """
        self._overlays = overlays
        self._own = tuple(own)
        self._registries = tuple(registries)
        self._controllers = controllers
        self._names = HostNames()

    async def run(self) -> None:
        """Close what is known, for ever."""
        while True:
            await self.renew()
            await asyncio.sleep(seconds(CONTROL_PERIOD))

    async def renew(self) -> None:
        """Close what is known now."""
        others = [(text, True) for text in self._controllers()]
        others += [(text, False) for text in self._registries]
        found = await asyncio.gather(*(self._host(text, api=api) for text, api in others))
        await self._overlays.close(OWN, filter(None, (*self._own, *found)))

    async def _host(self, text: str, *, api: bool) -> ControlHost | None:
        if (parts := split_address(text)) is None:
            return None
        addresses = await self._names.addresses(parts[0])
        endpoint = ControlEndpoint(port=parts[1], api=api)
        return ControlHost(addresses=addresses, endpoints=(endpoint,))


def plain_registries(mirrors: Iterable[str]) -> list[str]:
    """The mirrors that are reached by plain HTTP, with a port."""
    plain = (mirror.split("/")[2] for mirror in mirrors if mirror.startswith("http://"))
    return [host if split_address(host) else f"{host}:80" for host in plain]


def own_listeners(listen: Iterable[str], advertise_addr: str) -> tuple[ControlHost, ...]:
    """Where this agent listens, of `listen` what other hosts reach."""
    found = (listening_on(address, (advertise_addr,)) for address in listen)
    return tuple(host for host in found if host is not None)


def listen_addrs(listen: Iterable[str], advertise_addr: str) -> tuple[str, ...]:
    """ADDRESS:PORT of this agent's metrics and health, as it reports them."""
    shown: list[str] = []
    for host in own_listeners(listen, advertise_addr):
        (endpoint,), addresses = host.endpoints, host.addresses
        if endpoint.anywhere:
            addresses = tuple(dict.fromkeys((*addresses, *host_addresses())))
        shown += [
            f"[{a}]:{endpoint.port}" if ":" in a else f"{a}:{endpoint.port}" for a in addresses
        ]
    return tuple(shown[:METRICS_ADDRS_MAX])
