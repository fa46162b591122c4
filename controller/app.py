"""The controller's composition root: the one module that constructs its shells. SHELL."""

import asyncio
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import grpc
import msgspec

from controller.api.queries.info import ControllerFacts
from controller.brain.allocator.audit import audit
from controller.brain.decide import decide
from controller.config import Config, EtcdConfig
from controller.grpc.admission import Admission
from controller.grpc.auditing import Auditing
from controller.grpc.calls import ErrorsToStatus
from controller.grpc.control import Control
from controller.grpc.dispatcher import Dispatcher
from controller.grpc.health import Health
from controller.leader.audit.files import AuditFile
from controller.leader.election import Candidate, Term, encode_candidate, known_leader
from controller.leader.garbage import freeze, unseen, young_only
from controller.leader.loop import Loop, Tools
from controller.leader.persistence.aside import in_thread
from controller.leader.persistence.campaign import Elector
from controller.leader.persistence.loading import Loaded, load
from controller.leader.persistence.registry import Registry
from controller.leader.persistence.saving import Deposed, Saver, YieldLoop
from controller.metrics import Metrics
from controller.store.base import Revision, Store, StoreError, StoreFull, StoreUnavailable
from controller.store.embedded import EmbeddedEtcd, EmbeddedSettings
from controller.store.etcd import EtcdStore
from controller.store.etcd_endpoints import EtcdSettings
from pyswarm_core.aio.channel import SERVER_OPTIONS
from pyswarm_core.aio.daemon import check_free, own_folder
from pyswarm_core.aio.echo import Asker, Done, Echoes
from pyswarm_core.aio.logs import EventLog
from pyswarm_core.aio.metrics import serve_metrics
from pyswarm_core.aio.system import RandomIds, SteadyClock, SystemClock
from pyswarm_core.api.v1 import control_pb2_grpc, dispatcher_pb2_grpc
from pyswarm_core.clock import seconds
from pyswarm_core.decision import Writes
from pyswarm_core.errors import NO_LEADER, InvalidArgument, Unavailable, invalid, quoted, reason_of
from pyswarm_core.keys import Keys
from pyswarm_core.limits import COMPACT_BYTES, COMPACT_PERIOD
from pyswarm_core.objects import Cluster, Version
from pyswarm_core.plaintext import split_lines
from pyswarm_core.state import State
from pyswarm_core.version import version

_log = EventLog("controller")

RETRY_FIRST_S = 0.2
RETRY_MAX_S = 5.0
COMPACT_LOOK_S = 1.0
STEADY_S = 30.0
"""A term that lasted this long does not count as a failure."""
STOP_GRACE_S = 1.0
ETCD_MIN = (3, 4)
DUPLICATES_SHOWN = 20
"""How many duplicate allocations are named in the log."""


async def run(config: Config, longest_pass: Callable[[], float]) -> None:
    """Run until SIGTERM or SIGINT. Agents and containers continue meanwhile.

    Raises PyswarmError if this host cannot be a controller with this configuration.
    """
    main = asyncio.current_task()
    assert main is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, main.cancel)
    try:
        async with AsyncExitStack() as stack:
            for address in config.listen:
                check_free("--listen", address)
            if config.metrics_addr:
                check_free("--metrics-addr", config.metrics_addr)
            stack.enter_context(own_folder("--state-dir", config.state_dir))
            store = await stack.enter_async_context(_store(config))
            await Controller(config, store, longest_pass=longest_pass).serve()
    except asyncio.CancelledError:
        _log.info("controller.stopped")


