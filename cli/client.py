"""The controller's API as calls over values. SHELL.

Errors are those of `cli/calls/connection.py`.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Self

from cli.calls.connection import Connection
from cli.calls.parts import whole
from pyswarm_core import views
from pyswarm_core.api.v1 import audit_pb2, dispatcher_pb2, stats_pb2
from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.api.v1.dispatcher_pb2_grpc import DispatcherStub
from pyswarm_core.codec import from_proto, to_proto
from pyswarm_core.identity.audit import AuditRecord
from pyswarm_core.identity.users import User, UserSpec, UserToken
from pyswarm_core.kinds import VOLUME, Id, Item, Kind
from pyswarm_core.objects import Network, Node, Service, Version
from pyswarm_core.specs import ClusterSpec, NetworkSpec, NodeSpec, RegistryLogin, ServiceSpec
from pyswarm_core.traces import Hop
from pyswarm_core.volumes.volume import Volume, VolumeSpec


class Client(Connection):
    """The calls of a fleet's controller."""

    @classmethod
    def over(cls, connection: Connection) -> Self:
        """The calls over a connection that exists."""
        client = cls(connection.context)
        vars(client).update(vars(connection))
        return client

    def info(self) -> views.Info:
        """Counts and settings of the fleet."""
        return from_proto(views.Info, self._ask(self._stub.GetInfo, pb.GetInfoRequest()))

    def scrape_token(self, *, rotate: bool = False) -> str:
        """The token that callers of metrics show; a new one with `rotate`."""
        return self._ask(self._stub.GetScrapeToken, pb.GetScrapeTokenRequest(rotate=rotate)).token

    def join_token(self) -> str:
        """The token with which hosts join as workers."""
        return str(self._ask(self._stub.GetJoinToken, pb.GetJoinTokenRequest()).token)

    def leave(self) -> int:
        """Drain the caller's node; returns how many of its tasks have not ended."""
        return self._ask(DispatcherStub(self._channel).Leave, dispatcher_pb2.LeaveRequest()).tasks

    def update_cluster(self, version: Version, spec: ClusterSpec) -> views.UpdatedCluster:
        """Replace the fleet's settings. Raises Conflict if they are not at `version` any more."""
        request = pb.UpdateClusterRequest()
        to_proto(version, request.version)
        to_proto(spec, request.spec)
        return from_proto(views.UpdatedCluster, self._ask(self._stub.UpdateCluster, request))

    def unlock_key(self, *, rotate: bool) -> str:
        """The unlock key, or a new one. Raises Conflict if autolock is off."""
        return self._ask(self._stub.GetUnlockKey, pb.GetUnlockKeyRequest(rotate=rotate)).unlock_key

    def unlock(self, key: str) -> None:
        """Unlock the controller. Raises InvalidArgument for another key."""
        self._ask(self._stub.Unlock, pb.UnlockRequest(unlock_key=key))

    def create_service(
        self,
        spec: ServiceSpec,
        login: RegistryLogin | None = None,
        *,
        query_registry: bool = False,
        publish_all: bool = False,
    ) -> tuple[Service, Sequence[str]]:
        """Create a service; return it with the controller's warnings. Without a name it gets a
        random one.

        With `query_registry` the controller looks up and stores the image's digest, with
        `publish_all` it publishes the ports that the image exposes.
        """
        request = pb.CreateServiceRequest(query_registry=query_registry, publish_all=publish_all)
        to_proto(spec, request.spec)
        if login is not None:
            to_proto(login, request.registry_login)
        reply = self._ask(self._stub.CreateService, request)
        return from_proto(Service, reply.service), reply.warnings

    def update_service(
        self,
        service: Service,
        spec: ServiceSpec,
        login: RegistryLogin | None = None,
        *,
        query_registry: bool = False,
    ) -> tuple[Service, Sequence[str]]:
        """Replace the spec of `service`. Raises Conflict if it has changed since it was read.

        Without a login the service keeps its current one. The rest is as in `create_service`.
        """
        request = pb.UpdateServiceRequest(ref=service.id, query_registry=query_registry)
        request.version.index = service.version.index
        to_proto(spec, request.spec)
        if login is not None:
            to_proto(login, request.registry_login)
        reply = self._ask(self._stub.UpdateService, request)
        return from_proto(Service, reply.service), reply.warnings

    def rollback_service(self, service: Service, to: int = 0) -> Service:
        """Return to the spec of version `to`, or to the previous one (0).

        Raises Conflict if the service has changed since it was read, NotFound if there is no such
        spec.
        """
        request = pb.RollbackServiceRequest(ref=service.id, to=to)
        request.version.index = service.version.index
        return from_proto(Service, self._ask(self._stub.RollbackService, request).service)

    def remove_service(self, ref: str, *, volumes: bool = False) -> Service:
        """Start the removal of a service; of a container, also of its anonymous `volumes`."""
        request = pb.RemoveServiceRequest(ref=ref, volumes=volumes)
        return from_proto(Service, self._ask(self._stub.RemoveService, request).service)

    def service(self, ref: str) -> Service:
        """The service of that name, id or id prefix."""
        return from_proto(Service, self._ask(self._stub.GetService, pb.RefRequest(ref=ref)).service)

    def services(self, filters: Iterable[str] = ()) -> list[views.ServiceSummary]:
        """The services that pass the filters."""
        request = pb.ListRequest(filters=filters)
        reply = self._ask(whole(self._stub.ListServices, pb.ListServicesReply), request)
        return [from_proto(views.ServiceSummary, service) for service in reply.services]

    def watch_service(self, ref: str, *, follow: bool = False) -> Iterator[views.ServiceProgress]:
        """The service's progress, now and at every change, until it has converged or is removed."""
        request = pb.WatchServiceRequest(ref=ref, follow=follow)
        return self._stream(views.ServiceProgress, self._stub.WatchService, request)

    def tasks(
        self,
        *,
        services: Sequence[str] = (),
        nodes: Sequence[str] = (),
        tasks: Sequence[str] = (),
        filters: Iterable[str] = (),
    ) -> list[views.TaskView]:
        """The tasks of these services and nodes, or with these ids."""
        request = pb.ListTasksRequest(services=services, nodes=nodes, tasks=tasks, filters=filters)
        reply = self._ask(whole(self._stub.ListTasks, pb.ListTasksReply), request)
        return [from_proto(views.TaskView, task) for task in reply.tasks]

    def task_checks(self, ref: str) -> list[views.TaskCheck]:
        """The checks of a task with their last results, as its agent has them."""
        reply = self._ask(self._stub.TaskChecks, pb.RefRequest(ref=ref))
        return [from_proto(views.TaskCheck, check) for check in reply.checks]

    def signal_task(self, ref: str, signal: str = "", *, stop: bool = False) -> None:
        """Send a signal to a task's process, or stop it. Raises Conflict if it does not run."""
        self._ask(self._stub.SignalTask, pb.SignalTaskRequest(ref=ref, signal=signal, stop=stop))

    def restart_task(self, ref: str) -> views.TaskView:
        """Shut a task down and fill its slot at once; returns the task that is shut down."""
        reply = self._ask(self._stub.RestartTask, pb.RefRequest(ref=ref))
        return from_proto(views.TaskView, reply)

    def why(self, ref: str) -> list[str]:
        """The explanation of a task's or service's state, in lines."""
        return list(self._ask(self._stub.Why, pb.RefRequest(ref=ref)).lines)

    def node(self, ref: str) -> views.NodeView:
        """The node of that name, id or id prefix."""
        reply = self._ask(self._stub.GetNode, pb.RefRequest(ref=ref))
        return from_proto(views.NodeView, reply.node)

    def nodes(self, filters: Iterable[str] = ()) -> list[views.NodeView]:
        """The nodes that pass the filters."""
        request = pb.ListRequest(filters=filters)
        reply = self._ask(whole(self._stub.ListNodes, pb.ListNodesReply), request)
        return [from_proto(views.NodeView, node) for node in reply.nodes]

    def update_node(self, node: Node, spec: NodeSpec) -> Sequence[str]:
        """Replace the spec of `node`; return warnings. Raises Conflict if it has changed since it
        was read."""
        request = pb.UpdateNodeRequest(ref=node.id)
        request.version.index = node.version.index
        to_proto(spec, request.spec)
        return tuple(self._ask(self._stub.UpdateNode, request).warnings)

    def remove_node(self, ref: str, *, force: bool) -> None:
        """Remove a node. Raises Conflict if it is not down and `force` is not set."""
        self._ask(self._stub.RemoveNode, pb.RemoveNodeRequest(ref=ref, force=force))

    def create_network(self, spec: NetworkSpec) -> Network:
        """Create a network."""
        request = pb.CreateNetworkRequest()
        to_proto(spec, request.spec)
        return from_proto(Network, self._ask(self._stub.CreateNetwork, request).network)

    def network(self, ref: str) -> Network:
        """The network of that name, id or id prefix."""
        return self.network_members(ref, verbose=False).network

    def network_members(self, ref: str, *, verbose: bool = True) -> views.NetworkMembers:
        """The network, and with `verbose` its services, tasks and nodes."""
        request = pb.GetNetworkRequest(ref=ref, verbose=verbose)
        reply = self._ask(whole(self._stub.GetNetwork, pb.NetworkReply), request)
        services: dict[str, pb.NetworkService] = {}
        for part in reply.services:  # a service with many tasks is split over several parts
            if (service := services.get(part.name)) is not None:
                service.tasks.extend(part.tasks)
            else:
                services[part.name] = part
        members = pb.NetworkReply(network=reply.network, services=services.values())
        members.peers.extend(reply.peers)
        return from_proto(views.NetworkMembers, members)

    def create_volume(self, spec: VolumeSpec) -> Volume:
        """Create a volume; one of the same name, driver and options is returned as it is."""
        request = pb.CreateVolumeRequest()
        to_proto(spec, request.spec)
        return VOLUME.decode(self._ask(self._stub.CreateVolume, request).value)

    def objects(self, kind: Kind[Item, Id], filters: Iterable[str] = ()) -> list[Item]:
        """The objects of a kind that pass the filters."""
        request = pb.ListObjectsRequest(kind=kind.name, filters=filters)
        reply = self._ask(whole(self._stub.ListObjects, pb.ListObjectsReply), request)
        return [kind.decode(item.value) for item in reply.objects]

    def object(self, kind: Kind[Item, Id], ref: str) -> Item:
        """The object of a kind with that name, id or id prefix."""
        request = pb.ObjectRequest(kind=kind.name, ref=ref)
        return kind.decode(self._ask(self._stub.GetObject, request).value)

    def remove_object(self, kind: Kind[Item, Id], ref: str) -> None:
        """Remove an object. Raises Conflict if it is in use."""
        self._ask(self._stub.RemoveObject, pb.ObjectRequest(kind=kind.name, ref=ref))

    def create_user(self, spec: UserSpec) -> User:
        """Create a user."""
        request = pb.CreateUserRequest()
        to_proto(spec, request.spec)
        return from_proto(User, self._ask(self._stub.CreateUser, request).user)

    def update_user(self, user: User, spec: UserSpec) -> User:
        """Replace the spec of `user`. Raises Conflict if it has changed since it was read."""
        request = pb.UpdateUserRequest(ref=user.id)
        request.version.index = user.version.index
        to_proto(spec, request.spec)
        return from_proto(User, self._ask(self._stub.UpdateUser, request).user)

    def create_user_token(self, ref: str, lifetime: int, description: str) -> views.NewToken:
        """A new token of a user; a lifetime of 0 nanoseconds: it does not expire."""
        request = pb.CreateUserTokenRequest(ref=ref, lifetime=lifetime, description=description)
        return from_proto(views.NewToken, self._ask(self._stub.CreateUserToken, request))

    def user_tokens(self, ref: str) -> list[UserToken]:
        """The tokens of a user, without their hashes."""
        reply = self._ask(self._stub.ListUserTokens, pb.RefRequest(ref=ref))
        return [from_proto(UserToken, token) for token in reply.tokens]

    def remove_user_token(self, ref: str, token: str) -> None:
        """Remove a token of a user by its id, or the beginning of it."""
        self._ask(self._stub.RemoveUserToken, pb.RemoveUserTokenRequest(ref=ref, token=token))

    def issue_user_certificate(self, ref: str, csr: str) -> views.UserCertificate:
        """A certificate of a user for the key of a signing request, PEM."""
        request = pb.IssueUserCertificateRequest(ref=ref, csr=csr)
        reply = self._ask(self._stub.IssueUserCertificate, request)
        return from_proto(views.UserCertificate, reply)

    def trace_network(self, source: str, target: str, port: int, *, udp: bool) -> list[Hop]:
        """The hops from a task to `target`, up to the first broken one."""
        request = pb.TraceNetworkRequest(source=source, target=target, port=port, udp=udp)
        reply = self._ask(self._stub.TraceNetwork, request)
        return [from_proto(Hop, hop) for hop in reply.hops]

    def events(self, query: views.EventQuery) -> Iterator[views.Event]:
        """The events that were asked for."""
        request = to_proto(query, pb.EventsRequest())
        for part in self._stream(views.Events, self._stub.Events, request):
            yield from part.events

    def audit(
        self,
        *,
        since: int = 0,
        until: int = 0,
        users: Iterable[str] = (),
        objects: Iterable[str] = (),
        follow: bool = False,
    ) -> Iterator[AuditRecord]:
        """Audit records between two instants (0: no bound); with `follow` also those to come."""
        request = audit_pb2.ListAuditRequest(
            since=since, until=until, users=users, objects=objects, follow=follow
        )
        for part in self._stream(views.AuditRecords, self._stub.ListAudit, request):
            yield from part.records

    def logs(self, query: views.LogsQuery) -> Iterator[views.Logs]:
        """The logs of a service or task. The first part only says which of them it is."""
        return self._stream(views.Logs, self._stub.Logs, to_proto(query, pb.LogsRequest()))

    def stats(self, refs: Sequence[str], *, all: bool, follow: bool) -> Iterator[views.StatsPart]:
        """Samples of the containers of these services and tasks (none: all), node by node."""
        request = stats_pb2.StatsRequest(refs=refs, all=all, follow=follow)
        return self._stream(views.StatsPart, self._stub.Stats, request)

    def ca(self) -> views.Ca:
        """The newest root certificate of the fleet, and how far its rotation is."""
        return from_proto(views.Ca, self._ask(self._stub.GetCa, pb.GetCaRequest()))

    def rotate_ca(self) -> views.Ca:
        """Begin a rotation of the CA. Raises Conflict during another one."""
        return from_proto(views.Ca, self._ask(self._stub.RotateCa, pb.RotateCaRequest()))

    def rotate_join_token(self) -> str:
        """Replace the join token; returns the new one."""
        return self._ask(self._stub.RotateJoinToken, pb.RotateJoinTokenRequest()).token
