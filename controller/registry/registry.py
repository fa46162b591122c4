"""The fleet's registry on this controller's host: one process for nodes, which only read, and one
for users, behind the controller. SHELL.

Both have the same storage. The process for nodes runs while the controller does, and longer; the
one for users starts with the first request. The loss of either stops nothing that runs.
"""

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress

from controller.config import Config
from controller.identity.cluster import issued_from
from controller.registry.files import NodesFiles
from controller.registry.gate import Ends
from controller.registry.messages import HEAD_BYTES_MAX
from controller.registry.process import NotInstalled, RegistryProcess
from controller.registry.settings import (
    RegistrySettings,
    RegistryState,
    for_nodes,
    for_users,
)
from controller.registry.upkeep import RegistryUpkeep
from pyswarm_core.aio.daemon import check_free
from pyswarm_core.aio.logs import EventLog
from pyswarm_core.clock import Clock
from pyswarm_core.controlplane import split_address
from pyswarm_core.errors import PyswarmError, Unavailable, reason_of
from pyswarm_core.objects import Cluster

_log = EventLog("controller.registry")

NO_REGISTRY = "this fleet has no registry: its controller was started with --no-registry"
LOOK_PERIOD_S = 1.0
"""Between two looks at the CA and the clock."""
_PAUSE_MIN_S = 0.2
_PAUSE_MAX_S = 30.0
_SETTLED_S = 10.0
"""A process that lived this long before it died is restarted without a pause."""
_ANSWER_S = 2.0


def registry_of(
    config: Config,
    clock: Clock,
    cluster: Callable[[], Cluster | None],
    changed: Callable[[], None],
) -> "FleetRegistry | NoRegistry":
    """The registry of a controller."""
    if not config.registry_addr:
        return NoRegistry()
    folder = config.state_dir / "registry"
    settings = RegistrySettings(
        folder=folder,
        storage=config.registry_dir or folder / "images",
        quota=config.registry_quota,
        listen=config.registry_addr,
        advertised=config.registry_advertised,
    )
    return FleetRegistry(settings, clock, cluster, changed)


def _made_from(cluster: Cluster) -> tuple[object, ...]:
    """What the files of the process for nodes depend on."""
    return issued_from(cluster), cluster.nodes_evicted


class NoRegistry:
    """Of a controller that was started without one."""

    state = RegistryState()
    addresses: tuple[str, ...] = ()
    upkeep = None

    async def run(self) -> None:
        """Nothing runs."""

    async def connect(self) -> Ends:
        """Raises Unavailable."""
        raise Unavailable(NO_REGISTRY)


class FleetRegistry:
    """The registry's processes. `cluster` returns the stored cluster, None before it is known."""

    def __init__(
        self,
        settings: RegistrySettings,
        clock: Clock,
        cluster: Callable[[], Cluster | None],
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        """`changed`: called when the state changes."""
        self._settings = settings
        self._clock = clock
        self._cluster = cluster
        self._changed = changed
        self._files = NodesFiles(settings)
        folder, binary = settings.folder, settings.binary
        self._nodes = RegistryProcess(folder, "nodes", binary, self._serves_nodes)
        self._users = RegistryProcess(folder, "users", binary, self._serves_users)
        self._starting = asyncio.Lock()
        self.upkeep = RegistryUpkeep(settings.storage, settings.quota, clock, self._collector)
        self.state = RegistryState(settings.advertised, "it is starting")
        self.addresses: tuple[str, ...] = ()
        """Where nodes find it, once it has served."""

    async def run(self) -> None:
        """Keep the process for nodes running, until cancelled."""
        clock = asyncio.get_running_loop().time
        pause_s = _PAUSE_MIN_S
        while (cluster := self._cluster()) is None:  # noqa: ASYNC110  # the store tells nobody
            await asyncio.sleep(_PAUSE_MIN_S)
        while True:
            cluster = self._cluster() or cluster
            began = clock()
            try:
                await self._start(cluster)
            except (OSError, PyswarmError) as error:
                text = reason_of(error) if isinstance(error, OSError) else str(error)
                self._set_problem(text, is_expected=isinstance(error, NotInstalled))
            else:
                self._set_problem("")
                self._set_problem(await self._until_due(cluster), is_expected=True)
            pause_s = _PAUSE_MIN_S if clock() - began > _SETTLED_S else pause_s
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _PAUSE_MAX_S)

    async def connect(self) -> Ends:
        """A new connection to the process for users, which is started if it does not run. Raises
        Unavailable.
        """
        try:
            return await self._connected()
        except OSError:
            pass
        try:
            async with self._starting:
                self._settings.storage.mkdir(mode=0o700, parents=True, exist_ok=True)
                secret = self._files.secret()
                if not await self._serves_users():
                    self._settings.socket.unlink(missing_ok=True)
                await self._users.ensure(for_users(self._settings, secret))
            return await self._connected()
        except OSError as error:
            raise Unavailable(f"the fleet's registry: {reason_of(error)}") from None
        except PyswarmError as error:
            raise Unavailable(f"the fleet's registry: {error}") from None

    async def stop(self) -> None:
        """End both processes; the images stay. For tests: they outlive a controller that ends."""
        await self._nodes.stop()
        await self._users.stop()

    def _collector(self) -> list[str]:
        """The command line of a collection of garbage."""
        secret = self._files.secret()
        file = self._settings.folder / "collector.json"
        file.write_bytes(for_users(self._settings, secret))
        return [self._settings.binary, "garbage-collect", str(file)]

    async def _start(self, cluster: Cluster) -> None:
        version = self._files.prepare(cluster, self._clock.now())
        if self._nodes.running() is None:
            check_free("--registry-addr", self._settings.listen)
        await self._nodes.ensure(for_nodes(self._settings, version))

    async def _until_due(self, cluster: Cluster) -> str:
        """Return when the process has ended, or the certificate is to be replaced, with which."""
        async with asyncio.TaskGroup() as group:
            death = group.create_task(self._nodes.death())
            while not death.done():
                await asyncio.wait({death}, timeout=LOOK_PERIOD_S)
                current = self._cluster()
                is_same = current is None or _made_from(current) == _made_from(cluster)
                if not is_same or self._clock.now() >= self._files.renews_at:
                    break
            has_ended = death.done()
            death.cancel()
        if not has_ended:
            return "it gets a new certificate or password"
        _log.warning("registry.died", process="nodes")
        return "its process ended and is started again"

    def _set_problem(self, problem: str, *, is_expected: bool = False) -> None:
        state = RegistryState(self._settings.advertised, problem)
        if state == self.state:
            return
        if problem:
            (_log.info if is_expected else _log.warning)("registry.unavailable", reason=problem)
        else:
            _log.info("registry.serving", address=self._settings.advertised)
            self.addresses = (self._settings.advertised,)
        self.state = state
        self._changed()

    async def _connected(self) -> Ends:
        opened = asyncio.open_unix_connection(self._settings.socket, limit=HEAD_BYTES_MAX)
        return Ends(*await opened)

    async def _serves_users(self) -> bool:
        try:
            ends = await self._connected()
        except OSError:
            return False
        ends.writer.close()
        return True

    async def _serves_nodes(self) -> bool:
        """Whether something at its address speaks TLS."""
        found = split_address(self._settings.listen)
        assert found is not None
        host = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(found[0], found[0])
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        try:
            async with asyncio.timeout(_ANSWER_S):
                _, writer = await asyncio.open_connection(host, found[1], ssl=context)
        except (OSError, TimeoutError):
            return False
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
        return True