class Controller:
    """One controller, leading or not: a `Leadership` for the servers."""

    def __init__(
        self,
        config: Config,
        store: Store,
        echoes: Callable[[Done], Asker] = Echoes,
        *,
        longest_pass: Callable[[], float] = float,
    ) -> None:
        self.controller = config.name
        self._seen_leader = ""
        self._config = config
        self._store = store
        self._echoes = echoes
        self._keys = Keys(config.etcd.prefix)
        self._loop: Loop | None = None
        self._news = asyncio.Event()
        self._metrics = Metrics()
        self._metrics.watch(lambda: self._loop)
        self._metrics.longest_pass_seconds.set_function(longest_pass)
        self._health = Health()
        self._clock = SystemClock()
        self._ids = RandomIds()
        self._aside = in_thread
        self._freeze = freeze
        self._elector: Elector | None = None
        self._write_audit = AuditFile(config, self._metrics).run
        self._controllers: tuple[str, ...] = (config.advertise_addr,)

    @property
    def leading(self) -> bool:
        """Whether this controller leads, and its lease still holds."""
        return self._loop is not None and self._elector is not None and self._elector.holds()

    @property
    def leader(self) -> str:
        """See `Leadership.leader`."""
        return known_leader(self._seen_leader, self._config.advertise_addr, leads=self.leading)

    def current(self) -> Loop:
        """See `Leadership.current`."""
        if self._loop is not None and self.leading:
            return self._loop
        where = f"the leader is at {self.leader}" if self.leader else NO_LEADER
        if self._elector is not None and (trouble := self._elector.trouble):
            where = f"the store is unreachable ({trouble})"
        raise Unavailable(f"this controller does not lead: {where}")

    async def settled(self) -> None:
        """Return when this controller leads or knows the leader."""
        while not (self.leading or self.leader):
            await self._news.wait()

    async def serve(self) -> None:
        """Serve, and lead whenever elected, until cancelled."""
        config = self._config
        me = Candidate(_identity(config.state_dir, self._ids), config.name, config.advertise_addr)
        elector = Elector(self._store, self._keys, me, SteadyClock(), self._follow)
        server = await self._server()
        with serve_metrics(config.metrics_addr, self._metrics.registry):
            await server.start()
            _log.info("controller.serving", name=config.name, addresses=",".join(config.listen))
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._registry(me).run())
                    group.create_task(self._stand(elector, me))
            finally:
                await server.stop(STOP_GRACE_S)

    async def _stand(self, elector: Elector, me: Candidate) -> None:
        """Win and serve terms until cancelled; with a growing pause while they end in failure."""
        self._elector = elector
        now = asyncio.get_running_loop().time
        pause_s = RETRY_FIRST_S
        while True:
            term = await elector.win()
            began = now()
            try:
                with young_only():
                    await self._lead(elector, term, me)
            except* Deposed as reasons:
                _log.warning("leadership.lost", reason=reasons.exceptions[0])
            except* StoreError as reasons:
                _log.warning("leadership.failed", reason=reasons.exceptions[0])
            except* Exception:
                _log.error("leadership.error", trace=True)
            pause_s = RETRY_FIRST_S if now() - began > STEADY_S else min(pause_s * 2, RETRY_MAX_S)
            await asyncio.sleep(pause_s)

    async def _lead(self, elector: Elector, term: Term, me: Candidate) -> None:
        saver = Saver(
            self._store,
            self._keys,
            term,
            encode_candidate(me),
            on_error=self._count_error,
        )
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._aside(elector.keep(term)))
                group.create_task(elector.live())
                group.create_task(self._compact(saver))
                await self._run_loop(saver, group)
        finally:
            self._loop = None
            self._follow("")
            self._metrics.is_leader.set(0)
            await self._health.set_leading(False)
            await elector.resign(term)

    async def _run_loop(self, saver: Saver, group: asyncio.TaskGroup) -> None:
        with self._metrics.load_seconds.time(), unseen(self._freeze):
            now = self._clock.now()
            found = await load(self._store, self._keys, self._first_cluster, now, saver.yield_loop)
            loaded = self._with_options(found)
        state = loaded.state
        _log.info(
            "state.loaded",
            revision=loaded.revision,
            nodes=len(state.nodes),
            services=len(state.services),
            tasks=len(state.tasks),
        )
        tools = Tools(
            decide=decide,
            saver=saver,
            clock=self._clock,
            ids=self._ids,
            metrics=self._metrics,
            controllers=self._controllers,
            echoes=self._echoes,
        )
        self._loop = Loop(loaded, tools)
        self._announce()
        self._metrics.is_leader.set(1)
        await self._health.set_leading(True)
        group.create_task(self._audit(state, saver.yield_loop))
        group.create_task(self._write_audit(self._loop.audit.log))
        await self._loop.run()

    async def _audit(self, state: State, yield_loop: YieldLoop) -> None:
        """Log duplicate allocations; only an operator can repair them."""
        found = 0
        for text in audit(state):
            if text is None:
                await yield_loop()
                continue
            found += 1
            if found <= DUPLICATES_SHOWN:
                _log.error("state.duplicate_allocation", what=text)
        self._metrics.duplicate_allocations.set(found)

    async def _compact(self, saver: Saver) -> None:
        """Compact history that is a period old, or older than COMPACT_BYTES."""
        seen, written, waited_s = saver.revision, saver.bytes_written, 0.0
        while True:
            await asyncio.sleep(COMPACT_LOOK_S)
            waited_s += COMPACT_LOOK_S
            is_due = waited_s >= seconds(COMPACT_PERIOD)
            if not is_due and saver.bytes_written - written < COMPACT_BYTES:
                continue
            try:
                await self._store.compact(Revision(seen))
            except StoreError as error:
                self._count_error(error)
            seen, written, waited_s = saver.revision, saver.bytes_written, 0.0

    async def _server(self) -> grpc.aio.Server:
        config = self._config
        admission = Admission()
        interceptors = (ErrorsToStatus(self._ids), admission, Auditing(self))
        server = grpc.aio.server(interceptors=interceptors, options=SERVER_OPTIONS)
        facts = ControllerFacts(version(), await self._store_name(), config.advertise_addr)
        control = Control(self, self._clock, facts, host_routes)
        control_pb2_grpc.add_ControlServicer_to_server(control, server)
        dispatcher = Dispatcher(self, admission.strangers)
        dispatcher_pb2_grpc.add_DispatcherServicer_to_server(dispatcher, server)
        self._health.add_to(server)
        await self._health.set_leading(False)
        for address in config.listen:
            check_free("--listen", address)  # a task may have taken it since this process started
            try:
                server.add_insecure_port(address)
            except RuntimeError as error:
                raise InvalidArgument(f"cannot listen on {quoted(address)}: {error}") from None
        return server

    async def _store_name(self) -> str:
        try:
            return etcd_name((await self._store.status()).version)
        except StoreUnavailable as error:
            _log.warning("store.unavailable", error=error)
            return "etcd"

    def _first_cluster(self) -> Cluster:
        cluster_id, worker, manager = self._ids.draw(3)
        now = self._clock.now()
        return Cluster(
            id=cluster_id,
            created_at=now,
            updated_at=now,
            worker_token=f"PYSWM-1-{cluster_id}-{worker}",
            manager_token=f"PYSWM-1-{cluster_id}-{manager}",
        )

    def _with_options(self, loaded: Loaded) -> Loaded:
        """Merge the settings of this start's flags into the cluster's spec."""
        old = loaded.state.cluster
        try:
            spec = self._config.cluster.applied_to(old.spec)
        except InvalidArgument as error:
            _log.error("cluster.flags_ignored", error=error)
            spec = old.spec
        if spec != old.spec:
            cluster = msgspec.structs.replace(
                old, spec=spec, version=Version(index=old.version.index + 1)
            )
            loaded.state.apply(Writes(cluster=cluster))
            loaded.unsaved.cluster = True
        return loaded

    def _follow(self, leader: str) -> None:
        if leader != self._seen_leader:
            _log.info("leader.changed", leader=leader)
        self._seen_leader = leader
        self._announce()

    def _registry(self, me: Candidate) -> Registry:
        return Registry(self._store, self._keys, me, self._meet, lambda: self._loop is not None)

    def _meet(self, controllers: tuple[str, ...]) -> None:
        """Set the other controllers that run."""
        self._controllers = (self._config.advertise_addr, *controllers)
        _log.info("controllers.changed", addresses=",".join(self._controllers))
        if self._loop is not None:
            self._loop.controllers_changed(self._controllers)

    def _announce(self) -> None:
        """Wake the waits for a leader."""
        self._news.set()
        self._news = asyncio.Event()

    def _count_error(self, error: StoreError) -> None:
        _log.warning("store.failed", kind=type(error).__name__, error=error)
        self._metrics.store_errors_total.labels(type(error).__name__).inc()
        if isinstance(error, StoreFull) and self._loop is not None:
            self._loop.refuse(error)


