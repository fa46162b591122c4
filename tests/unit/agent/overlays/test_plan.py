"""The desired networks of a host: the plan alone, without a kernel."""

import msgspec
import pytest

from agent.assignment import Assignment
from agent.network.base import HOST_BRIDGE, DesiredEndpoint, DesiredOverlay, NetworkFailed
from agent.overlays.plan import Plan, own_networks
from pyswarm_core.ids import NetworkId, ServiceId, TaskId
from pyswarm_core.specs import PortConfig, PublishMode

NET, OTHER = NetworkId("net"), NetworkId("other")
A, B = TaskId("a"), TaskId("b")


def overlay(network_id: NetworkId, prefix: int = 26, *, internal: bool = False) -> DesiredOverlay:
    number = 1 if network_id == NET else 2
    return DesiredOverlay(
        network_id=network_id, name=f"n{number}", vni=4096 + number, subnet=f"10.{number}.0.0/16",
        node_number=1, local_blocks=(f"10.{number}.0.0/{prefix}",), internal=internal,
    )  # fmt: skip


def endpoint(vip: str, name: str = "web", digest: int = 1, port: int = 0) -> DesiredEndpoint:
    ports = (PortConfig(target_port=80, published_port=port),) if port else ()
    return DesiredEndpoint(
        service_id=ServiceId(name), service_name=name, network_id=NET, vip=vip, digest=digest,
        ports=ports,
    )  # fmt: skip


def everything(
    *overlays: DesiredOverlay, endpoints: tuple[DesiredEndpoint, ...] = ()
) -> Assignment:
    return Assignment(True, 1, (), (), overlays, (), endpoints)


def endpoints(revision: int, *changed: DesiredEndpoint) -> Assignment:
    return Assignment(False, revision, (), (), (), (), changed)


def planned(*overlays: DesiredOverlay) -> Plan:
    """A plan of these networks that the kernel implements."""
    plan = Plan("10.127.0.0/24")
    plan.assign(everything(*overlays))
    plan.take_work()
    return plan


def host_port(published: int = 0) -> PortConfig:
    return PortConfig(target_port=80, published_port=published, publish_mode=PublishMode.HOST)


def test_a_new_plan_looks_at_everything_and_has_the_hosts_bridge() -> None:
    plan = Plan("10.127.0.0/24")
    assert plan.take_work().anew
    assert [network.network_id for network in plan.carried] == [HOST_BRIDGE]


def test_a_changed_endpoint_is_the_whole_work_of_the_next_sync() -> None:
    plan = planned(overlay(NET))
    web, db = endpoint("10.1.255.1", digest=5), endpoint("10.1.255.2", "db", digest=6)
    assert plan.assign(endpoints(2, web, db))
    work = plan.take_work()
    assert (work.anew, work.changed) == (False, {web.key: web, db.key: db})
    assert (work.revision, work.digest) == (2, 5 ^ 6)
    gone = msgspec.structs.replace(endpoints(3), removed_endpoints=(web.key,))
    assert plan.assign(gone)
    assert (plan.take_work().changed, plan.digest) == ({web.key: None}, 6)


def test_what_changes_nothing_asks_for_nothing() -> None:
    plan, web = planned(overlay(NET)), endpoint("10.1.255.1")
    plan.assign(endpoints(2, web))
    plan.take_work()
    version = plan.version
    assert not plan.assign(endpoints(3, web))
    assert not plan.assign(everything(overlay(NET), endpoints=(web,)))
    assert (plan.version, plan.take_work().changed) == (version, {})


def test_a_withdrawn_network_stays_until_its_last_task_leaves() -> None:
    plan = planned(overlay(NET), overlay(OTHER))
    plan.join(A, (NET,))
    assert plan.assign(everything())
    assert [network.network_id for network in plan.carried] == [HOST_BRIDGE, NET]
    assert plan.unassigned([NET]) == NET, "for new tasks it is gone"
    assert plan.leave(A)
    assert [network.network_id for network in plan.carried] == [HOST_BRIDGE]
    assert not plan.leave(A)


