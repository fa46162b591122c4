"""Flags of a container's resources and of its interface: what becomes of them in the spec."""

import json
import shlex

import pytest
from msgspec.structs import replace

from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.codec import from_proto, to_proto
from pyswarm_core.resources import ThrottleDevice, WeightDevice
from pyswarm_core.specs import (
    ContainerMode,
    ContainerSpec,
    Limits,
    NetworkAttachment,
    Resources,
    ServiceSpec,
    TaskSpec,
)
from tests.unit.cli.conftest import Pyswarm
from tests.unit.cli.objects import service, service_reply
from tests.unit.cli.scripted import Script

MIB = 1 << 20
DISK = ThrottleDevice(path="/dev/sda", rate=10 * MIB)
OPERATIONS = ThrottleDevice(path="/dev/sda", rate=1000)
LIMITS = {
    "--cpu-shares 512": Limits(cpu_shares=512),
    "-c 512": Limits(cpu_shares=512),
    "--cpu-period 50000 --cpu-quota 25000": Limits(cpu_period=50_000, cpu_quota=25_000),
    "--cpu-quota -1": Limits(),
    "--cpuset-cpus 0-2,7 --cpuset-mems 0": Limits(cpuset_cpus="0-2,7", cpuset_mems="0"),
    "--memory-reservation 64m": Limits(memory_reservation=64 * MIB),
    "--blkio-weight 500": Limits(blkio_weight=500),
    "--blkio-weight-device /dev/sda:300": Limits(
        blkio_weight_device=(WeightDevice(path="/dev/sda", weight=300),)
    ),
    "--device-read-bps /dev/sda:10mb": Limits(blkio_device_read_bps=(DISK,)),
    "--device-write-bps /dev/sda:10mb": Limits(blkio_device_write_bps=(DISK,)),
    "--device-read-iops /dev/sda:1000": Limits(blkio_device_read_iops=(OPERATIONS,)),
    "--device-write-iops /dev/sda:1000": Limits(blkio_device_write_iops=(OPERATIONS,)),
    "--net-egress 10mbit --net-ingress 1.5Gbit": Limits(
        net_egress=10_000_000, net_ingress=1_500_000_000
    ),
}


def created(fleet: Script, pyswarm: Pyswarm, line: str) -> ServiceSpec:
    fleet.on("CreateService", service_reply())
    ran = pyswarm("service", "create", "-d", *shlex.split(line), "web")
    assert (ran.code, ran.err) == (0, "")
    return from_proto(ServiceSpec, fleet.requests("CreateService")[-1].spec)


def updated(fleet: Script, pyswarm: Pyswarm, template: TaskSpec, line: str) -> TaskSpec:
    found = service()
    spec = replace(found.spec, task_template=template)
    fleet.on("GetService", service_reply(replace(found, spec=spec)))
    fleet.on("UpdateService", service_reply())
    ran = pyswarm("service", "update", "-d", *shlex.split(line), "web")
    assert (ran.code, ran.err) == (0, "")
    return from_proto(ServiceSpec, fleet.requests("UpdateService")[-1].spec).task_template


@pytest.mark.parametrize("line", LIMITS)
def test_create_sets_the_limits(line: str, script: Script, pyswarm: Pyswarm) -> None:
    resources = created(script, pyswarm, line).task_template.resources
    assert resources == Resources(limits=LIMITS[line])


def test_create_sets_what_is_no_limit(script: Script, pyswarm: Pyswarm) -> None:
    line = (
        "--limit-memory 64m --oom-kill-disable --mac-address 02:42:AC:11:00:02"
        " --annotation a=b --annotation c --network app --ip 10.0.0.9"
    )
    template = created(script, pyswarm, line).task_template
    assert template.resources.oom_kill_disable
    assert template.container_spec.mac_address == "02:42:ac:11:00:02"
    assert template.container_spec.annotations == {"a": "b", "c": ""}
    assert template.networks == (NetworkAttachment(target="app", task_ip="10.0.0.9"),)


def test_update_changes_single_entries_of_a_list(script: Script, pyswarm: Pyswarm) -> None:
    other = replace(DISK, path="/dev/sdb")
    before = TaskSpec(
        container_spec=ContainerSpec(image="web", annotations={"a": "1", "b": "2"}),
        resources=Resources(
            limits=Limits(
                pids=5,
                blkio_device_read_bps=(DISK, other),
                blkio_device_write_iops=(OPERATIONS,),
            )
        ),
    )
    line = (
        "--device-read-bps-add /dev/sda:1mb --device-read-bps-add /dev/sdc:10mb"
        " --device-read-bps-rm /dev/sdb --annotation-add a=3 --annotation-rm b"
    )
    after = updated(script, pyswarm, before, line)
    assert after.container_spec.annotations == {"a": "3"}
    assert after.resources.limits == replace(
        before.resources.limits,
        blkio_device_read_bps=(replace(DISK, rate=MIB), replace(DISK, path="/dev/sdc")),
    )


def test_update_chooses_and_takes_away_the_address(script: Script, pyswarm: Pyswarm) -> None:
    joined = (NetworkAttachment(target="net", aliases=("a",)), NetworkAttachment(target="other"))
    before = TaskSpec(container_spec=ContainerSpec(image="web"), networks=joined)
    chosen = replace(before, networks=(replace(joined[0], task_ip="10.0.0.9"), joined[1]))
    assert updated(script, pyswarm, before, "--replicas 1 --ip 10.0.0.9") == chosen
    assert updated(script, pyswarm, chosen, "--replicas 1 --ip ''") == before


