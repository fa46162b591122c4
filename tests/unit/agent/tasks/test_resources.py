"""Which limits are in the OCI configuration, and which the runtime writes itself."""

from typing import Any

import pytest

from agent.images.base import ImageConfig
from agent.runtime.base import CgroupLimits, DiskLimits
from agent.tasks.ocispec import HostFacts, Surroundings, oci_config
from agent.tasks.ocispec_resources import cgroup_limits, resources_section, written_limits
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.resources import ThrottleDevice, WeightDevice
from pyswarm_core.specs import ContainerSpec, Limits, Resources, TaskSpec


def config(annotations: dict[str, str]) -> Any:
    spec = ContainerSpec(image="web:1", command=("/x",), annotations=annotations)
    around = Surroundings(hostname="h", cgroups_path="/p/a")
    return oci_config(ImageConfig(), TaskSpec(container_spec=spec), HostFacts(), around)


def test_a_quota_has_the_period_of_the_spec() -> None:
    resources = Resources(limits=Limits(cpu_quota=5_000, cpu_period=20_000))
    got = resources_section(resources, swap_accounted=True, unified=True)
    assert got["cpu"] == {"period": 20_000, "quota": 5_000}
    assert written_limits(resources) is None


def test_only_v1_can_do_without_the_oom_killer() -> None:
    resources = Resources(limits=Limits(memory_bytes=100), oom_kill_disable=True)
    got = resources_section(resources, swap_accounted=False, unified=False)
    assert got["memory"] == {"limit": 100, "disableOOMKiller": True}
    with pytest.raises(InvalidArgument, match="oom-kill-disable: this host has cgroup v2"):
        resources_section(resources, swap_accounted=False, unified=True)


@pytest.mark.parametrize(
    "limits",
    [
        Limits(cpu_shares=512),
        Limits(cpu_period=20_000),
        Limits(cpuset_cpus="0"),
        Limits(cpuset_mems="0"),
        Limits(memory_reservation=1 << 20),
        Limits(blkio_weight=10),
        Limits(blkio_weight_device=(WeightDevice(path="/dev/a", weight=20),)),
    ],
)
def test_other_limits_are_written_by_the_runtime(limits: Limits) -> None:
    resources = Resources(limits=limits)
    section = resources_section(resources, swap_accounted=True, unified=True)
    assert section == resources_section(Resources(), swap_accounted=True, unified=True)
    assert written_limits(resources) == cgroup_limits(resources) != CgroupLimits()


def test_limits_of_one_disk_come_together() -> None:
    a, b = ThrottleDevice(path="/dev/a", rate=1), ThrottleDevice(path="/dev/b", rate=2)
    limits = Limits(
        blkio_weight_device=(WeightDevice(path="/dev/b", weight=20),),
        blkio_device_read_bps=(b, a),
        blkio_device_write_bps=(a,),
        blkio_device_read_iops=(b,),
        blkio_device_write_iops=(b,),
    )
    assert cgroup_limits(Resources(limits=limits)).disks == (
        DiskLimits(path="/dev/a", read_bps=1, write_bps=1),
        DiskLimits(path="/dev/b", weight=20, read_bps=2, read_iops=2, write_iops=2),
    )


def test_annotations_are_those_of_the_configuration() -> None:
    assert config({"a": "b"})["annotations"] == {"a": "b"}
    assert "annotations" not in config({})
