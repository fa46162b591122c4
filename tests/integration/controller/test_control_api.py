"""The users' API over real gRPC: what a CLI sees of success and of every refusal."""

import asyncio
import gc
from collections.abc import Awaitable

import grpc
import msgspec
import pytest

from controller.grpc.admission import STREAMS, Gate
from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.api.v1 import objects_pb2, specs_pb2
from pyswarm_core.api.v1.containers_pb2 import ListContainersReply, ListContainersRequest
from pyswarm_core.codec import from_proto, to_proto
from pyswarm_core.decision import Writes
from pyswarm_core.kinds import NODE, SERVICE
from pyswarm_core.objects import Network, Node, Service
from pyswarm_core.specs import ContainerMode, EndpointSpec, NetworkSpec, PortConfig
from pyswarm_core.states import Availability, TaskState
from tests.fixtures import build
from tests.fixtures.parts import whole
from tests.integration.controller.conftest import Api

replace = msgspec.structs.replace


def message(name: str, **changes: object) -> specs_pb2.ServiceSpec:
    spec = replace(build.service("x").spec, name=name, **changes)
    return to_proto(spec, specs_pb2.ServiceSpec())


async def create(api: Api, name: str, **changes: object) -> Service:
    reply = await api.stub.CreateService(pb.CreateServiceRequest(spec=message(name, **changes)))
    return from_proto(Service, reply.service)


async def refused(call: Awaitable[object], code: grpc.StatusCode) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is code, caught.value.details()
    details = caught.value.details() or ""
    assert "Traceback" not in details
    return details


async def test_a_created_service_can_be_got_listed_and_removed(api: Api) -> None:
    service = await create(api, "web")
    for ref in ("web", service.id, service.id[:8]):
        got = await api.stub.GetService(pb.RefRequest(ref=ref))
        assert from_proto(Service, got.service) == service
    listed = await whole(pb.ListServicesReply, api.stub.ListServices(pb.ListRequest()))
    assert [(s.service.spec.name, s.running, s.desired) for s in listed.services] == [("web", 0, 1)]
    removed = await api.stub.RemoveService(pb.RemoveServiceRequest(ref="web"))
    assert removed.service.removing
    assert not (await whole(pb.ListServicesReply, api.stub.ListServices(pb.ListRequest()))).services


async def test_a_registry_login_is_in_no_answer(api: Api) -> None:
    login = specs_pb2.RegistryLogin(registry="r.test", username="ann", password="right")
    request = pb.CreateServiceRequest(spec=message("web"), registry_login=login)
    made = await api.stub.CreateService(request)
    update = pb.UpdateServiceRequest(
        ref="web", version=made.service.version, spec=message("web", labels={"a": "1"})
    )
    update.registry_login.CopyFrom(login)
    changed = await api.stub.UpdateService(update)
    got = await api.stub.GetService(pb.RefRequest(ref="web"))
    listed = await whole(pb.ListServicesReply, api.stub.ListServices(pb.ListRequest()))
    removed = await api.stub.RemoveService(pb.RemoveServiceRequest(ref="web"))
    answers = (made, changed, got, listed, removed)
    assert not any(b"right" in answer.SerializeToString() for answer in answers)


async def test_a_service_is_updated_only_from_its_latest_version(api: Api) -> None:
    first = await create(api, "web")
    request = pb.UpdateServiceRequest(
        ref="web",
        version=objects_pb2.Version(index=first.version.index),
        spec=message("web", labels={"a": "1"}),
    )
    updated = await api.stub.UpdateService(request)
    assert updated.service.version.index == first.version.index + 1
    details = await refused(api.stub.UpdateService(request), grpc.StatusCode.ABORTED)
    assert "out of sequence" in details


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("web", grpc.StatusCode.ALREADY_EXISTS),
        ("-web", grpc.StatusCode.INVALID_ARGUMENT),
        ("web\0", grpc.StatusCode.INVALID_ARGUMENT),
        ("\x1b[31mred", grpc.StatusCode.INVALID_ARGUMENT),
        ("we\u202eb", grpc.StatusCode.INVALID_ARGUMENT),
        ("ẃeb", grpc.StatusCode.INVALID_ARGUMENT),
        ("w" * 64, grpc.StatusCode.INVALID_ARGUMENT),
        ("w" * 4_000_000, grpc.StatusCode.INVALID_ARGUMENT),
    ],
    ids=["taken", "dash", "nul", "escape", "direction", "accent", "long", "4MB"],
)
async def test_a_bad_name_is_refused_in_one_printable_line(
    api: Api, name: str, code: grpc.StatusCode
) -> None:
    await create(api, "web")
    request = pb.CreateServiceRequest(spec=message(name))
    details = await refused(api.stub.CreateService(request), code)
    assert details.isprintable()
    assert details.isascii()
    assert len(details) < 500
    assert len(api.desk.state.services) == 1


