"""What a prepared task gets of the network: namespace, files in /etc, resolver."""

from pathlib import Path
from typing import Any

from agent.assignment import AssignedTask, Assignment, Template
from agent.network.base import DesiredEndpoint
from pyswarm_core.ids import NetworkId, ServiceId, TaskId
from pyswarm_core.objects import TaskStatus
from pyswarm_core.specs import ContainerSpec, DnsConfig, NetworkAttachment, TaskSpec
from pyswarm_core.states import TaskState
from tests.unit.agent.test_worker import IMAGE, NET, NODE, OVERLAY, Host

TASK = TaskId("abcdefghijklmnopqrstuvwxy")
RESOLV = "nameserver 127.0.0.53\nnameserver 192.0.2.53\nsearch corp.example\n"


async def run(host: Host, *networks: str, **fields: Any) -> TaskStatus:
    """The task with these settings, up and running."""
    (host.directory / "resolv.conf").write_text(RESOLV)
    host.registry.push(IMAGE)
    container = ContainerSpec(image=IMAGE, args=("run",), **fields)
    spec = TaskSpec(
        container_spec=container,
        networks=tuple(NetworkAttachment(target=network) for network in networks),
    )
    template = Template(ServiceId("s"), "web", 1, False, spec)
    task = AssignedTask(TASK, 1, TaskState.RUNNING, template)
    async with host.worker() as worker:
        everything = Assignment(True, 1, (task,), (), (OVERLAY,), ())
        await host.overlays.assign(everything)
        await worker.assign(everything, NODE)
        return await host.reaches(TASK, TaskState.RUNNING)


def file(host: Host, name: str) -> list[str]:
    return host.runtime.config(TASK).files[name].decode().splitlines()


def namespaces(host: Host) -> dict[str, str | None]:
    oci: Any = host.runtime.config(TASK).oci
    found = oci["linux"]["namespaces"]
    return {each["type"]: each.get("path") for each in found}


async def test_a_task_on_an_overlay_asks_its_agent(tmp_path: Path) -> None:
    host = Host(tmp_path)
    dns = DnsConfig(nameservers=("192.0.2.1",), search=("a.example",), options=("timeout:1",))
    await run(host, NET, dns_config=dns, hosts=("host-gateway host",))
    assert host.resolvers.open_for == {TASK: ((NET,), ("192.0.2.1",))}
    assert file(host, "resolv.conf") == [
        "nameserver 127.0.0.11",
        "search a.example",
        "options ndots:0 timeout:1",
    ]
    assert file(host, "hosts")[2:] == [
        f"10.128.0.2\tabcdefghijkl web.1 web.1.{TASK}",
        "10.128.0.1\thost",
    ]


async def test_a_task_on_no_overlay_asks_the_hosts_servers(tmp_path: Path) -> None:
    for network in ((), ("bridge",)):
        host = Host(tmp_path / str(len(network)))
        host.directory.mkdir()
        status = await run(host, *network)
        assert host.resolvers.open_for == {}
        assert file(host, "resolv.conf") == ["nameserver 192.0.2.53", "search corp.example"]
        assert [a.network_id for a in status.detail.addresses] == [NetworkId("bridge")]


async def test_a_task_in_the_hosts_network_is_as_the_host(tmp_path: Path) -> None:
    host = Host(tmp_path)
    status = await run(host, "host", hosts=("192.0.2.9 db", "host-gateway here"))
    assert "network" not in namespaces(host)
    assert status.detail.addresses == ()
    assert await host.dataplane.found() == set()
    assert file(host, "resolv.conf") == RESOLV.splitlines()
    assert file(host, "hosts")[-2:] == ["192.0.2.9\tdb", "127.0.0.1\there"]
    assert host.runtime.config(TASK).oci["hostname"] == "host1"


async def test_a_task_on_no_network_has_a_namespace_and_no_address(tmp_path: Path) -> None:
    host = Host(tmp_path)
    status = await run(host, "none")
    assert namespaces(host)["network"] == f"/fake/netns/{TASK}"
    assert status.detail.addresses == ()
    assert host.dataplane.overlay.tasks == {TASK: ()}
    assert host.resolvers.open_for == {}


async def test_an_adopted_task_is_answered_again_from_what_is_on_disk(tmp_path: Path) -> None:
    host = Host(tmp_path)
    endpoint = DesiredEndpoint(service_id=ServiceId("s"), service_name="web", network_id=NET)
    await run(host, NET, dns_config=DnsConfig(nameservers=("192.0.2.1",)))
    async with host.worker():
        said = Assignment(True, 2, (), (), (OVERLAY,), (), endpoints=(endpoint,))
        await host.overlays.assign(said)
        await host.overlays.settled()
    host.resolvers.open_for.clear()
    host.resolvers.opened.clear()
    host.resolvers.replace((), ())
    async with host.worker():
        await host.resolvers.opened.wait()
        assert host.resolvers.endpoints == (endpoint,)
        assert host.resolvers.open_for == {TASK: ((NET,), ("192.0.2.1",))}


async def test_a_task_that_ended_is_answered_no_more(tmp_path: Path) -> None:
    host = Host(tmp_path)
    await run(host, NET)
    async with host.worker() as worker:
        await worker.assign(Assignment(True, 2, (), (), (OVERLAY,), ()), NODE)
        await worker.ended(TASK).wait()
        assert host.resolvers.open_for == {}
