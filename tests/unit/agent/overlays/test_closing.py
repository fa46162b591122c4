"""What an agent closes by itself, and where its plan keeps it."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from agent.assignment import Assignment
from agent.network.base import ApiCaller, ControlPlane, DesiredOverlay, Underlay
from agent.network.dns.fake import FakeResolvers
from agent.network.fake import FakeDataplane
from agent.network.overlay.fake import Fabric
from agent.overlays import closing as module
from agent.overlays.closing import Closing, listen_addrs, own_listeners, plain_registries
from agent.overlays.files import NetworkFiles
from agent.overlays.overlays import Overlays
from agent.overlays.plan import CONTROLLERS, Plan, SavedPlan
from pyswarm_core.controlplane import ControlEndpoint, ControlHost
from pyswarm_core.ids import NetworkId, TaskId
from pyswarm_core.objects import TaskAddress

OWN = "192.0.2.1"
NET, TASK = NetworkId("net"), TaskId("t")
API = ControlHost(("192.0.2.9",), (ControlEndpoint(2377, api=True),))
ETCD = ControlHost(("192.0.2.9",), (ControlEndpoint(2379),))


def planned() -> Plan:
    plan = Plan("10.127.0.0/24", OWN)
    plan.take_work()
    return plan


def hosts(plan: Plan) -> list[ControlHost]:
    return [*plan.control.hosts]


def callers(plan: Plan) -> list[ApiCaller]:
    return [*plan.control.callers]


def made(path: Path) -> tuple[FakeDataplane, Overlays]:
    dataplane = FakeDataplane(Fabric(), Underlay(address=OWN))
    plan = Plan("10.127.0.0/24", OWN)
    return dataplane, Overlays(dataplane, plan, path, lambda *_: None, FakeResolvers())


def closed(dataplane: FakeDataplane) -> str:
    table = dataplane.parts.filter.table  # type: ignore[attr-defined]
    return " ".join(sorted(table.elements["control_addresses"].items)) if table else ""


def test_each_source_replaces_what_it_reported_before() -> None:
    plan = planned()
    assert plan.close(CONTROLLERS, [API, ETCD])
    assert not plan.close("agent", [API]), "it is closed already"
    assert hosts(plan) == [API, ETCD]
    assert plan.close(CONTROLLERS, [])
    assert hosts(plan) == [API]
    assert plan.take_work().anew


def test_what_was_saved_is_closed_until_controllers_report() -> None:
    plan = planned()
    plan.restore(SavedPlan(control=ControlPlane(hosts=(ETCD,))))
    plan.close("agent", [API])
    assert hosts(plan) == [ETCD, API]
    plan.close(CONTROLLERS, [])
    assert hosts(plan) == [*plan.kept().control.hosts] == [API]


def test_a_plan_of_an_agent_that_closed_nothing_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "o.json"
    path.write_bytes(msgspec.json.encode({"overlays": [], "endpoints": [], "published": []}))
    assert NetworkFiles(path).load().control == ControlPlane()


def test_a_task_may_call_the_api_until_it_leaves() -> None:
    plan = planned()
    network = DesiredOverlay(
        network_id=NET, name="net", subnet="10.1.0.0/24", local_blocks=("10.1.0.0/28",), vni=1
    )
    plan.assign(Assignment(True, 1, (), (), (network,), (), ()))
    assert not plan.allow_api(TASK), "it has not joined"
    addresses = plan.join(TASK, (NET,))
    assert plan.allow_api(TASK)
    assert not plan.allow_api(TASK)
    caller = ApiCaller(task_id=TASK, addresses=addresses)
    assert callers(plan) == [*plan.kept().control.callers] == [caller]
    assert plan.named == {TASK}
    plan.take_work()
    assert plan.leave(TASK)
    assert callers(plan) == []
    assert plan.named == frozenset()


def test_a_caller_of_an_earlier_agent_is_kept_and_named() -> None:
    caller = ApiCaller(task_id=TASK, addresses=(TaskAddress(NET, "10.1.0.2"),))
    plan = planned()
    plan.restore(SavedPlan(control=ControlPlane(callers=(caller,))))
    assert callers(plan) == [caller]
    assert plan.named == {TASK}


async def test_the_kernel_has_what_is_closed_before_a_controller_is_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataplane, overlays = made(tmp_path / "o")
    names = {"registry.lan": ["192.0.2.70"], "gone.lan": []}

    async def resolve(name: str, *_: object, **__: object) -> list[tuple[object, ...]]:
        if not (found := names[name]):
            raise OSError("no such name")
        return [(2, 1, 6, "", (address, 0)) for address in found]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    controllers = ["192.0.2.9:2377", "gone.lan:2377"]
    registries = plain_registries(["http://registry.lan:5000", "https://mirror.example"])
    closing = Closing(
        overlays, own_listeners((f"{OWN}:9324", ""), OWN), registries, lambda: controllers
    )
    async with asyncio.TaskGroup() as group:
        work = group.create_task(overlays.run())
        await closing.renew()
        await overlays.settled()
        expected = (
            "192.0.2.1 . 9324 : goto control_plane 192.0.2.70 . 5000 : goto control_plane"
            " 192.0.2.9 . 2377 : goto fleet_api"
        )
        assert closed(dataplane) == expected
        names["registry.lan"] = []
        await closing.renew()
        await overlays.settled()
        assert closed(dataplane) == expected, "a name that does not resolve now"
        names["registry.lan"] = ["192.0.2.71"]
        await closing.renew()
        await overlays.settled()
        assert "192.0.2.71 . 5000" in closed(dataplane)
        assert "192.0.2.70" not in closed(dataplane)
        work.cancel()


async def test_a_task_is_attached_once_the_api_is_open_to_it(tmp_path: Path) -> None:
    dataplane, overlays = made(tmp_path / "o")
    async with asyncio.TaskGroup() as group:
        work = group.create_task(overlays.run())
        attached = await overlays.attach(TASK, (), calls_api=True)
        table = dataplane.parts.filter.table  # type: ignore[attr-defined]
        (item,) = table.elements["fleet_api_callers"].items
        assert attached.own[0] in item
        other = await overlays.attach(TaskId("other"), ())
        assert other.own[0] not in "".join(table.elements["fleet_api_callers"].items)
        await overlays.detach(TASK)
        await overlays.settled()
        assert not dataplane.parts.filter.table.elements["fleet_api_callers"].items  # type: ignore[attr-defined]
        work.cancel()


@pytest.mark.parametrize(
    ("mirrors", "expected"),
    [
        (["http://10.0.0.1:5000", "http://r.lan", "http://[fd00::1]:5000/"],
         ["10.0.0.1:5000", "r.lan:80", "[fd00::1]:5000"]),
        (["https://mirror.example"], []),
    ],
)  # fmt: skip
def test_registries_without_encryption_are_closed(mirrors: list[str], expected: list[str]) -> None:
    assert plain_registries(mirrors) == expected


def test_an_agent_reports_where_its_metrics_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "host_addresses", lambda: (OWN, "203.0.113.4", "2001:db8::4"))
    assert listen_addrs(("127.0.0.1:9324",), OWN) == ()
    assert listen_addrs(("",), OWN) == ()
    assert listen_addrs((f"{OWN}:9324",), OWN) == (f"{OWN}:9324",)
    both = (f"{OWN}:9324", f"{OWN}:9326")
    assert listen_addrs(both, OWN) == both, "its health, too"
    expected = (f"{OWN}:9324", "203.0.113.4:9324", "[2001:db8::4]:9324")
    assert listen_addrs(("0.0.0.0:9324",), OWN) == expected
    monkeypatch.setattr(module, "host_addresses", lambda: tuple(f"10.0.0.{n}" for n in range(99)))
    assert len(listen_addrs((":9324",), OWN)) == 16
