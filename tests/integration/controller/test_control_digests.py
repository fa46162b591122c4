"""The digest of a service's image is looked up through an agent, on creation and on update."""

import asyncio

import grpc
import pytest

from controller.api.images import digests
from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.api.v1 import dispatcher_pb2 as dp
from pyswarm_core.api.v1 import specs_pb2
from pyswarm_core.codec import to_proto
from pyswarm_core.ids import NodeId, ServiceId
from pyswarm_core.limits import RESOLVERS_ASKED
from pyswarm_core.specs import EndpointSpec, PortConfig
from tests.fixtures import build
from tests.fixtures.desk import Answer
from tests.integration.controller.conftest import Api
from tests.integration.controller.fleet import web
from tests.integration.controller.test_control_api import refused

OLD, NEW = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"
LOGIN = specs_pb2.RegistryLogin(registry="docker.io", username="ann", password="secret")


class Registry:
    """What agents are asked, and what they find."""

    def __init__(self, api: Api) -> None:
        self.digest = OLD
        self.ports = ["80/tcp", "53/udp", "8000-8001/tcp"]
        self.asked: list[dp.ImageResolve] = []
        self._api = api

    def reachable_from(self, *nodes: str) -> None:
        """These agents answer; the others say that it does not."""
        for node_id in ("n1", "n2", "n3"):
            self._api.desk.agents[NodeId(node_id)] = self._agent(works=node_id in nodes)

    def _agent(self, *, works: bool) -> Answer:
        def answer(request: dp.OpenTunnel) -> list[dp.TunnelFrame]:
            is_about_ports = request.HasField("image_ports")
            self.asked.append(request.image_ports if is_about_ports else request.image_resolve)
            if not works:
                error = dp.TunnelError(kind="RegistryUnavailable", message="no answer")
                return [dp.TunnelFrame(error=error)]
            if is_about_ports:
                return [dp.TunnelFrame(exposed_ports=dp.ExposedPorts(ports=self.ports))]
            report = dp.ImageReport(images=[dp.Image(digest=self.digest)])
            return [dp.TunnelFrame(image_report=report)]

        return answer


@pytest.fixture
def registry(api: Api) -> Registry:
    found = Registry(api)
    found.reachable_from("n1", "n2", "n3")
    return found


def creation(image: str = "web:1", **fields: object) -> pb.CreateServiceRequest:
    request = web(1)
    request.spec.task_template.container_spec.image = image
    request.MergeFrom(pb.CreateServiceRequest(query_registry=True, **fields))  # type: ignore[arg-type]
    return request


def image_of(reply: pb.ServiceReply) -> str:
    return reply.service.spec.task_template.container_spec.image


async def test_the_stored_image_has_its_tag_and_the_digest(api: Api, registry: Registry) -> None:
    reply = await api.stub.CreateService(creation())
    assert (image_of(reply), list(reply.warnings)) == (f"web:1@{OLD}", [])
    assert [one.reference for one in registry.asked] == ["docker.io/library/web:1"]
    stored = api.desk.state.services[ServiceId(reply.service.id)]
    assert stored.spec.task_template.container_spec.image == f"web:1@{OLD}"


async def test_no_digest_is_looked_up_without_query_registry_or_for_a_pinned_image(
    api: Api, registry: Registry
) -> None:
    request = creation()
    request.query_registry = False
    assert image_of(await api.stub.CreateService(request)) == "web:1"
    pinned = creation(f"web@{NEW}")
    pinned.spec.name = "pinned"
    assert image_of(await api.stub.CreateService(pinned)) == f"web@{NEW}"
    assert registry.asked == []


async def test_images_that_are_mounted_have_digests_too(api: Api, registry: Registry) -> None:
    request = creation()
    container = request.spec.task_template.container_spec
    container.mounts.add(type="image", source="tools:2", target="/tools")
    container.mounts.add(type="image", source=f"docs@{NEW}", target="/docs")
    container.mounts.add(type="volume", source="data", target="/data")
    reply = await api.stub.CreateService(request)
    found = reply.service.spec.task_template.container_spec.mounts
    assert [one.source for one in found] == [f"tools:2@{OLD}", f"docs@{NEW}", "data"]
    assert image_of(reply) == f"web:1@{OLD}"
    assert [one.reference.partition("/")[2] for one in registry.asked] == [
        "library/web:1",
        "library/tools:2",
    ]


async def test_an_update_to_the_same_tag_notices_that_it_moved(
    api: Api, registry: Registry
) -> None:
    service = (await api.stub.CreateService(creation())).service

    async def updated() -> pb.ServiceReply:
        request = pb.UpdateServiceRequest(ref=service.id, query_registry=True)
        current = (await api.stub.GetService(pb.RefRequest(ref=service.id))).service
        request.version.CopyFrom(current.version)
        request.spec.CopyFrom(current.spec)
        request.spec.task_template.container_spec.image = "web:1"
        return await api.stub.UpdateService(request)

    assert (await updated()).service.spec_version == 1
    registry.digest = NEW
    reply = await updated()
    assert (image_of(reply), reply.service.template_version) == (f"web:1@{NEW}", 2)


