"""Who may do what with the fleet's registry, through the controller, with real tools."""

import asyncio
import http.client
import json
import os
import socket
from base64 import b64encode
from typing import Any

import pytest

from cli.image.shared import has_other_tag
from cli.registry.opening import Answer, Endpoint
from controller.api.registry.serving import Access, Link, serve_registry
from controller.identity.caller import ROOT
from controller.registry import gate
from pyswarm_core.docker.reference import parse_reference
from pyswarm_core.errors import InvalidArgument, PermissionDenied
from pyswarm_core.identity.users import STACK_LABEL, Role
from pyswarm_core.ids import ServiceId
from pyswarm_core.objects import PreviousSpec, Service
from pyswarm_core.specs import ContainerSpec, ServiceSpec, TaskSpec
from pyswarm_core.streams.frames import Connect, Data, Frame, Window
from tests.integration.registry.conftest import Rig, needing

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI = {"Accept": MANIFEST}


def service(rig: Rig, name: str, image: str, stack: str = "", earlier: str = "") -> Service:
    def spec(image: str) -> ServiceSpec:
        template = TaskSpec(container_spec=ContainerSpec(image=image))
        labels = {STACK_LABEL: stack} if stack else {}
        return ServiceSpec(name=name, labels=labels, task_template=template)

    (identity,) = rig.fleet.ids.draw(1)
    before = (PreviousSpec(version=1, spec=spec(earlier)),) if earlier else ()
    return Service(id=ServiceId(identity), spec=spec(image), previous_specs=before)


def message(answer: Answer) -> str:
    return str(json.loads(answer.content)["errors"][0]["message"])


def head(endpoint: Endpoint, path: str) -> Answer:
    return endpoint.ask("HEAD", f"/v2/{path}", {"Accept": MANIFEST})


async def records(rig: Rig, count: int) -> list[tuple[str, str, str, str]]:
    """The records about images, once there are so many."""
    assert rig.fleet.loop is not None
    async with asyncio.timeout(60):
        while True:
            found = (one for page in rig.fleet.loop.audit.log.kept() for one in page)
            kept = [
                (one.caller, one.verb, one.object_name, one.result)
                for one in found
                if one.verb.startswith("image ")
            ]
            if len(kept) >= count:
                return kept
            await asyncio.sleep(0.05)


async def test_an_operator_pushes_and_everybody_reads(rig: Rig) -> None:
    client = await rig.client("ops", Role.OPERATOR)
    digest = await rig.push(client, "registry.example:5000/team/web:1")
    viewer = await rig.client("ann", Role.VIEWER)
    path = "registry.example__5000/team/web/manifests/1"
    found = await rig.with_registry(viewer, lambda e: head(e, path), write=False)
    assert (found.status, found.headers["docker-content-digest"]) == (200, digest)


async def test_a_viewer_pushes_nothing(rig: Rig) -> None:
    client = await rig.client("ann", Role.VIEWER)
    with pytest.raises(PermissionDenied, match="needs the role operator"):
        await rig.with_registry(client, lambda e: None, write=True)

    def attempts(endpoint: Endpoint) -> list[int]:
        path = "/v2/docker.io/library/web"
        return [
            endpoint.ask("POST", f"{path}/blobs/uploads/").status,
            endpoint.ask("PUT", f"{path}/manifests/1", {"Content-Type": MANIFEST}, b"{}").status,
            endpoint.ask("DELETE", f"{path}/manifests/1").status,
            endpoint.ask("GET", f"{path}/tags/list", {}, b"PUT /v2/x/manifests/1 HTTP/1.1").status,
            endpoint.ask("GET", f"{path}/tags/list").status,
        ]

    found = await rig.with_registry(client, attempts, write=False)
    assert found == [405, 405, 405, 400, 404]


async def test_a_user_of_a_stack_moves_no_name_of_another_stack(rig: Rig) -> None:
    await rig.fleet.put(
        service(rig, "shop", "shop:1", "shop"),
        service(rig, "db", "db:1", "shop"),
        service(rig, "web", "web:1", "web"),
        service(rig, "own", "shop:2", "web"),
    )
    client = await rig.client("ci", Role.OPERATOR, "web")
    await rig.push(client, "web:1")
    await rig.push(client, "shop:2")
    with pytest.raises(AssertionError, match="a service of another stack uses that name"):
        await rig.push(client, "shop:1")
    with pytest.raises(AssertionError, match="services of other stacks use that repository"):
        await rig.push(client, "db:2")
    denied = (
        'user "ci" (operator, limited to stack web) may not push "shop:1": a service of another'
    )
    found = await records(rig, 4)
    assert [one[:3] for one in found] == [
        ("ci", "image push", "web:1"),
        ("ci", "image push", "shop:2"),
        ("ci", "image push", "docker.io/library/shop:1"),
        ("ci", "image push", "docker.io/library/db"),
    ]
    assert found[-2][3].startswith(denied)


