"""What an agent tells Prometheus of its host's network and its tasks' checks."""

from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry

from agent.health.base import Outcome
from agent.metrics import AgentCollector, TaskMetrics
from agent.network.base import Attachment, DesiredOverlay, Peer, Underlay
from agent.network.fake import FakeDataplane
from agent.network.overlay.fake import Fabric
from agent.stats.restarts import Restarts
from pyswarm_core.ids import NetworkId, TaskId
from pyswarm_core.volumes.limits import VOLUME_SERIES_MAX
from pyswarm_core.volumes.volume import VolumeUsage

NETWORK = DesiredOverlay(
    network_id=NetworkId("net"), name="net", vni=4097, subnet="10.1.0.0/16", node_number=1,
    local_blocks=("10.1.1.0/26",),
    peers=(Peer(node_number=2, address="192.0.2.2", blocks=("10.1.2.0/26",)),),
)  # fmt: skip


def measured(dataplane: FakeDataplane) -> dict[str, float]:
    collector = AgentCollector(
        SimpleNamespace(records={}),  # type: ignore[arg-type]
        SimpleNamespace(programmed=7),  # type: ignore[arg-type]
        SimpleNamespace(connected=True),  # type: ignore[arg-type]
        dataplane,
        streams=SimpleNamespace(open=3),  # type: ignore[arg-type]
        measuring=SimpleNamespace(measured={}),  # type: ignore[arg-type]
    )
    return {
        sample.name: sample.value for metric in collector.collect() for sample in metric.samples
    }


@pytest.mark.parametrize("on", [True, False])
async def test_what_uses_the_fast_path_is_measured(on: bool) -> None:
    dataplane = FakeDataplane(Fabric(), Underlay(address="192.0.2.1"), fast_path=on)
    await dataplane.sync([NETWORK])
    place = Attachment(network_id=NETWORK.network_id, address="10.1.1.2")
    await dataplane.attach(TaskId("t"), [place])
    await dataplane.sync([NETWORK])
    found = measured(dataplane)
    use = [found[f"pyswarm_agent_fast_path_{name}"] for name in ("on", "networks", "interfaces")]
    assert use == ([1, 1, 1] if on else [0, 0, 0])


def test_open_streams_are_measured() -> None:
    dataplane = FakeDataplane(Fabric(), Underlay(address="192.0.2.1"))
    assert measured(dataplane)["pyswarm_agent_streams"] == 3


async def test_path_mtus_are_measured_by_peer() -> None:
    dataplane = FakeDataplane(Fabric(), Underlay(address="192.0.2.1"))
    await dataplane.sync([NETWORK])
    dataplane.path_mtu.sizes["192.0.2.2"] = 1400
    await dataplane.measure_paths()
    assert measured(dataplane)["pyswarm_agent_path_mtu_bytes"] == 1400


def test_checks_are_counted_by_kind_and_result() -> None:
    registry = CollectorRegistry()
    metrics = TaskMetrics(registry, Restarts())
    for code in (0, 0, 3, -1):
        metrics.checked("HTTP", Outcome(code, ""), 0.002)
    total = "pyswarm_agent_checks_total"
    found = {
        result: registry.get_sample_value(total, {"kind": "HTTP", "result": result})
        for result in ("success", "failure", "none")
    }
    assert found == {"success": 2, "failure": 1, "none": 1}
    count = registry.get_sample_value("pyswarm_agent_check_seconds_count", {"kind": "HTTP"})
    assert count == 4


async def test_the_largest_volumes_are_measured_by_name() -> None:
    dataplane = FakeDataplane(Fabric(), Underlay(address="192.0.2.1"))
    many = {
        f"id{i}": (f"data{i}", VolumeUsage(bytes=1_000 + i, inodes=i))
        for i in range(VOLUME_SERIES_MAX + 1)
    }
    found = AgentCollector(
        SimpleNamespace(records={}),  # type: ignore[arg-type]
        SimpleNamespace(programmed=7),  # type: ignore[arg-type]
        SimpleNamespace(connected=True),  # type: ignore[arg-type]
        dataplane,
        streams=SimpleNamespace(open=3),  # type: ignore[arg-type]
        measuring=SimpleNamespace(measured=many),  # type: ignore[arg-type]
    ).collect()
    (sizes,) = [metric for metric in found if metric.name == "pyswarm_agent_volume_bytes"]
    values = {sample.labels["volume"]: sample.value for sample in sizes.samples}
    assert len(values) == 200
    assert values["data200"] == 1_200
    assert "data0" not in values