def test_a_task_keeps_its_addresses_and_one_that_gets_none_holds_none() -> None:
    plan = planned(overlay(NET), overlay(OTHER, 30))
    first = plan.join(A, (NET, OTHER))
    assert plan.join(A, (NET, OTHER)) == first
    with pytest.raises(
        NetworkFailed, match=r"network n2: no free address: all 1 of 10\.2\.0\.0/30"
    ):
        plan.join(B, (NET, OTHER))
    assert plan.addresses(B) == ()
    plan.leave(A)
    assert plan.join(B, (OTHER,))[0].address == first[1].address


def test_a_kept_address_goes_to_the_task_that_chose_it() -> None:
    plan = planned(overlay(NET, 29))
    kept = ((OTHER, "10.1.0.2"), (NET, "10.1.0.3"), (NET, "10.9.0.1"))
    given = [plan.join(TaskId(f"t{n}"), (NET,), kept=kept)[0].address for n in range(4)]
    assert given == ["10.1.0.2", "10.1.0.4", "10.1.0.5", "10.1.0.6"]
    with pytest.raises(NetworkFailed, match="no free address"):
        plan.join(A, (NET,), kept=kept)
    assert plan.join(A, (NET,), {NET: "10.1.0.3"}, kept)[0].address == "10.1.0.3"
    plan.leave(A)
    assert plan.join(B, (NET,))[0].address == "10.1.0.3"


def test_how_a_task_is_attached_follows_from_its_addresses() -> None:
    plan = planned(msgspec.structs.replace(overlay(NET), subnet6="fd00:1::/112"))
    attached = plan.attached(plan.join(A, (NET,)), "/ns/a")
    assert (attached.own, attached.gateway) == (("10.1.0.2", "fd00:1::2"), "10.1.0.1")
    assert plan.attached((), "/ns/b").gateway == "127.0.0.1"


def test_host_ports_are_given_once_and_never_the_meshs() -> None:
    plan = planned(overlay(NET))
    plan.assign(endpoints(2, endpoint("10.1.255.1", port=32768)))
    plan.join(A, (NET,))
    plan.join(B, (NET,))
    mesh = PortConfig(target_port=80, published_port=8080)
    assert [port.published_port for port in plan.claim(A, (host_port(), mesh))] == [32769]
    assert [port.published_port for port in plan.claim(B, (host_port(),))] == [32770]
    plan.leave(A)
    plan.join(A, (NET,))
    assert [port.published_port for port in plan.claim(A, (host_port(),))] == [32769]
    assert plan.claim(TaskId("in the host's namespace"), (host_port(),)) == ()


def test_a_task_that_nobody_outside_reaches_holds_no_host_port() -> None:
    plan = planned(overlay(NET, internal=True))
    plan.join(A, (NET,))
    with pytest.raises(NetworkFailed, match="only internal networks"):
        plan.claim(A, (host_port(),))
    assert not plan.publish(A, (host_port(80),))


def test_published_ports_are_a_change_until_the_task_leaves() -> None:
    plan = planned(overlay(NET))
    plan.join(A, (NET,))
    assert not plan.publish(A, ())
    assert plan.publish(A, (host_port(80),))
    assert plan.take_work().anew
    assert plan.published[A].address == "10.1.0.2"
    assert plan.leave(A)
    assert plan.published == {}


def test_a_plan_is_restored_from_what_was_kept() -> None:
    plan, web = planned(overlay(NET)), endpoint("10.1.255.1", digest=9)
    plan.join(A, (NET,))
    plan.publish(A, (host_port(80),))
    again = Plan("10.127.0.0/24")
    again.restore(msgspec.structs.replace(plan.kept(), endpoints=(web,)))
    assert again.kept() == plan.kept()
    assert (again.endpoints, again.digest) == ((web,), 9)
    assert again.take_work().changed == {web.key: web}
    again.adopt(A, plan.addresses(A), ())
    assert again.join(B, (NET,))[0].address == "10.1.0.3"


def test_the_predefined_networks_are_no_overlays() -> None:
    assert own_networks([]) == (HOST_BRIDGE,)
    assert own_networks([NetworkId("host")]) is None
    assert own_networks([NetworkId("none")]) == ()
    assert own_networks([NET, OTHER]) == (NET, OTHER)
