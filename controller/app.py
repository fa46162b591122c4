"""The controller's composition root: the one module that constructs its shells. SHELL."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack

import grpc
import msgspec

from controller.api.duties import duties
from controller.api.queries.info import ControllerFacts
from controller.brain.allocator.audit import audit
from controller.brain.decide import decide
from controller.config import Config, etcd_name
from controller.grpc.admission import Admission
from controller.grpc.auditing import UNLOCK, Auditing
from controller.grpc.authentication import Authentication
from controller.grpc.authorization import Authorization
from controller.grpc.calls import ErrorsToStatus
from controller.grpc.control import Control
from controller.grpc.dispatcher import Dispatcher
from controller.grpc.health import Health
from controller.grpc.listening import listen, server_options
from controller.grpc.locked import until_unlocked
from controller.grpc.peers import sockets_of
from controller.host import controller_id, host_routes
from controller.identity.authority import Authority, StoredCluster
from controller.identity.caller import ROOT
from controller.identity.cluster import WITHOUT_CA, first_cluster, is_without_ca
from controller.identity.envelope import Envelope
from controller.identity.keyfile import missing
from controller.identity.keyring import Keyring
from controller.identity.locking import Locking
from controller.leader.audit.files import AuditFile
from controller.leader.election import Candidate, Term, encode_candidate, known_leader
from controller.leader.garbage import freeze, unseen, young_only
from controller.leader.loop import Loop
from controller.leader.moves.copier import Copier
from controller.leader.persistence.aside import in_thread
from controller.leader.persistence.campaign import Elector
from controller.leader.persistence.listening import Listening
from controller.leader.persistence.loading import Loaded, load
from controller.leader.persistence.registry import Registry
from controller.leader.persistence.saving import Deposed, Saver, YieldLoop
from controller.leader.tools import Tools
from controller.metrics import Metrics
from controller.registry.registry import registry_of
from controller.storage import open_store
from controller.store.base import (
    Revision,
    Store,
    StoreError,
    StoreFull,
    StoreMisuse,
    StoreUnavailable,
)
from controller.store.etcd import EtcdStore
from pyswarm_core.aio.channel import unblock_poller
from pyswarm_core.aio.daemon import apart, check_free, own_folder, until_stopped, was_cancelled
from pyswarm_core.aio.echo import Asker, Done, Echoes
from pyswarm_core.aio.http.health import serve_health
from pyswarm_core.aio.logs import EventLog
from pyswarm_core.aio.metrics import ScrapeSecurity, digest_of_token, serve_metrics
from pyswarm_core.aio.system import RandomIds, SteadyClock, SystemClock
from pyswarm_core.api.v1 import control_pb2_grpc, dispatcher_pb2_grpc
from pyswarm_core.clock import Backoff, Instant, seconds
from pyswarm_core.decision import Writes
from pyswarm_core.errors import NO_LEADER, InvalidArgument, Unavailable
from pyswarm_core.keys import Keys
from pyswarm_core.limits import COMPACT_BYTES, COMPACT_PERIOD
from pyswarm_core.objects import Cluster, Object, Version
from pyswarm_core.state import State
from pyswarm_core.version import version

_log = EventLog("controller")

RETRY_FIRST_S = 0.2
RETRY_MAX_S = 5.0
COMPACT_LOOK_S = 1.0
STEADY_S = 30.0
"""A term that lasted this long does not count as a failure."""
STOP_GRACE_S = 1.0
DUPLICATES_SHOWN = 20
"""How many duplicate allocations are named in the log."""


async def run(config: Config, longest_pass: Callable[[], float]) -> None:
    """Run until SIGTERM or SIGINT. Agents and containers continue meanwhile.

    Raises PyswarmError if this host cannot be a controller with this configuration.
    """
    unblock_poller()
    with until_stopped():
        async with AsyncExitStack() as stack:
            for address in config.listen:
                check_free("--listen", address)
            for flag, address in (
                ("--metrics-addr", config.metrics_addr),
                ("--health-addr", config.health_addr),
            ):
                if address:
                    check_free(flag, address)
            stack.enter_context(own_folder("--state-dir", config.state_dir))
            keyring = Keyring(config.key_file)
            unlocked_at = None
            if keyring.is_locked:
                with serve_health(config.health_addr, lambda: False):
                    unlocked_at = await until_unlocked(
                        config.listen, keyring, RandomIds(), SystemClock()
                    )
            store = await stack.enter_async_context(open_store(config))
            controller = Controller(config, store, longest_pass=longest_pass, keyring=keyring)
            controller.unlocked_at = unlocked_at
            await controller.serve()
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
        keyring: Keyring | None = None,
    ) -> None:
        self.controller = config.name
        self.unlocked_at: Instant | None = None
        """When root unlocked it, until that has an audit record."""
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
        self._keyring = keyring or Keyring(config.key_file)
        self._locking = Locking(store, self._keys, self._keyring)
        self._elector: Elector | None = None
        self._authority: Authority | None = None
        self._write_audit = AuditFile(config, self._metrics).run
        self._listens: Listening | None = None
        self._controllers: tuple[str, ...] = (config.advertise_addr,)
        self._images = images = registry_of(
            config, self._clock, self._cluster, self._registry_changed
        )
        self._metrics.registry_serving.set_function(lambda: float(not images.state.problem))
        self._authentication = Authentication(
            self,
            self._clock,
            lambda node: node.certificate.expires_at,
            sockets_of(config.listen),
        )

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
        """Serve, and lead whenever elected, until cancelled.

        Raises InvalidArgument if the store has a cluster and this host not its encryption key.
        """
        config = self._config
        try:
            await self._has_key()
        except StoreError as error:
            _log.warning("store.failed", kind=type(error).__name__, error=error)
        identity = controller_id(config.state_dir, self._ids)
        me = Candidate(identity, config.name, config.advertise_addr)
        stored = StoredCluster(
            self._store,
            self._keys,
            self._keyring,
            self._first_cluster,
            converts=config.convert,
        )
        authority = self._authority = Authority(stored, identity, self._clock)
        elector = Elector(self._store, self._keys, me, SteadyClock(), self._follow)
        server = await self._server(authority)
        security = self._scrape_security(authority)
        with (
            serve_metrics(config.metrics_addr, self._metrics.registry, security),
            serve_health(config.health_addr, lambda: self.leading),
        ):
            await server.start()
            _log.info("controller.serving", name=config.name, addresses=",".join(config.listen))
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(authority.keep())
                    group.create_task(self._registry(me).run())
                    group.create_task(self._images.run())
                    group.create_task(self._listening(me).run())
                    group.create_task(self._locking.run())
                    group.create_task(self._locking.count_former())
                    group.create_task(self._stand(elector, me, authority))
            finally:
                await server.stop(STOP_GRACE_S)

    async def _stand(self, elector: Elector, me: Candidate, authority: Authority) -> None:
        """Win and serve terms until cancelled; with a growing pause while they end in failure."""
        await authority.known()
        self._elector = elector
        now = asyncio.get_running_loop().time
        backoff = Backoff.doubling(RETRY_FIRST_S, RETRY_MAX_S)
        while True:
            term = await elector.win()
            began = now()
            try:
                with young_only():
                    await apart(self._lead(elector, term, me))
            except* Deposed as reasons:
                _log.warning("leadership.lost", reason=reasons.exceptions[0])
            except* StoreError as reasons:
                _log.warning("leadership.failed", reason=reasons.exceptions[0])
            except* Exception:
                _log.error("leadership.error", trace=True)
            if was_cancelled():
                raise asyncio.CancelledError
            if now() - began > STEADY_S:
                backoff.reset()
            await asyncio.sleep(backoff.next_s())

    async def _has_key(self) -> bool:
        """Whether the encryption key exists; False: this is a new cluster. Raises InvalidArgument
        if the store has a cluster and this host not its key.
        """
        if not self._keyring.is_empty:
            return True
        found = await self._store.get(self._keys.cluster)
        if found is None:
            return False
        if is_without_ca(found.value):
            if self._config.convert:
                return False
            raise InvalidArgument(WITHOUT_CA)
        raise InvalidArgument(missing(self._config.key_file))

    async def _envelope(self) -> Envelope:
        """Made with the key of the key file; a new cluster gets a key. Raises StoreMisuse."""
        try:
            return self._keyring.envelope(is_new=not await self._has_key())
        except InvalidArgument as error:
            raise StoreMisuse(str(error)) from None

    async def _lead(self, elector: Elector, term: Term, me: Candidate) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._aside(elector.keep(term)))
                group.create_task(elector.live())
                envelope = await self._envelope()
                saver = Saver(
                    self._store,
                    self._keys,
                    term,
                    encode_candidate(me),
                    envelope=envelope,
                    on_error=self._count_error,
                )
                group.create_task(self._compact(saver))
                await self._run_loop(saver, envelope, group)
        finally:
            self._loop = None
            self._follow("")
            self._metrics.is_leader.set(0)
            await self._health.set_leading(False)
            await elector.resign(term)

    async def _run_loop(self, saver: Saver, envelope: Envelope, group: asyncio.TaskGroup) -> None:
        with self._metrics.load_seconds.time(), unseen(self._freeze):
            now = self._clock.now()
            found = await load(
                self._store,
                self._keys,
                envelope,
                self._first_cluster,
                now,
                yield_loop=saver.yield_loop,
            )
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
            callers_changed=self._callers_changed,
            registries=lambda: self._images.addresses,
        )
        self._loop = Loop(loaded, tools)
        self._announce()
        self._metrics.is_leader.set(1)
        await self._health.set_leading(True)
        if self.unlocked_at is not None:
            self._loop.audit.note(ROOT, UNLOCK, self.controller, at=self.unlocked_at)
            self.unlocked_at = None
        group.create_task(self._audit(state, saver.yield_loop))
        group.create_task(self._write_audit(self._loop.audit.log))
        group.create_task(Copier(self._loop, self._clock).run())
        for duty in duties(self._loop, self._clock, self._images, host_routes):
            group.create_task(duty)
        if self._listens is not None:
            told = self._listens.tell(state, self._loop.sessions, saver.yield_loop)
            group.create_task(told)
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

    async def _server(self, authority: Authority) -> grpc.aio.Server:
        config = self._config
        admission = Admission()
        interceptors = (
            ErrorsToStatus(self._ids),
            self._authentication,
            admission,
            Auditing(self),
            Authorization(self),
        )
        server = grpc.aio.server(interceptors=interceptors, options=server_options())
        images = self._images
        facts = ControllerFacts(
            version(), await self._store_name(), config.advertise_addr, lambda: images.state
        )
        control = Control(self, self._clock, facts, host_routes, self._locking, registry=images)
        control_pb2_grpc.add_ControlServicer_to_server(control, server)
        dispatcher = Dispatcher(self, self._clock, admission.strangers, admission.receiving)
        dispatcher_pb2_grpc.add_DispatcherServicer_to_server(dispatcher, server)
        self._health.add_to(server)
        await self._health.set_leading(False)
        listen(server, config.listen, lambda: authority.identity)
        return server

    async def _store_name(self) -> str:
        try:
            return etcd_name((await self._store.status()).version)
        except StoreUnavailable as error:
            _log.warning("store.unavailable", error=error)
            return "etcd"

    def _first_cluster(self) -> Cluster:
        cluster_id, secret, scrape_secret = self._ids.draw(3)
        return first_cluster(cluster_id, secret, self._clock.now(), scrape_secret)

    def _scrape_security(self, authority: Authority) -> ScrapeSecurity:
        """What protects this controller's metrics; a leader knows a new token at once."""

        def identity() -> bytes:
            return authority.identity.chain + authority.identity.key

        def token_digest() -> bytes:
            loop = self._loop
            token = loop.state.cluster.scrape_token if loop else authority.scrape_token
            return digest_of_token(token)

        return ScrapeSecurity(identity, token_digest)

    def _callers_changed(self, put: Sequence[Object | Cluster], removed: Sequence[str]) -> None:
        self._authentication.calls.changed(put, removed)
        if self._authority is not None:
            self._authority.changed(put)

    def _with_options(self, loaded: Loaded) -> Loaded:
        """Merge the settings of this start's flags into the cluster's spec, but for those that the
        last start had: `swarm update` may have changed these since.
        """
        old = loaded.state.cluster
        options = self._config.cluster
        try:
            spec = options.applied_to(old.spec, old.start_flags)
        except InvalidArgument as error:
            _log.error("cluster.flags_ignored", error=error)
            spec = old.spec
        if (spec, options.named) != (old.spec, old.start_flags):
            version = Version(index=old.version.index + (spec != old.spec))
            cluster = msgspec.structs.replace(
                old, spec=spec, version=version, start_flags=options.named
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

    def _listening(self, me: Candidate) -> Listening:
        self._listens = Listening(
            self._store,
            self._keys,
            me.id,
            self._config,
            members=self._etcd_members,
        )
        return self._listens

    async def _etcd_members(self) -> tuple[str, ...]:
        """The URLs of an external etcd's members; the embedded one listens on no address."""
        if not self._config.etcd.endpoints or not isinstance(self._store, EtcdStore):
            return ()
        return await self._store.members()

    def _meet(self, controllers: tuple[str, ...]) -> None:
        """Set the other controllers that run."""
        self._controllers = (self._config.advertise_addr, *controllers)
        _log.info("controllers.changed", addresses=",".join(self._controllers))
        if self._loop is not None:
            self._loop.controllers_changed(self._controllers)

    def _cluster(self) -> Cluster | None:
        return self._authority.cluster if self._authority is not None else None

    def _registry_changed(self) -> None:
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
