"""The desired tables of tasks, changed endpoint by endpoint."""

from msgspec.structs import replace

from agent.network.base import Backend, DesiredEndpoint, DesiredOverlay
from agent.network.threads import KernelThreads
from agent.network.vips.programs import NetlinkVips
from pyswarm_core.ids import NetworkId, ServiceId, TaskId

APP, BACK, MESH = NetworkId("app"), NetworkId("back"), NetworkId("mesh")


def overlay(network_id: NetworkId, number: int) -> DesiredOverlay:
    return DesiredOverlay(
        network_id=network_id,
        name=network_id,
        subnet=f"10.{number}.0.0/16",
        local_blocks=(f"10.{number}.0.0/26",),
        ingress=network_id == MESH,
    )


OVERLAYS = {o.network_id: o for o in (overlay(APP, 1), overlay(BACK, 2), overlay(MESH, 3))}


def endpoint(name: str, network_id: NetworkId, vip: str, *addresses: str) -> DesiredEndpoint:
    backends = tuple(Backend(TaskId(a), slot, a) for slot, a in enumerate(addresses, 1))
    return DesiredEndpoint(
        service_id=ServiceId(name),
        service_name=name,
        network_id=network_id,
        vip=vip,
        backends=backends,
    )


WEB = endpoint("web", APP, "10.1.255.1", "10.1.0.2")
OTHER = endpoint("other", APP, "10.1.255.2", "10.1.0.3")
FAR = endpoint("web", BACK, "10.2.255.1", "10.2.0.2")
INGRESS = endpoint("web", MESH, "10.3.255.1", "10.3.0.2")


def test_a_change_is_what_wanting_all_anew_would_be_and_touches_no_other_network() -> None:
    vips = NetlinkVips(KernelThreads())
    vips.set_desired(OVERLAYS, [WEB, OTHER, FAR, INGRESS])
    untouched = vips._desired.ruleset((BACK,))
    before = vips._desired.ruleset((APP,))
    more = replace(WEB, backends=(*WEB.backends, Backend(TaskId("t"), 2, "10.1.0.4")))
    assert vips.update_desired(OVERLAYS, {WEB.key: more}) == {APP}
    after = vips._desired.ruleset((APP,))
    assert vips._desired.ruleset((BACK,)) is untouched
    assert after.vips[OTHER.vip] is before.vips[OTHER.vip]
    assert before.vips[WEB.vip].backends == ("10.1.0.2",)
    assert set(after.vips[WEB.vip].backends) == {"10.1.0.2", "10.1.0.4"}
    fresh = NetlinkVips(KernelThreads())
    fresh.set_desired(OVERLAYS, [more, OTHER, FAR, INGRESS])
    assert fresh._desired.ruleset((APP, BACK)) == vips._desired.ruleset((APP, BACK))


def test_endpoints_come_and_go_and_those_of_the_mesh_are_no_tasks() -> None:
    vips = NetlinkVips(KernelThreads())
    vips.set_desired(OVERLAYS, [WEB, INGRESS])
    assert vips.update_desired(OVERLAYS, {WEB.key: None, OTHER.key: OTHER}) == {APP}
    assert set(vips._desired.ruleset((APP,)).vips) == {OTHER.vip}
    vips.update_desired(OVERLAYS, {INGRESS.key: INGRESS, OTHER.key: replace(OTHER, vip="")})
    assert vips._desired.ruleset((APP, MESH)).vips == {}