def etcd_name(version: str) -> str:
    """`etcd 3.5.9`. Raises InvalidArgument for one that is too old."""
    numbers = version.split(".")[:2]
    if all(n.isdecimal() for n in numbers) and tuple(map(int, numbers)) < ETCD_MIN:
        least = ".".join(map(str, ETCD_MIN))
        raise InvalidArgument(
            f"--etcd-endpoints: etcd {version} is too old: expected {least} or later"
        )
    return f"etcd {version}"


@asynccontextmanager
async def _store(config: Config) -> AsyncIterator[Store]:
    """The etcd of --etcd-endpoints, or the embedded one."""
    if config.etcd.endpoints:
        async with EtcdStore(_etcd_settings(config.etcd)) as store:
            yield store
        return
    etcd = EmbeddedEtcd(EmbeddedSettings(config.state_dir / "etcd"))
    endpoint = await etcd.start()
    settings = EtcdSettings((endpoint,), pads_log=True)
    async with (
        EtcdStore(settings) as store,
        _supervised(etcd.supervise),
        _supervised(lambda: etcd.relieve(store)),
    ):
        yield store


@asynccontextmanager
async def _supervised(work: Callable[[], "asyncio._CoroutineLike[None]"]) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(work())
        try:
            yield
        finally:
            task.cancel()


