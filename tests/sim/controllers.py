"""Controllers: the real election, loading, loop and dispatcher, in processes that may die.

Each has a machine that outlives its process: a name, an id, a clock that may be wrong.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec

from controller import app
from controller.config import ClusterOptions, Config
from controller.grpc.dispatcher import Dispatcher
from controller.identity.caller import Caller, CallerKind, Role
from controller.leader.audit.log import AuditLog
from controller.leader.election import Candidate
from controller.leader.leadership import Leader
from controller.leader.loop import Loop
from controller.leader.persistence.campaign import Elector
from controller.leader.persistence.registry import Registry
from controller.leader.tools import Decide
from pyswarm_core.clock import Instant
from pyswarm_core.decision import Decision, Dirty
from pyswarm_core.errors import PyswarmError, Unavailable
from pyswarm_core.ids import IdSource
from pyswarm_core.keys import Keys
from pyswarm_core.limits import LEADER_TTL
from pyswarm_core.state import State
from tests.fixtures.envelopes import FixedKeyring
from tests.sim.clock import Scheduler
from tests.sim.net import Net, SimEchoes
from tests.sim.options import Options
from tests.sim.process import Process, spawn
from tests.sim.rand import Seed, SeededIds
from tests.sim.session import accept
from tests.sim.store import Etcd, SimStore

KEYS = Keys()
ALICE = Caller(CallerKind.USER, "alice", "alice", Role.ADMIN)
"""The caller of all requests of users."""
Work = Callable[[Leader], Awaitable[object]]
"""What a server does for a request."""


class SteadyClock:
    """Counts from the run's beginning whatever the process's wall clock says."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def now(self) -> Instant:
        """See `Clock`."""
        return self._scheduler.now


class _Known:
    """In the place of the authority: no server here shows a certificate, so that the leader alone
    makes the cluster.
    """

    async def known(self) -> None:
        """See `Authority`."""


class SimController(app.Controller):
    """The real one, with clocks and ids of the simulator's."""

    def __init__(self, config: Config, store: SimStore, ids: SeededIds, net: Net) -> None:
        super().__init__(config, store, partial(SimEchoes, net, store.process))
        self._clock = store.process  # type: ignore[assignment]
        self._ids = ids  # type: ignore[assignment]
        self._keyring = FixedKeyring()  # type: ignore[assignment]
        self._freeze = lambda: None  # the collector is not the run's alone
        self._aside = lambda work: work  # no threads under virtual time
        self._write_audit = _no_files  # type: ignore[assignment]

    @property
    def loop(self) -> Loop | None:
        """The loop while it leads."""
        return self._loop

    @property
    def lease_ttl(self) -> int:
        """The time to live of its leases: longer if the store was slow."""
        return self._elector.ttl if self._elector else LEADER_TTL

    async def stand(self, elector: Elector, me: Candidate) -> None:
        """Stand for election for ever."""
        await self._stand(elector, me, _Known())  # type: ignore[arg-type]

    def registry(self, me: Candidate) -> Registry:
        """Its part in telling who lives."""
        return self._registry(me)

    def follow(self, leader: str) -> None:
        """Somebody else leads."""
        self._follow(leader)


async def _no_files(_: AuditLog) -> None:
    """There are no disks."""


class _NoCopier:
    """In the place of the leader's copier: agents of the simulator have no tunnels, and a stand-in
    (copying.py) makes the copies.
    """

    def __init__(self, *_: object) -> None:
        pass

    async def run(self) -> None:
        """For ever."""
        await asyncio.get_running_loop().create_future()


@contextmanager
def deciding_by(brains: Mapping[str, Decide]) -> Iterator[None]:
    """While it lasts, controllers decide by the brain that has their name. The end of a term
    collects no garbage: a full collection traverses a process's whole heap, modules included.
    """

    def by_name(state: State, dirty: Dirty, now: Instant, ids: IdSource) -> Decision:
        process = asyncio.get_running_loop()
        assert isinstance(process, Process)
        return brains[process.name](state, dirty, now, ids)

    with (
        patch.object(app, "decide", by_name),
        patch.object(app, "Copier", _NoCopier),
        patch.object(app, "young_only", nullcontext),
        patch.object(app, "freeze", lambda: None),
    ):
        yield


class Machine:
    """Where one controller runs."""

    def __init__(self, name: str, world: "ControllerWorld") -> None:
        self.name = name
        self.skew = 0
        self.lost = False
        """It never comes back."""
        self.process: Process | None = None
        self.controller: SimController | None = None
        self._world = world
        self._ids = SeededIds(world.seed.stream(f"ids/{name}"))
        (self.id,) = self._ids.draw(1)

    @property
    def up(self) -> bool:
        """Whether its process exists."""
        return self.process is not None and not self.process.dead

    @property
    def loop(self) -> Loop | None:
        """Its loop, if it believes that it leads."""
        return self.controller.loop if self.up and self.controller else None

    @property
    def lease_ttl(self) -> int:
        """The time to live of its leases."""
        return self.controller.lease_ttl if self.controller else LEADER_TTL

    def boot(self) -> None:
        """Start a process, unless there is one."""
        if self.up or self.lost:
            return
        world = self._world
        process = self.process = spawn(self.name, world.scheduler, world.on_crash)
        process.skew = self.skew
        store = SimStore(
            world.etcd, world.net, process, world.seed.stream(f"store/{self.name}"), world.options
        )
        options = ClusterOptions(
            task_history_limit=world.options.history_limit,
            default_address_pool=("10.128.0.0/12",),
            subnet_size=27 if world.options.small_subnets else 20,
        )
        config = Config(
            state_dir=Path("/nowhere"),
            name=self.name,
            advertise_addr=self.name,
            cluster=options,
        )
        controller = SimController(config, store, self._ids, world.net)
        self.controller = controller
        me = Candidate(self.id, self.name, self.name)
        elector = Elector(store, KEYS, me, SteadyClock(world.scheduler), controller.follow)
        dispatcher = Dispatcher(controller, process)
        world.net.listen(self.name, process, lambda end: accept(process, dispatcher, end))
        registry = controller.registry(me)

        async def serve() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(registry.run())
                group.create_task(world.copy(self.name, controller))
                group.create_task(controller.stand(elector, me))

        process.start(serve())

    def kill(self) -> None:
        """SIGKILL."""
        if self.process is not None and self.up:
            self.process.kill()
            self._world.net.died(self.process, silently=False)

    def lose_for_good(self) -> None:
        """It will never be seen again."""
        self.kill()
        self.lost = True

    def request(self, work: Work, answer: Callable[[object], None]) -> None:
        """A user's request has arrived. `answer` is called with what comes of it, if anything."""
        process, controller = self.process, self.controller
        if process is None or controller is None or process.dead:
            answer(Unavailable("nobody listens"))
            return

        async def serve() -> None:
            result: object
            try:
                result = await work(controller.current())
            except PyswarmError as error:
                result = error
            answer(result)

        process.create_task(serve())


class ControllerWorld(msgspec.Struct):
    """What controllers stand on."""

    scheduler: Scheduler
    net: Net
    etcd: Etcd
    seed: Seed
    options: Options
    names: tuple[str, ...]
    on_crash: Callable[[str], None]
    copy: Callable[[str, SimController], Coroutine[Any, Any, None]]
    """Copies volumes that are moved, while it leads."""
