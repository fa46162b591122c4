"""The API of users: gRPC's Control service. SHELL: message in, one use case, message out.

Every call asks for the current leader, so that a controller that lost its leadership answers
Unavailable and names its successor. Reads come from the state in memory; changes go through the
leader's `submit`.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, TypeVar

import msgspec
from google.protobuf.message import Message

from controller.api import settings, sizes, streams, tasks
from controller.api.audit import AuditQuery, list_audit
from controller.api.changes import cluster, networks, nodes, services, swarm, volumes
from controller.api.changes.removal import remove_object
from controller.api.changes.scraping import rotate_scrape_token
from controller.api.changes.tasks import restart_task
from controller.api.images import digests
from controller.api.logs import gather
from controller.api.logs.parts import LogPart
from controller.api.permissions import sees, sees_event
from controller.api.queries import containers, listings, lookup, views
from controller.api.queries.info import ControllerFacts, info
from controller.api.queries.listings import Listing
from controller.api.queries.lists import TaskQuery
from controller.api.queries.why import explain
from controller.api.queries.why_update import with_message
from controller.api.settings import Autolock
from controller.api.stats import gather as stats
from controller.api.tracing import trace
from controller.grpc.callers import current_caller
from controller.grpc.calls import Context, in_turn, read, sent
from controller.grpc.parts import parts
from controller.grpc.servicers.containers import ContainerCalls
from controller.grpc.servicers.images import ImageCalls
from controller.grpc.servicers.payloads import PayloadCalls
from controller.grpc.servicers.registry import RegistryCalls
from controller.grpc.servicers.stacks import StackCalls
from controller.grpc.servicers.volumes import VolumeCalls
from controller.grpc.streams.calls import StreamCalls
from controller.identity.caller import Caller, Role
from controller.leader.leadership import Leadership
from controller.registry.registry import FleetRegistry, NoRegistry
from pyswarm_core.api.v1 import audit_pb2, stats_pb2
from pyswarm_core.api.v1 import containers_pb2 as cp
from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.api.v1 import dispatcher_pb2 as dp
from pyswarm_core.clock import Clock
from pyswarm_core.codec import to_proto
from pyswarm_core.errors import Conflict
from pyswarm_core.identity.audit import AuditRecord
from pyswarm_core.kinds import NETWORK, NODE, SERVICE, VOLUME
from pyswarm_core.logs.lines import LogLines
from pyswarm_core.objects import Network, Node, Service, Version
from pyswarm_core.specs import ClusterSpec, NetworkSpec, NodeSpec, RegistryLogin, ServiceSpec
from pyswarm_core.views import AuditRecords, Event, EventQuery, LogsQuery
from pyswarm_core.volumes.volume import VolumeSpec

K = TypeVar("K")
V = TypeVar("V")
R = TypeVar("R", bound=Message)

EVENTS_ENCODED = 1_000
"""Events kept as messages: those that many streams receive at about the same time."""


class Control(
    ImageCalls,
    VolumeCalls,
    ContainerCalls,
    PayloadCalls,
    RegistryCalls,
    StackCalls,
    StreamCalls,
):
    """Serves users. `routes` returns the host's routes, which no network's subnet may overlap."""

    def __init__(
        self,
        leadership: Leadership,
        clock: Clock,
        facts: ControllerFacts,
        routes: Callable[[], Sequence[str]],
        autolock: Autolock,
        *,
        registry: FleetRegistry | NoRegistry | None = None,
    ) -> None:
        super().__init__(leadership, clock)
        self._facts = facts
        self._routes = routes
        self._autolock = autolock
        self._registry = registry or NoRegistry()

    async def GetInfo(self, request: pb.GetInfoRequest, context: Context) -> pb.GetInfoReply:
        return to_proto(info(self._leadership, self._facts), pb.GetInfoReply())

    async def GetScrapeToken(
        self, request: pb.GetScrapeTokenRequest, context: Context
    ) -> pb.ScrapeTokenReply:
        if request.rotate:
            return pb.ScrapeTokenReply(token=await self._submit(rotate_scrape_token))
        return pb.ScrapeTokenReply(token=self._leader().state.cluster.scrape_token)

    async def UpdateCluster(
        self, request: pb.UpdateClusterRequest, context: Context
    ) -> pb.UpdateClusterReply:
        spec, based_on = read(ClusterSpec, request.spec), read(Version, request.version)
        updated = await settings.update(
            self._leader(), self._submit, self._autolock, based_on, spec
        )
        return to_proto(updated, pb.UpdateClusterReply())

    async def GetUnlockKey(
        self, request: pb.GetUnlockKeyRequest, context: Context
    ) -> pb.UnlockKeyReply:
        if not request.rotate:
            return pb.UnlockKeyReply(unlock_key=cluster.unlock_key(self._leader().state))
        key = await settings.rotate_unlock_key(self._leader(), self._submit, self._autolock)
        return pb.UnlockKeyReply(unlock_key=key)

    async def Unlock(self, request: pb.UnlockRequest, context: Context) -> pb.UnlockReply:
        raise Conflict("swarm is not locked")  # controller/grpc/locked.py serves a locked one

    async def GetJoinToken(
        self, request: pb.GetJoinTokenRequest, context: Context
    ) -> pb.JoinTokenReply:
        return pb.JoinTokenReply(token=self._leader().state.cluster.worker_token)

    # Services

    async def CreateService(
        self, request: pb.CreateServiceRequest, context: Context
    ) -> pb.ServiceReply:
        spec, login = read(ServiceSpec, request.spec), _login(request)
        warnings: tuple[str, ...] = ()
        if request.query_registry:
            spec, warnings = await digests.pinned(self._leader(), spec, login)
        if request.publish_all:
            spec = await digests.published(self._leader(), spec, login)
        routes = self._routes()
        service = await self._submit(
            lambda state, now, ids: services.create_service(
                state, spec, routes, now, ids, login=login
            )
        )
        return _service(service, (*warnings, *volumes.warnings(service.spec)))

    async def UpdateService(
        self, request: pb.UpdateServiceRequest, context: Context
    ) -> pb.ServiceReply:
        spec, based_on = read(ServiceSpec, request.spec), read(Version, request.version)
        login = _login(request)
        warnings: tuple[str, ...] = ()
        if request.query_registry:
            leader = self._leader()
            known = login or lookup.find(leader.state, SERVICE, request.ref).registry_login
            spec, warnings = await digests.pinned(leader, spec, known)
        update = services.Update(request.ref, based_on, spec, login)
        routes = self._routes()
        service = await self._submit(
            lambda state, now, ids: services.update_service(state, update, routes, now, ids)
        )
        return _service(service, (*warnings, *volumes.warnings(service.spec)))

    async def RemoveService(
        self, request: pb.RemoveServiceRequest, context: Context
    ) -> pb.ServiceReply:
        return _service(
            await self._submit(
                lambda state, now, ids: services.remove_service(
                    state, request.ref, now, volumes=request.volumes
                )
            )
        )

    async def RollbackService(
        self, request: pb.RollbackServiceRequest, context: Context
    ) -> pb.ServiceReply:
        based_on = read(Version, request.version) if request.HasField("version") else None
        rollback = services.Rollback(request.ref, based_on, request.to)
        routes = self._routes()
        service = await self._submit(
            lambda state, now, ids: services.rollback_service(state, rollback, routes, now, ids)
        )
        return _service(service)

    async def GetService(self, request: pb.RefRequest, context: Context) -> pb.ServiceReply:
        state = self._leader().state
        found = lookup.find(state, SERVICE, request.ref)
        return _service(with_message(state, found, self._clock.now()))

    async def ListServices(self, request: pb.ListRequest, context: Context) -> None:  # type: ignore[override]
        found = listings.services(self._leader(), request.filters)
        await self._list(found, pb.ListServicesReply, "services", context)

    async def WatchService(self, request: pb.WatchServiceRequest, context: Context) -> None:  # type: ignore[override]
        send = sent(context, pb.ServiceProgress)
        await streams.watch_service(self._leadership, request.ref, send, follow=request.follow)

    # Tasks

    async def ListTasks(self, request: pb.ListTasksRequest, context: Context) -> None:  # type: ignore[override]
        found = listings.tasks(self._leader(), read(TaskQuery, request))
        await self._list(found, pb.ListTasksReply, "tasks", context)

    async def ListContainers(self, request: cp.ListContainersRequest, context: Context) -> None:  # type: ignore[override]
        query = read(containers.ContainerQuery, request)
        found = listings.containers(self._leader(), query, _seen_by(current_caller()))
        if query.size:
            found, warnings = await sizes.measured(self._leader(), found)
            await context.write(cp.ListContainersReply(warnings=warnings))
        await self._list(found, cp.ListContainersReply, "containers", context)

    async def GetContainer(self, request: pb.RefRequest, context: Context) -> pb.ContainerReply:
        leader = self._leader()
        found = await leader.watches.runner.run(
            containers.find_container(leader.state, request.ref)
        )
        return to_proto(containers.shown(found), pb.ContainerReply())

    async def RestartTask(self, request: pb.RefRequest, context: Context) -> pb.TaskView:
        leader = self._leader()
        found = await leader.watches.runner.run(lookup.find_task(leader.state, request.ref))
        task = await self._submit(lambda state, now, ids: restart_task(state, found.id, now))
        view = views.task_view(leader.state, task, with_spec=False)
        return to_proto(view, pb.TaskView())

    async def Why(self, request: pb.RefRequest, context: Context) -> pb.WhyReply:
        leader, is_admin = self._leader(), current_caller().role is Role.ADMIN
        now = self._clock.now()
        work = explain(leader.state, request.ref, now, leader.quarantine, is_admin=is_admin)
        return pb.WhyReply(lines=await leader.watches.runner.run(work))

    async def TaskChecks(self, request: pb.RefRequest, context: Context) -> dp.TaskChecks:
        checks = await tasks.task_checks(self._leader(), request.ref)
        return dp.TaskChecks(checks=[to_proto(check, dp.TaskCheck()) for check in checks])

    async def SignalTask(
        self, request: pb.SignalTaskRequest, context: Context
    ) -> pb.SignalTaskReply:
        task = await tasks.signal_task(self._leader(), read(tasks.SignalRequest, request))
        if not request.stop:
            self._record("kill", task, f"signal {request.signal}")
        return pb.SignalTaskReply()

    # Nodes

    async def GetNode(self, request: pb.RefRequest, context: Context) -> pb.NodeReply:
        return self._node(lookup.find(self._leader().state, NODE, request.ref))

    async def ListNodes(self, request: pb.ListRequest, context: Context) -> None:  # type: ignore[override]
        found = listings.nodes(self._leader(), request.filters)
        await self._list(found, pb.ListNodesReply, "nodes", context)

    async def UpdateNode(self, request: pb.UpdateNodeRequest, context: Context) -> pb.NodeReply:
        spec, based_on = read(NodeSpec, request.spec), read(Version, request.version)
        controllers = self._leader().controllers
        node = await self._submit(
            lambda state, now, ids: nodes.update_node(
                state, request.ref, based_on, spec, now, controllers=controllers
            )
        )
        reply = self._node(node)
        reply.warnings.extend(nodes.stopped_by_drain(self._leader().state, node))
        return reply

    async def RemoveNode(self, request: pb.RemoveNodeRequest, context: Context) -> pb.NodeReply:
        node = await self._submit(
            lambda state, now, ids: nodes.remove_node(state, request.ref, force=request.force)
        )
        return pb.NodeReply(node=pb.NodeView(node=to_proto(node, pb.NodeView().node)))

    # Networks

    async def CreateNetwork(
        self, request: pb.CreateNetworkRequest, context: Context
    ) -> pb.NetworkReply:
        spec, routes = read(NetworkSpec, request.spec), self._routes()
        return _network(
            await self._submit(
                lambda state, now, ids: networks.create_network(state, spec, routes, now, ids)
            )
        )

    async def GetNetwork(self, request: pb.GetNetworkRequest, context: Context) -> None:  # type: ignore[override]
        leader = self._leader()

        async def send(members: streams.Members) -> None:
            replies = parts(members.found, _as_it_is, pb.NetworkReply, members.kind)
            async for part in leader.watches.runner.each(replies):
                await context.write(part)

        network = lookup.find(leader.state, NETWORK, request.ref)
        await context.write(_network(network))
        if request.verbose:
            sees_one = _seen_by(current_caller())
            await streams.send_members(leader, network.id, sees_one, send)

    async def TraceNetwork(
        self, request: pb.TraceNetworkRequest, context: Context
    ) -> pb.TraceNetworkReply:
        hops = await trace.trace(self._leader(), read(trace.TraceRequest, request))
        return pb.TraceNetworkReply(hops=[to_proto(hop, pb.TraceHop()) for hop in hops])

    # Objects of any kind

    async def CreateVolume(
        self, request: pb.CreateVolumeRequest, context: Context
    ) -> pb.EncodedObject:
        spec = read(VolumeSpec, request.spec)
        volume = await self._submit(
            lambda state, now, ids: volumes.create_volume(state, spec, now, ids)
        )
        return to_proto(views.encoded(VOLUME, volume), pb.EncodedObject())

    async def GetObject(self, request: pb.ObjectRequest, context: Context) -> pb.EncodedObject:
        kind = lookup.kind_named(request.kind)
        found = lookup.find(self._leader().state, kind, request.ref)
        return to_proto(views.encoded(kind, found), pb.EncodedObject())

    async def ListObjects(self, request: pb.ListObjectsRequest, context: Context) -> None:  # type: ignore[override]
        found = listings.objects(self._leader(), request.kind, request.filters)
        await self._list(found, pb.ListObjectsReply, "objects", context)

    async def RemoveObject(
        self, request: pb.ObjectRequest, context: Context
    ) -> pb.RemoveObjectReply:
        kind = lookup.kind_named(request.kind)
        await self._submit(lambda state, now, ids: remove_object(state, kind, request.ref, now))
        return pb.RemoveObjectReply()

    # Streams and requests to agents

    async def Events(self, request: pb.EventsRequest, context: Context) -> None:  # type: ignore[override]
        caller = current_caller()

        async def send(events: Sequence[Event]) -> None:
            shown = [event for event in events if sees_event(caller, event)]
            if shown:
                await context.write(pb.EventsReply(events=map(_event, shown)))

        query = read(EventQuery, request)
        await streams.follow_events(self._leadership, query, self._clock, send)

    async def ListAudit(self, request: audit_pb2.ListAuditRequest, context: Context) -> None:  # type: ignore[override]
        async def send(records: Sequence[AuditRecord]) -> None:
            part = AuditRecords(tuple(records))
            await context.write(to_proto(part, audit_pb2.ListAuditReply()))

        await list_audit(self._leadership, read(AuditQuery, request), self._clock, send)

    async def Logs(self, request: pb.LogsRequest, context: Context) -> None:  # type: ignore[override]
        write = in_turn(context.write)

        async def send(part: LogPart) -> None:
            await write(_logs_reply(part))

        query = read(LogsQuery, request)
        await gather.send_logs(self._leadership, query, self._clock, send)

    async def Stats(self, request: stats_pb2.StatsRequest, context: Context) -> None:  # type: ignore[override]
        shown, write = _seen_by(current_caller()), in_turn(context.write)

        async def send(part: stats.StatsPart) -> None:
            await write(_stats(part))

        query = read(stats.StatsQuery, request)
        await stats.send_stats(self._leadership, query, shown, send)

    # Certificates

    async def GetCa(self, request: pb.GetCaRequest, context: Context) -> pb.CaReply:
        return to_proto(swarm.show_ca(self._leader().state), pb.CaReply())

    async def RotateCa(self, request: pb.RotateCaRequest, context: Context) -> pb.CaReply:
        await self._submit(lambda state, now, ids: swarm.rotate_ca(state, now))
        return to_proto(swarm.show_ca(self._leader().state), pb.CaReply())

    async def RotateJoinToken(
        self, request: pb.RotateJoinTokenRequest, context: Context
    ) -> pb.RotateJoinTokenReply:
        return pb.RotateJoinTokenReply(token=await self._submit(swarm.rotate_join_token))

    async def _list(
        self, listing: Listing[K], reply: type[R], field: str, context: Context
    ) -> None:
        leader, caller = self._leader(), current_caller()
        runner = leader.watches.runner
        keys = await runner.run(listing.found)

        def view(key: K) -> msgspec.Struct | None:
            return listing.view(key) if sees(caller, leader.state, str(key)) else None

        async for part in runner.each(parts(keys, view, reply, field, listing.work)):
            await context.write(part)

    def _node(self, node: Node) -> pb.NodeReply:
        leader = self._leader()
        view = views.node_view(leader.state, node, leader.controllers)
        return pb.NodeReply(node=to_proto(view, pb.NodeView()))


def _as_it_is(view: V) -> V:
    return view


def _seen_by(caller: Caller) -> lookup.Sees:
    """Whether the caller may see the object of an id."""
    return partial(sees, caller)


def _login(request: pb.CreateServiceRequest | pb.UpdateServiceRequest) -> RegistryLogin | None:
    given = request.HasField("registry_login")
    return read(RegistryLogin, request.registry_login) if given else None


def _service(service: Service, warnings: Sequence[str] = ()) -> pb.ServiceReply:
    shown = to_proto(SERVICE.shown(service), pb.ServiceReply().service)
    return pb.ServiceReply(service=shown, warnings=warnings)


def _network(network: Network) -> pb.NetworkReply:
    return pb.NetworkReply(network=to_proto(network, pb.NetworkReply().network))


@lru_cache(EVENTS_ENCODED)
def _event(event: Event) -> pb.Event:
    """Encoded once for all streams that follow."""
    return to_proto(event, pb.Event())


def _stats(part: stats.StatsPart) -> stats_pb2.StatsReply:
    reply = stats_pb2.StatsReply(node_name=part.node_name, warning=part.warning)
    for one in part.tasks:
        sample: Any = one.stats
        if sample is None:
            sample = stats_pb2.TaskStats(task_id=one.task_id)
        reply.tasks.add(
            name=one.name,
            node_name=one.node_name,
            stats=sample,
            container_id=one.container_id,
        )
    return reply


def _logs_reply(part: LogPart) -> pb.LogsReply:
    lines: Any = part.lines
    if isinstance(lines, LogLines):
        lines = dp.LogLines(**msgspec.structs.asdict(lines))
    return pb.LogsReply(
        warning=part.warning,
        sources=[to_proto(source, pb.LogSource()) for source in part.sources],
        source_of=part.source_of,
        lines=lines,
        of_service=part.of_service,
    )