async def test_another_agent_is_asked_when_one_does_not_reach_the_registry(
    api: Api, registry: Registry
) -> None:
    registry.reachable_from("n2")
    assert image_of(await api.stub.CreateService(creation())) == f"web:1@{OLD}"
    assert 1 <= len(registry.asked) <= RESOLVERS_ASKED


async def test_without_any_answer_the_service_is_made_with_a_warning(
    api: Api, registry: Registry
) -> None:
    registry.reachable_from()
    reply = await api.stub.CreateService(creation())
    assert image_of(reply) == "web:1"
    (warning,) = reply.warnings
    assert warning.startswith(
        "image web:1 could not be accessed on a registry to record its digest"
    )
    assert "different nodes running different versions" in warning
    assert len(registry.asked) == RESOLVERS_ASKED


async def test_no_node_at_all_is_a_warning_too(api: Api) -> None:
    assert len((await api.stub.CreateService(creation())).warnings) == 1


async def test_a_silent_agent_holds_up_nobody_for_long(
    api: Api, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "PATIENCE_S", 0.01)
    monkeypatch.setattr(digests, "TIMEOUT_S", 0.2)
    asked: list[NodeId] = []
    ask = digests._ask

    def silent_first(leader: object, node_id: NodeId, *about: object) -> object:
        asked.append(node_id)
        if len(asked) == 1 or everybody:
            return asyncio.Event().wait()
        return ask(leader, node_id, *about)  # type: ignore[arg-type]

    everybody = False
    monkeypatch.setattr(digests, "_ask", silent_first)
    assert image_of(await api.stub.CreateService(creation())) == f"web:1@{OLD}"
    assert len(asked) == 2
    everybody = True
    request = creation()
    request.spec.name = "other"
    assert len((await api.stub.CreateService(request)).warnings) == 1
    assert len(asked) == 2 + RESOLVERS_ASKED


async def test_a_login_goes_to_its_own_registry_only(api: Api, registry: Registry) -> None:
    service = (await api.stub.CreateService(creation(registry_login=LOGIN))).service
    other = creation("registry.example:5000/web:1", registry_login=LOGIN)
    other.spec.name = "other"
    await api.stub.CreateService(other)
    update = pb.UpdateServiceRequest(ref=service.id, version=service.version, query_registry=True)
    update.spec.CopyFrom(service.spec)
    update.spec.task_template.container_spec.image = "web:2"
    await api.stub.UpdateService(update)
    shown = [(one.reference, one.username, one.password) for one in registry.asked]
    assert shown == [
        ("docker.io/library/web:1", "ann", "secret"),
        ("registry.example:5000/web:1", "", ""),
        ("docker.io/library/web:2", "ann", "secret"),  # the one that is stored
    ]


async def test_who_may_run_the_tasks_is_asked_first(api: Api, registry: Registry) -> None:
    request = creation()
    request.spec.task_template.placement.constraints.append("node.hostname==n3")
    spec = build.service("web", spec=build.template(constraints=["node.hostname==n3"])).spec
    from controller.api.images.targets import eligible_nodes

    assert eligible_nodes(api.desk.state, spec) == ["n3"]
    registry.reachable_from("n3")
    assert image_of(await api.stub.CreateService(request)) == f"web:1@{OLD}"
    assert len(registry.asked) == 1


async def test_the_ports_of_the_image_are_published_beside_those_of_the_spec(
    api: Api, registry: Registry
) -> None:
    request = creation(publish_all=True)
    given = PortConfig(target_port=80, published_port=8080)
    to_proto(EndpointSpec(ports=(given,)), request.spec.endpoint_spec)
    service = (await api.stub.CreateService(request)).service
    ports = {(one.target_port, one.protocol): one.published_port for one in service.endpoint.ports}
    assert list(ports) == [(80, "tcp"), (53, "udp"), (8000, "tcp"), (8001, "tcp")]
    assert ports[80, "tcp"] == 8080
    assert all(ports.values())
    assert [one.reference for one in registry.asked] == [
        "docker.io/library/web:1",
        f"docker.io/library/web:1@{OLD}",
    ]


async def test_an_image_without_ports_publishes_none(api: Api, registry: Registry) -> None:
    registry.ports = []
    request = creation(publish_all=True)
    request.query_registry = False
    assert not (await api.stub.CreateService(request)).service.endpoint.ports


@pytest.mark.parametrize(
    ("ports", "said"),
    [(["x/tcp"], 'image web:1: EXPOSE: value "x/tcp"'), (["1-65535/tcp"], "at most 1000")],
)
async def test_ports_that_are_not_valid_are_refused(
    ports: list[str], said: str, api: Api, registry: Registry
) -> None:
    registry.ports = ports
    request = creation(publish_all=True)
    request.query_registry = False
    told = await refused(api.stub.CreateService(request), grpc.StatusCode.INVALID_ARGUMENT)
    assert said in told


async def test_ports_that_nobody_knows_refuse_the_service(api: Api, registry: Registry) -> None:
    registry.reachable_from()
    request = creation(publish_all=True)
    request.query_registry = False
    told = await refused(api.stub.CreateService(request), grpc.StatusCode.UNAVAILABLE)
    assert told == (
        "--publish-all: the ports that image web:1 exposes are not known: no answer; use --publish"
        " PORT"
    )
    assert not api.desk.state.services
    assert len(registry.asked) == RESOLVERS_ASKED