def test_update_takes_limits_away(script: Script, pyswarm: Pyswarm) -> None:
    limits = Limits(cpuset_cpus="1", cpu_shares=5, net_egress=9000, memory_reservation=64 * MIB)
    before = TaskSpec(container_spec=ContainerSpec(image="web"), resources=Resources(limits=limits))
    line = "--cpuset-cpus '' --cpu-shares 0 --net-egress 0 --memory-reservation 0"
    assert updated(script, pyswarm, before, line).resources == Resources()


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("--cpuset-cpus 0-", '--cpuset-cpus: value "0-" is not valid: expected numbers and ranges'),
        ("--cpuset-mems 3-1", '--cpuset-mems: value "3-1" is not valid: expected ranges'),
        ("--cpu-quota 5000 --limit-cpu 1", "--cpu-quota: value"),
        ("--limit-memory 8m --memory-reservation 9m", "expected 0, or 6MiB to 8MiB (--limit-memo"),
        ("--oom-kill-disable", "expected --limit-memory as well"),
        ("--device-read-bps sda:1mb", '--device-read-bps: device "sda" is not valid: expected the'),
        ("--device-read-bps /dev/sda", '--device-read-bps: value "/dev/sda" is not valid'),
        ("--device-read-iops /dev/sda:1k", "expected DEVICE:RATE, as in /dev/sda:1000"),
        ("--device-write-bps /dev/sda:0", "expected a rate of 1 to 256TiB"),
        ("--blkio-weight-device /dev/sda:9", "expected a weight of 10 to 1000"),
        ("--device-read-bps /dev/a:1 --device-read-bps /dev/a:2", "expected each disk once"),
        ("--annotation run.oci.hooks=x", 'key "run.oci.hooks" is not valid: expected a name that'),
        ("--mac-address 02:42", '--mac-address: value "02:42" is not valid: expected a unicast'),
        ("--mac-address 03:42:ac:11:00:02", "expected a unicast address"),
        ("--mac-address 02:72:ac:11:00:02", "which the fleet gives"),
        ("--mac-address 02:42:ac:11:00:02 --replicas 2", "expected at most one replica"),
        ("--mac-address 02:42:ac:11:00:02 --mode global", "expected at most one replica"),
        ("--ip 10.0.0.9 --network app --update-order start-first", "expected stop-first with --ip"),
        ("--ip 10.0.0.9", "expected --network as well"),
        ("--ip 10.0.0.9 --network host", "expected a network that a user made"),
        ("--ip 10.0.0.9 --network app --replicas 2", "expected at most one replica"),
        ("--ip 10.0.0.9 --network app --mode global", "expected at most one replica"),
        ("--ip x --network app", "expected an IPv4 address of the network"),
        ("--net-egress 1mbit --network host", "expected none on the networks host and none"),
        ("--net-egress 1mbit --cap-add net_admin", "expected no --privileged and no --cap-add NET"),
        ("--net-egress 1mbit --cap-add ALL", "expected no --privileged and no --cap-add NET_ADMIN"),
        ("--net-egress 1mbit --privileged", "expected no --privileged and no --cap-add NET_ADMIN"),
        ("--cpu-rt-runtime 950000", "--cpu-rt-runtime is not supported: cgroup v2 has no"),
        ("--kernel-memory 64m", "--kernel-memory is not supported: Docker removed it"),
        ("--ip6 fd00::2", "--ip6 is not supported: the IPv6 address of a task follows"),
    ],
)
def test_what_no_container_can_have_is_refused(line: str, told: str, pyswarm: Pyswarm) -> None:
    ran = pyswarm("service", "create", "-d", *shlex.split(line), "web")
    assert (ran.code, ran.out) == (2, "")
    assert told in ran.err.splitlines()[0]


def test_a_task_without_net_admin_may_have_all_other_capabilities(
    script: Script, pyswarm: Pyswarm
) -> None:
    line = "--net-egress 1mbit --cap-add ALL --cap-drop NET_ADMIN"
    assert created(script, pyswarm, line).task_template.resources.limits.net_egress == 1_000_000


def test_inspect_of_a_container_shows_them_by_docker_s_names(
    script: Script, pyswarm: Pyswarm
) -> None:
    limits = Limits(
        cpu_shares=5,
        cpuset_cpus="0",
        memory_reservation=MIB,
        blkio_device_read_bps=(DISK,),
        blkio_weight_device=(WeightDevice(path="/dev/sda", weight=300),),
    )
    template = TaskSpec(
        container_spec=ContainerSpec(image="web", annotations={"a": "b"}, mac_address="02:42::1"),
        resources=Resources(limits=limits),
        networks=(NetworkAttachment(target="net", task_ip="10.0.0.9"),),
    )
    found = service("db", mode=ContainerMode(), task_template=template)
    answer = pb.ContainerReply(networks={"net": "app"})
    to_proto(found, answer.service)
    script.on("GetContainer", answer)
    (document,) = json.loads(pyswarm("inspect", "db").out)
    config = document["HostConfig"]
    assert {
        "CpuShares": 5,
        "CpusetCpus": "0",
        "MemoryReservation": MIB,
        "BlkioDeviceReadBps": [{"Path": "/dev/sda", "Rate": 10 * MIB}],
        "BlkioWeightDevice": [{"Path": "/dev/sda", "Weight": 300}],
        "BlkioDeviceWriteIOps": None,
        "OomKillDisable": False,
        "Annotations": {"a": "b"},
    }.items() <= config.items()
    settings = document["NetworkSettings"]
    assert settings["MacAddress"] == "02:42::1"
    assert settings["Networks"]["app"]["IPAMConfig"] == {"IPv4Address": "10.0.0.9"}