def _etcd_settings(config: EtcdConfig) -> EtcdSettings:
    def content(file: Path | None) -> bytes:
        return file.read_bytes() if file else b""

    _check_tls(config)
    return EtcdSettings(
        config.endpoints,
        username=config.username,
        password=config.password,
        ca_pem=content(config.ca_file),
        cert_pem=content(config.cert_file),
        key_pem=content(config.key_file),
    )


def _check_tls(config: EtcdConfig) -> None:
    """Raise InvalidArgument for files that TLS cannot use: gRPC would report no connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for flag, file, use in (
        ("--etcd-cacert", config.ca_file, context.load_verify_locations),
        (
            "--etcd-cert",
            config.cert_file,
            partial(context.load_cert_chain, keyfile=config.key_file),
        ),
    ):
        try:
            if file:
                use(file)
        except OSError as error:  # ssl.SSLError is one
            reason = "it is no PEM" if isinstance(error, ssl.SSLError) else reason_of(error)
            expected = "expected a PEM file, and the key that belongs to a certificate"
            raise invalid(flag, str(file), f"{reason}: {expected}") from None


def _identity(state_dir: Path, ids: RandomIds) -> str:
    """This controller's id, the same over restarts."""
    file = state_dir / "controller-id"
    if file.exists():
        return file.read_text().strip()
    (identity,) = ids.draw(1)
    fresh = file.with_suffix(".new")
    fresh.write_text(identity)
    fresh.rename(file)
    return identity


def host_routes() -> list[str]:
    """The subnets that this host routes, without default routes."""
    routes = []
    for line in split_lines(Path("/proc/net/route").read_text())[1:]:
        _, destination, _, _, _, _, _, mask, *_ = line.split()
        prefix = int(mask, 16).bit_count()
        if prefix:
            address = socket.inet_ntoa(bytes.fromhex(destination)[::-1])
            routes.append(f"{address}/{prefix}")
    return routes