async def test_what_a_service_needs_is_not_removed(rig: Rig) -> None:
    client = await rig.client("ops", Role.OPERATOR)
    used = await rig.push(client, "web:1", b"one")
    earlier = await rig.push(client, "web:0", b"zero")
    free = await rig.push(client, "web:2", b"two")
    await rig.fleet.put(service(rig, "web", f"web:1@{used}", earlier=f"web:0@{earlier}"))

    def removals(endpoint: Endpoint) -> list[Answer]:
        path = "/v2/docker.io/library/web/manifests/"
        return [endpoint.ask("DELETE", path + which) for which in (used, earlier, free)]

    found = await rig.with_registry(client, removals)
    assert [one.status for one in found] == [409, 409, 202]
    assert message(found[0]).endswith('cannot be removed: service "web" uses it')
    assert message(found[1]).endswith('service "web" may roll back to it')


async def test_one_of_two_tags_is_removed(rig: Rig) -> None:
    client = await rig.client("ops", Role.OPERATOR)
    await rig.push(client, "web:1")
    await rig.push(client, "web:2")

    def removals(endpoint: Endpoint) -> list[int]:
        path = "docker.io/library/web/manifests/"
        return [
            endpoint.ask("DELETE", f"/v2/{path}1").status,
            head(endpoint, f"{path}1").status,
            head(endpoint, f"{path}2").status,
            endpoint.ask("DELETE", f"/v2/{path}1").status,
        ]

    assert await rig.with_registry(client, removals) == [202, 404, 200, 404]
    assert ("ops", "image rm", "web:1", "ok") in await records(rig, 3)


async def test_a_tag_is_the_last_one_of_its_image_or_not(rig: Rig) -> None:
    """rmi of one of several tags leaves the nodes' images, which they have by the digest."""
    client = await rig.client("ops", Role.OPERATOR)
    digest = await rig.push(client, "web:1")
    await rig.push(client, "other:1")
    web = parse_reference("web:1")

    assert not await asyncio.to_thread(has_other_tag, client, web, digest)
    await rig.push(client, "web:0", b"another")
    assert not await asyncio.to_thread(has_other_tag, client, web, digest)
    await rig.push(client, "web:2")
    assert await asyncio.to_thread(has_other_tag, client, web, digest)


async def test_a_digest_that_tags_of_a_service_name_stays(rig: Rig) -> None:
    client = await rig.client("ops", Role.OPERATOR)
    digest = await rig.push(client, "web:1")
    await rig.fleet.put(service(rig, "web", "web:1"))
    path = f"/v2/docker.io/library/web/manifests/{digest}"
    found = await rig.with_registry(client, lambda endpoint: endpoint.ask("DELETE", path))
    assert found.status == 409
    assert message(found).endswith('cannot be removed: service "web" uses it')


async def test_other_users_of_the_host_need_the_password(rig: Rig) -> None:
    client = await rig.client("ops", Role.OPERATOR)

    def strange(endpoint: Endpoint) -> list[int]:
        found = []
        for header in ({}, {"Authorization": "Basic cHlzd2FybTp4"}, {"Authorization": "Bearer x"}):
            connection = http.client.HTTPConnection(endpoint.address)
            connection.request("GET", "/v2/", headers=header)
            found.append(connection.getresponse().status)
            connection.close()
        return found

    assert await rig.with_registry(client, strange) == [401, 401, 401]


async def test_a_password_that_others_might_guess_is_refused(rig: Rig) -> None:
    async def send(frame: Frame) -> None:
        raise AssertionError(frame)

    async def receive() -> Frame | None:
        return None

    for password, expected in (("x" * 15, "at least 16 characters"), ("", "at least 16")):
        access = Access(ROOT, password, writes=True)
        with pytest.raises(InvalidArgument, match=expected):
            await serve_registry(rig.fleet, rig.registry, access, Link(send, receive))


async def test_what_is_no_http_is_answered_and_ends(rig: Rig) -> None:
    client = await rig.client("ops", Role.OPERATOR)

    def strange(endpoint: Endpoint) -> list[bytes]:
        host, port = endpoint.address.split(":")
        found = []
        for sent in (b"\x16\x03\x01\x02\x00", b"PUT /v2/ HTTP/1.1\r\nA: " + b"a" * 200_000):
            with socket.create_connection((host, int(port)), 10) as connection:
                connection.sendall(sent)
                found.append(connection.recv(12))
        return found

    assert await rig.with_registry(client, strange) == [b"HTTP/1.1 400"] * 2


async def test_a_name_that_no_image_has_is_refused(rig: Rig) -> None:
    client = await rig.client("ops", Role.OPERATOR)

    def push(endpoint: Endpoint) -> Answer:
        return endpoint.ask("POST", "/v2/web/blobs/uploads/")

    found = await rig.with_registry(client, push)
    assert found.status == 400
    assert "expected REGISTRY[__PORT]/PATH" in message(found)


