"""Where tasks run whose volumes are no directories of a node."""

import pytest
from msgspec.structs import replace

from controller.brain.demands import current_demand, drives_volumes
from controller.brain.volumes import first_spec, has_files, is_home, writes_alone
from pyswarm_core.decision import Writes
from pyswarm_core.volumes.limits import BINDS_PROTOCOL
from pyswarm_core.volumes.mounts import Driver, VolumeOptions
from pyswarm_core.volumes.volume import VolumePlacement, VolumeSpec
from tests.fixtures import build
from tests.fixtures.build import NOW, node


@pytest.mark.parametrize("is_made", [True, False])
def test_agents_of_an_earlier_protocol_get_no_volume_with_options(is_made: bool) -> None:
    """Also of one that the mount creates: they would make a directory of it."""
    options = Driver(options={"size": "1g"})
    service = build.service("web")
    spec = build.with_mount(service.spec, "data")
    (mount,) = spec.task_template.container_spec.mounts
    if not is_made:
        mount = replace(mount, volume_options=VolumeOptions(driver_config=options))
    container = replace(spec.task_template.container_spec, mounts=(mount,))
    spec = replace(spec, task_template=replace(spec.task_template, container_spec=container))
    old = [node("n1", protocol=BINDS_PROTOCOL - 1)]
    made = build.volume("data")
    made = replace(made, spec=replace(made.spec, driver_opts=options.options))
    state = build.state(nodes=old, services=[replace(service, spec=spec)])
    if is_made:
        state.apply(Writes(objects=(made,)))
    assert drives_volumes(state, spec.task_template)
    demand = current_demand(state, state.services[service.id], NOW)
    assert any(
        "knows no options of volumes" in text and not room.any() for text, room in demand.rooms
    )


def test_files_that_every_node_reaches_have_one_writer_in_a_slot() -> None:
    service = build.service("web")
    service = replace(service, spec=build.with_mount(service.spec, "data"))
    share = VolumeSpec(
        name="data",
        driver="nfs",
        driver_opts={"share": "nas:/x"},
        placement=VolumePlacement.ANY,
    )
    made = replace(build.volume("data", "n1", "n2"), spec=share)
    state = build.state(nodes=build.nodes(2), services=[service])
    assert not writes_alone(state, service)
    state.apply(Writes(objects=(made,)))
    assert writes_alone(state, service)
    task = build.task("web.1", node="n2")
    assert has_files(state, service, task)
    assert not is_home(state, service, task)


@pytest.mark.parametrize(
    ("driver", "placement"),
    [
        (Driver(), "pinned"),
        (Driver(options={"size": "1g"}), "pinned"),
        (Driver(name="nfs", options={"share": "nas:/x"}), "any"),
        (Driver(options={"type": "nfs", "device": ":/x", "o": "addr=nas"}), "any"),
    ],
)
def test_a_volume_that_a_mount_creates_is_placed_as_its_driver(
    driver: Driver, placement: str
) -> None:
    service = build.service("web")
    spec = build.with_mount(service.spec, "data")
    (mount,) = spec.task_template.container_spec.mounts
    mount = replace(mount, volume_options=VolumeOptions(driver_config=driver))
    container = replace(spec.task_template.container_spec, mounts=(mount,))
    template = replace(spec.task_template, container_spec=container)
    service = replace(service, spec=replace(spec, task_template=template))
    found = first_spec(service, mount)
    assert found.placement == placement
    assert (found.driver, found.driver_opts) == (driver.name or "local", driver.options)