async def test_a_word_that_no_enum_has_is_named(api: Api) -> None:
    spec = message("web")
    spec.task_template.restart_policy.condition = "sometimes"
    request = pb.CreateServiceRequest(spec=spec)
    details = await refused(api.stub.CreateService(request), grpc.StatusCode.INVALID_ARGUMENT)
    assert "sometimes" in details


async def test_what_nobody_expected_shows_an_id_and_nothing_else(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    api.host_is_broken = True
    request = pb.CreateNetworkRequest()
    to_proto(NetworkSpec(name="app"), request.spec)
    details = await refused(api.stub.CreateNetwork(request), grpc.StatusCode.INTERNAL)
    assert "secret" not in details
    assert details.split()[2].rstrip(":") in caplog.text
    assert "a secret of the house" in caplog.text


async def test_a_controller_that_does_not_lead_names_the_one_that_does(api: Api) -> None:
    api.term.desk = None
    details = await refused(
        whole(pb.ListNodesReply, api.stub.ListNodes(pb.ListRequest())), grpc.StatusCode.UNAVAILABLE
    )
    assert "192.0.2.9:2377" in details


async def test_nodes_are_listed_updated_and_removed(api: Api) -> None:
    listed = await whole(pb.ListNodesReply, api.stub.ListNodes(pb.ListRequest()))
    assert [(n.node.id, n.leader) for n in listed.nodes] == [
        ("n1", True),
        ("n2", False),
        ("n3", False),
    ]
    node = from_proto(Node, listed.nodes[1].node)
    drained = replace(node.spec, availability=Availability.DRAIN)
    request = pb.UpdateNodeRequest(ref="n2", version=objects_pb2.Version(index=0))
    to_proto(drained, request.spec)
    reply = await api.stub.UpdateNode(request)
    assert reply.node.node.spec.availability == "drain"
    removal = pb.RemoveNodeRequest(ref="n2")
    assert "not down" in await refused(api.stub.RemoveNode(removal), grpc.StatusCode.ABORTED)
    await api.stub.RemoveNode(pb.RemoveNodeRequest(ref="n2", force=True))
    missing = await refused(api.stub.GetNode(pb.RefRequest(ref="n2")), grpc.StatusCode.NOT_FOUND)
    assert missing == 'no such node: "n2"'


async def test_networks_come_and_go_and_are_kept_while_used(api: Api) -> None:
    request = pb.CreateNetworkRequest()
    to_proto(NetworkSpec(name="app"), request.spec)
    network = from_proto(Network, (await api.stub.CreateNetwork(request)).network)
    assert (network.subnet, network.vni) == ("10.128.0.0/16", 4096)
    template = build.template(networks=["app"])
    app = pb.ObjectRequest(kind="network", ref="app")
    service = await create(api, "web", task_template=template)
    assert service.spec.task_template.networks[0].target == network.id
    used = await refused(api.stub.RemoveObject(app), grpc.StatusCode.ABORTED)
    assert '"web"' in used
    api.desk.put(Writes(removed=(SERVICE.object_name(service.id),)))
    await api.stub.RemoveObject(app)
    left = api.stub.ListObjects(pb.ListObjectsRequest(kind="network", filters=["type=custom"]))
    assert not (await whole(pb.ListObjectsReply, left)).objects


async def test_objects_of_any_kind_are_found_listed_and_removed(api: Api) -> None:
    login = specs_pb2.RegistryLogin(registry="docker.io", username="me", password="secret")
    request = pb.CreateServiceRequest(spec=message("web"), registry_login=login)
    made = (await api.stub.CreateService(request)).service
    web = pb.ObjectRequest(kind="service", ref="web")
    found = SERVICE.decode((await api.stub.GetObject(web)).value)
    assert (found.id, found.registry_login) == (made.id, None)
    assert api.desk.state.services[found.id].registry_login is not None
    nodes = api.stub.ListObjects(pb.ListObjectsRequest(kind="node", filters=["name=n2"]))
    (node,) = (await whole(pb.ListObjectsReply, nodes)).objects
    assert NODE.decode(node.value).description.hostname == "n2"
    await api.stub.RemoveObject(web)
    assert api.desk.state.services[found.id].removing
    living = api.stub.RemoveObject(pb.ObjectRequest(kind="node", ref="n2"))
    assert "not down" in await refused(living, grpc.StatusCode.ABORTED)
    odd = api.stub.GetObject(pb.ObjectRequest(kind="cluster", ref="x"))
    told = await refused(odd, grpc.StatusCode.INVALID_ARGUMENT)
    known = "config, network, node, secret, service, stack, user, volume"
    assert told == f'kind: value "cluster" is not valid: expected one of {known}'


async def test_tasks_are_listed_with_the_names_people_know(api: Api) -> None:
    service = await create(api, "web")
    task = replace(build.task("x.1", node="n2"), service_id=service.id)
    api.desk.put(Writes(tasks=[task]))
    reply = await whole(
        pb.ListTasksReply, api.stub.ListTasks(pb.ListTasksRequest(services=["web"]))
    )
    (view,) = reply.tasks
    assert (view.name, view.service_name, view.node_name, view.image) == (
        "web.1",
        "web",
        "n2",
        "busybox",
    )
    assert not view.HasField("spec")
    named = await whole(pb.ListTasksReply, api.stub.ListTasks(pb.ListTasksRequest(tasks=["web.1"])))
    assert named.tasks[0].spec.container_spec.image == "busybox"


async def test_containers_are_those_of_mode_container_and_tasks(api: Api) -> None:
    web, db = await create(api, "web"), await create(api, "db", mode=ContainerMode())
    task = replace(build.task("x.1", node="n2"), service_id=web.id)
    api.desk.put(Writes(tasks=[task]))
    every = ListContainersRequest(all=True)
    reply = await whole(ListContainersReply, api.stub.ListContainers(every))
    assert {one.id: one.name for one in reply.containers} == {
        db.id: "db",
        task.id: f"web.1.{task.id}",
    }
    running = await whole(
        ListContainersReply, api.stub.ListContainers(ListContainersRequest(filters=["node=n2"]))
    )
    assert [one.id for one in running.containers] == [task.id]
    got = await api.stub.GetContainer(pb.RefRequest(ref="web.1"))
    assert (got.service.id, got.task.name) == (str(web.id), "web.1")
    assert dict(got.networks) == {"bridge": "bridge"}
    assert not (await api.stub.GetContainer(pb.RefRequest(ref="db"))).HasField("task")
    told = await refused(
        api.stub.GetContainer(pb.RefRequest(ref="nothing")), grpc.StatusCode.NOT_FOUND
    )
    assert told == "No such container: nothing: `pyswarm ps --all` lists all containers"


async def test_why_takes_names_and_beginnings_of_ids(api: Api) -> None:
    service = await create(api, "web")
    for ref in ("web", service.id[:9]):
        reply = await api.stub.Why(pb.RefRequest(ref=ref))
        assert "service web" in reply.lines[0]
    await refused(api.stub.Why(pb.RefRequest(ref="db")), grpc.StatusCode.NOT_FOUND)


async def test_info_counts_the_fleet(api: Api) -> None:
    info = await api.stub.GetInfo(pb.GetInfoRequest())
    assert (info.nodes, info.nodes_ready, info.version, info.leader) == (
        3,
        3,
        "1.2.3",
        "192.0.2.1:2377",
    )


async def test_a_watch_ends_when_the_service_has_converged(api: Api) -> None:
    service = await create(api, "web")
    watch = api.stub.WatchService(pb.WatchServiceRequest(ref="web"))
    stream = watch.__aiter__()
    first = await anext(stream)
    assert (first.running, first.desired, first.converged) == (0, 1, False)
    waiting = replace(build.task("x.1", state=TaskState.PENDING), service_id=service.id, node_id="")
    api.desk.put(Writes(tasks=[waiting]))
    second = await anext(stream)
    assert [(slot.slot, TaskState(slot.state)) for slot in second.slots] == [(1, TaskState.PENDING)]
    running = replace(waiting, node_id="n1", state=TaskState.RUNNING)
    api.desk.put(Writes(tasks=[running]))
    rest = [progress async for progress in stream]
    assert (rest[-1].running, rest[-1].updated, rest[-1].converged) == (1, 1, True)


async def test_a_watch_ends_when_the_service_is_gone(api: Api) -> None:
    service = await create(api, "web")
    watch = api.stub.WatchService(pb.WatchServiceRequest(ref=service.id, follow=True))
    stream = watch.__aiter__()
    await anext(stream)
    api.desk.put(Writes(removed=(SERVICE.object_name(service.id),)))
    assert [progress.gone async for progress in stream][-1]


async def test_a_watch_tells_when_leadership_is_lost(api: Api) -> None:
    await create(api, "web")
    watch = api.stub.WatchService(pb.WatchServiceRequest(ref="web"))
    stream = watch.__aiter__()
    await anext(stream)
    api.term.desk = None
    api.desk.watches.close()
    async with asyncio.timeout(60):
        await refused(_drain(stream), grpc.StatusCode.UNAVAILABLE)


async def _drain(stream: object) -> None:
    async for _ in stream:  # type: ignore[attr-defined]
        pass


async def test_a_published_service_is_told_with_the_network_it_made(api: Api) -> None:
    endpoint = EndpointSpec(ports=(PortConfig(target_port=80), PortConfig(target_port=81)))
    service = await create(api, "web", endpoint_spec=endpoint)
    assert [port.published_port for port in service.endpoint.ports] == [30_000, 30_001]
    brief = await whole(pb.NetworkReply, api.stub.GetNetwork(pb.GetNetworkRequest(ref="ingress")))
    assert from_proto(Network, brief.network).spec.ingress
    assert not brief.services
    full = await whole(
        pb.NetworkReply, api.stub.GetNetwork(pb.GetNetworkRequest(ref="ingress", verbose=True))
    )
    (told,) = full.services
    assert (told.name, [port.published_port for port in told.ports]) == ("web", [30_000, 30_001])
    assert [peer.node_name for peer in full.peers] == [
        node.description.hostname for node in api.desk.state.nodes.values()
    ]
    taken = message("shop", endpoint_spec=EndpointSpec(ports=service.endpoint.ports))
    call = api.stub.CreateService(pb.CreateServiceRequest(spec=taken))
    told_why = await refused(call, grpc.StatusCode.ABORTED)
    assert 'port 30000/tcp is published by service "web"' in told_why


async def test_a_call_that_fails_leaves_nothing_to_the_garbage_collector(api: Api) -> None:
    calls = 50
    gc.collect()
    gc.disable()
    try:
        for number in range(calls):
            request = pb.RefRequest(ref=f"absent{number}")
            await refused(api.stub.GetService(request), grpc.StatusCode.NOT_FOUND)
        kept = sum(type(found).__name__ == "_ServicerContext" for found in gc.get_objects())
    finally:
        gc.enable()
    assert kept < calls / 5


async def test_a_caller_with_too_many_streams_is_told_the_limit_and_may_go_on_later(
    api: Api,
) -> None:
    limit = replace(STREAMS, per_caller=2)
    api.admission.streams = Gate(limit)
    await create(api, "web")
    watches = [
        api.stub.WatchService(pb.WatchServiceRequest(ref="web", follow=True)) for _ in range(2)
    ]
    for watch in watches:
        await watch.read()
    more = api.stub.Events(pb.EventsRequest(follow=True))
    details = await refused(_drain(more), grpc.StatusCode.RESOURCE_EXHAUSTED)
    assert "127.0.0.1 has 2 streams" in details
    assert "end some of them" in details
    await api.stub.GetInfo(pb.GetInfoRequest())  # requests count by themselves
    for watch in watches:
        watch.cancel()
    async with asyncio.timeout(60):
        while api.admission.streams.total:  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.01)
    assert [part async for part in api.stub.Events(pb.EventsRequest())] == []
