"""The API of users: gRPC's Control service. SHELL: message in, one pure function, message out.

Every call asks anew for the leader, so that one that lost its leadership answers Unavailable and
names its successor. Reads come from the state in memory; changes go through the leader's `submit`.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import msgspec
from google.protobuf.message import Message

from controller.leadership import Leader, Leadership, Mutation
from controller.requests import lookup, members, networks, nodes, queries, services, views
from controller.requests.slices import Slices
from controller.requests.unreadable import why_unreadable
from controller.servers import digests, events, images, logs, traces, watches
from controller.servers.calls import Context, in_turn, read
from controller.servers.pacing import parts
from controller.why import look_at_why
from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.api.v1 import control_pb2_grpc
from pyswarm_core.clock import Clock
from pyswarm_core.codec import to_proto
from pyswarm_core.objects import Network, Node, Service, Version
from pyswarm_core.specs import NetworkSpec, NodeSpec, RegistryLogin, ServiceSpec

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")
R = TypeVar("R", bound=Message)


class Facts(msgspec.Struct, frozen=True):
    """What `info` tells of this controller."""

    version: str
    store: str
    """What keeps the state: `etcd 3.4.23 at …`, `memory`."""
    join_addr: str
    """Where agents dial: `host:port`."""


class Control(control_pb2_grpc.ControlServicer):
    """Serves users. `routes` tells the host's routes, which no network's subnet may overlap."""

    def __init__(
        self,
        leadership: Leadership,
        clock: Clock,
        facts: Facts,
        routes: Callable[[], Sequence[str]],
    ) -> None:
        self._leadership = leadership
        self._clock = clock
        self._facts = facts
        self._routes = routes

    async def GetInfo(self, request: pb.GetInfoRequest, context: Context) -> pb.GetInfoReply:
        leader = self._leader()
        reply = pb.GetInfoReply(
            controller=self._leadership.controller,
            leader=self._leadership.leader,
            revision=leader.revision,
            nodes_held=leader.silence.nodes_held,
            down_per_minute=leader.silence.down_per_minute,
            nodes_filtered=leader.silence.nodes_filtered,
            **msgspec.to_builtins(self._facts),
        )
        return to_proto(views.info(leader.state), reply)

    # Services

    async def CreateService(
        self, request: pb.CreateServiceRequest, context: Context
    ) -> pb.ServiceReply:
        spec, login = read(ServiceSpec, request.spec), _login(request)
        warnings: tuple[str, ...] = ()
        if request.query_registry:
            spec, warnings = await digests.pinned(self._leader(), spec, login)
        routes = self._routes()
        service = await self._submit(
            lambda state, now, ids: services.create_service(
                state, spec, routes, now, ids, login=login
            )
        )
        return _service(service, warnings)

    async def UpdateService(
        self, request: pb.UpdateServiceRequest, context: Context
    ) -> pb.ServiceReply:
        spec, based_on = read(ServiceSpec, request.spec), read(Version, request.version)
        login = _login(request)
        warnings: tuple[str, ...] = ()
        if request.query_registry:
            leader = self._leader()
            known = login or lookup.find_service(leader.state, request.ref).registry_login
            spec, warnings = await digests.pinned(leader, spec, known)
        update = services.Update(request.ref, based_on, spec, login)
        routes = self._routes()
        service = await self._submit(
            lambda state, now, ids: services.update_service(state, update, routes, now, ids)
        )
        return _service(service, warnings)

    async def RemoveService(self, request: pb.RefRequest, context: Context) -> pb.ServiceReply:
        return _service(
            await self._submit(
                lambda state, now, ids: services.remove_service(state, request.ref, now)
            )
        )

    async def GetService(self, request: pb.RefRequest, context: Context) -> pb.ServiceReply:
        return _service(lookup.find_service(self._leader().state, request.ref))

    async def ListServices(self, request: pb.ListRequest, context: Context) -> None:  # type: ignore[override]
        leader = self._leader()
        held = leader.quarantine.ids()
        found = queries.find_services(leader.state, request.filters)
        view = partial(views.listed_service, leader.state, quarantined=held)
        await self._list(found, view, pb.ListServicesReply, "services", context)

    async def WatchService(self, request: pb.WatchServiceRequest, context: Context) -> None:  # type: ignore[override]
        await watches.watch_service(self._leadership, request, context.write)

    # Tasks

    async def ListTasks(self, request: pb.ListTasksRequest, context: Context) -> None:  # type: ignore[override]
        state = self._leader().state
        query = queries.TaskQuery(
            services=tuple(request.services),
            nodes=tuple(request.nodes),
            tasks=tuple(request.tasks),
            filters=tuple(request.filters),
        )
        view = partial(views.listed_task, state, with_spec=bool(query.tasks))
        found = queries.find_tasks(state, query)
        await self._list(found, view, pb.ListTasksReply, "tasks", context)

    async def Why(self, request: pb.RefRequest, context: Context) -> pb.WhyReply:
        leader = self._leader()
        if lines := why_unreadable(leader.state, request.ref):
            return pb.WhyReply(lines=lines)
        turns, state, now = leader.watches.turns, leader.state, self._clock.now()
        named = await turns.run(lookup.find_service_or_task(state, request.ref))
        lines = await turns.run(look_at_why(state, named.id, now, leader.quarantine))
        return pb.WhyReply(lines=lines)

    # Nodes

    async def GetNode(self, request: pb.RefRequest, context: Context) -> pb.NodeReply:
        return self._node(lookup.find_node(self._leader().state, request.ref))

    async def ListNodes(self, request: pb.ListRequest, context: Context) -> None:  # type: ignore[override]
        leader = self._leader()
        found = queries.find_nodes(leader.state, request.filters)
        view = partial(views.listed_node, leader.state, controllers=leader.controllers)
        await self._list(found, view, pb.ListNodesReply, "nodes", context)

    async def UpdateNode(self, request: pb.UpdateNodeRequest, context: Context) -> pb.NodeReply:
        spec, based_on = read(NodeSpec, request.spec), read(Version, request.version)
        controllers = self._leader().controllers
        return self._node(
            await self._submit(
                lambda state, now, ids: nodes.update_node(
                    state, request.ref, based_on, spec, now, controllers=controllers
                )
            )
        )

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
        turns, state = leader.watches.turns, leader.state
        network = lookup.find_network(state, request.ref)
        await context.write(_network(network))
        if not request.verbose:
            return
        for service_id in await turns.run(members.services_on(state, network.id)):
            shown = members.network_service(state, network.id, service_id)
            async for part in turns.each(parts(shown, _as_it_is, pb.NetworkReply, "services")):
                await context.write(part)
        peers = members.network_peers(state, network.id, leader.acknowledged)
        async for part in turns.each(parts(peers, _as_it_is, pb.NetworkReply, "peers")):
            await context.write(part)

    async def ListNetworks(self, request: pb.ListRequest, context: Context) -> None:  # type: ignore[override]
        state = self._leader().state
        found = queries.find_networks(state, request.filters)
        await self._list(found, state.networks.get, pb.ListNetworksReply, "networks", context)

    async def RemoveNetwork(self, request: pb.RefRequest, context: Context) -> pb.NetworkReply:
        return _network(
            await self._submit(lambda state, now, ids: networks.remove_network(state, request.ref))
        )

    async def TraceNetwork(
        self, request: pb.TraceNetworkRequest, context: Context
    ) -> pb.TraceNetworkReply:
        return await traces.trace(self._leader(), request)

    # Streams and what agents are asked

    async def Events(self, request: pb.EventsRequest, context: Context) -> None:  # type: ignore[override]
        await events.tell_events(self._leadership, request, self._clock, context.write)

    async def Logs(self, request: pb.LogsRequest, context: Context) -> None:  # type: ignore[override]
        await logs.send_logs(self._leadership, request, in_turn(context.write))

    async def PullImage(self, request: pb.PullImageRequest, context: Context) -> None:  # type: ignore[override]
        await images.pull_image(self._leader(), request, in_turn(context.write))

    async def ListImages(self, request: pb.ListRequest, context: Context) -> None:  # type: ignore[override]
        await images.list_images(self._leader(), request.filters, in_turn(context.write))

    async def RemoveImage(self, request: pb.RefRequest, context: Context) -> pb.ListImagesReply:
        return await images.remove_image(self._leader(), request.ref)

    def _leader(self) -> Leader:
        return self._leadership.current()

    async def _list(
        self,
        found: Slices[list[K]],
        view: Callable[[K], msgspec.Struct | None],
        reply: type[R],
        field: str,
        context: Context,
    ) -> None:
        leader = self._leader()
        turns, work = leader.watches.turns, partial(views.work, leader.state)
        keys = await turns.run(found)
        async for part in turns.each(parts(keys, view, reply, field, work)):
            await context.write(part)

    async def _submit(self, mutation: Mutation[T]) -> T:
        return await self._leader().submit(mutation)

    def _node(self, node: Node) -> pb.NodeReply:
        leader = self._leader()
        view = views.node_view(leader.state, node, leader.controllers)
        return pb.NodeReply(node=to_proto(view, pb.NodeView()))


def _as_it_is(view: V) -> V:
    return view


def _login(request: pb.CreateServiceRequest | pb.UpdateServiceRequest) -> RegistryLogin | None:
    given = request.HasField("registry_login")
    return read(RegistryLogin, request.registry_login) if given else None


def _service(service: Service, warnings: Sequence[str] = ()) -> pb.ServiceReply:
    shown = to_proto(views.shown(service), pb.ServiceReply().service)
    return pb.ServiceReply(service=shown, warnings=warnings)


def _network(network: Network) -> pb.NetworkReply:
    return pb.NetworkReply(network=to_proto(network, pb.NetworkReply().network))