async def test_a_full_registry_says_what_to_prune(rig: Rig, monkeypatch: Any) -> None:
    client = await rig.client("ops", Role.OPERATOR)
    await rig.push(client, "web:1")
    monkeypatch.setattr(rig.registry.upkeep, "_quota", 10)
    with pytest.raises(AssertionError, match=r"its quota is 10B\. Remove images with"):
        await rig.push(client, "web:2", b"more")
    monkeypatch.setattr(rig.registry.upkeep.storage, "free", lambda: 1000)
    with pytest.raises(AssertionError, match=r"no space left for images: .* image rm"):
        await rig.push(client, "web:2", b"more")


async def test_an_upload_ends_when_the_disk_is_full(rig: Rig, monkeypatch: Any) -> None:
    client = await rig.client("ops", Role.OPERATOR)
    monkeypatch.setattr(gate, "ROOM_BYTES", 64 * 1024)

    def push(endpoint: Endpoint) -> Answer:
        begun = endpoint.ask("POST", "/v2/docker.io/library/web/blobs/uploads/")
        monkeypatch.setattr(rig.registry.upkeep.storage, "free", lambda: 1000)
        return endpoint.ask("PATCH", begun.headers["location"], body=b"x" * 400_000)

    found = await rig.with_registry(client, push)
    assert (found.status, message(found)[:28]) == (403, "no space left for images: th")


async def test_a_command_that_is_cut_off_leaves_nothing_open(rig: Rig) -> None:
    client = await rig.client("ops", Role.OPERATOR)

    def half(endpoint: Endpoint) -> None:
        begun = endpoint.ask("POST", "/v2/docker.io/library/web/blobs/uploads/")
        connection = http.client.HTTPConnection(endpoint.address, timeout=60)
        connection.putrequest("PATCH", begun.headers["location"])
        pair = b64encode(f"x:{endpoint.password}".encode()).decode()
        connection.putheader("Authorization", f"Basic {pair}")
        connection.putheader("Content-Length", str(1 << 20))
        connection.endheaders(b"x" * 300_000)
        connection.close()

    await rig.with_registry(client, half)
    upkeep = rig.registry.upkeep
    async with asyncio.timeout(60):
        assert await upkeep.collect(needing()) == 0, "nobody pushes any more"
    await rig.push(client, "web:1")


async def test_a_command_may_open_the_registry_again_and_again(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    """gRPC completes some of a call when the call has ended, and its event loop must be there."""
    client = await rig.client("ops", Role.OPERATOR)

    def asked(endpoint: Endpoint) -> int:
        return endpoint.ask("GET", "/v2/").status

    for _ in range(10):
        several = (rig.with_registry(client, asked) for _ in range(3))
        assert await asyncio.gather(*several) == [200, 200, 200]
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


async def test_a_leader_that_is_deposed_passes_nothing_on(rig: Rig) -> None:
    client = await rig.client("ops", Role.OPERATOR)

    def deposed(endpoint: Endpoint) -> Answer:
        rig.fleet.leads = False
        return endpoint.ask("POST", "/v2/docker.io/library/web/blobs/uploads/")

    found = await rig.with_registry(client, deposed)
    rig.fleet.leads = True
    assert found.status == 409
    assert "does not lead" in message(found)


def _size(sent: list[Frame]) -> int:
    return sum(len(frame.data) for frame in sent if isinstance(frame, Data))


async def test_who_does_not_read_holds_one_window(rig: Rig) -> None:
    client = await rig.client("ops", Role.OPERATOR)
    digest = await rig.push(client, "web:1", os.urandom(8 << 20))
    sent: list[Frame] = []
    frames: asyncio.Queue[Frame | None] = asyncio.Queue()

    async def send(frame: Frame) -> None:
        sent.append(frame)

    access = Access(ROOT, "p" * 16, writes=False)
    serving = asyncio.create_task(
        serve_registry(rig.fleet, rig.registry, access, Link(send, frames.get))
    )
    manifest = await rig.with_registry(
        client, lambda e: e.ask("GET", f"/v2/docker.io/library/web/manifests/{digest}", OCI)
    )
    layer = json.loads(manifest.content)["layers"][0]["digest"]
    pair = b64encode(b"x:" + b"p" * 16).decode()
    head = f"GET /v2/docker.io/library/web/blobs/{layer} HTTP/1.1\r\nHost: x\r\n"
    await frames.put(Connect(1))
    await frames.put(Window(1, 1024 * 1024))
    async with asyncio.timeout(60):
        while not any(isinstance(frame, Window) for frame in sent):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    await frames.put(Data(1, f"{head}Authorization: Basic {pair}\r\n\r\n".encode()))
    async with asyncio.timeout(60):
        while (size := _size(sent)) < 1024 * 1024:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.2)
    data = [frame.data for frame in sent if isinstance(frame, Data)]
    assert size == sum(map(len, data)) == 1024 * 1024
    assert max(map(len, data)) <= 256 * 1024
    await frames.put(None)
    await serving
