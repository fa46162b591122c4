"""The mounts of a spec in an OCI config."""

from typing import Any

import pytest

from agent.images.base import ImageConfig
from agent.tasks.ocispec import HostFacts, Surroundings, oci_config
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.specs import ContainerSpec, TaskSpec
from pyswarm_core.volumes.mounts import BindOptions, Mount, MountType, TmpfsOptions

BIND, TMPFS = MountType.BIND, MountType.TMPFS
NEW, OLD = HostFacts(kernel=(6, 1)), HostFacts(kernel=(5, 10))
FILES = {"/etc/hosts": "/run/hosts", "/etc/hostname": "/run/hostname"}


def mounts(*given: Mount, host: HostFacts = NEW, **container: Any) -> list[dict[str, Any]]:
    spec = ContainerSpec(image="web", command=("true",), mounts=given, **container)
    sources = {one.target: f"/host{one.target}" for one in given if one.type is not TMPFS}
    around = Surroundings(hostname="h", cgroups_path="/p/a", sources=sources, files=FILES)
    found = oci_config(ImageConfig(), TaskSpec(container_spec=spec), host, around)
    shown: list[dict[str, Any]] = found["mounts"]
    return shown


def options(mount: Mount, host: HostFacts = NEW) -> list[str]:
    (found,) = [one for one in mounts(mount, host=host) if one["destination"] == "/m"]
    shown: list[str] = found["options"]
    return shown


def bind(*, read_only: bool = False, **fields: Any) -> Mount:
    given = BindOptions(**fields) if fields else None
    return Mount(type=BIND, source="/s", target="/m", read_only=read_only, bind_options=given)


@pytest.mark.parametrize(
    ("mount", "host", "expected"),
    [
        (Mount(source="data", target="/m"), NEW, ["rbind", "rprivate", "rw"]),
        (Mount(source="data", target="/m/", read_only=True), NEW, ["rbind", "rprivate", "ro"]),
        (bind(), NEW, ["rbind", "rprivate", "rw"]),
        (bind(read_only=True), NEW, ["rbind", "rprivate", "rro"]),
        (bind(read_only=True), OLD, ["rbind", "rprivate", "ro"]),
        (bind(read_only=True, read_only_non_recursive=True), NEW, ["rbind", "rprivate", "ro"]),
        (bind(read_only=True, non_recursive=True), NEW, ["bind", "rprivate", "ro"]),
        (bind(propagation="rshared", non_recursive=True), NEW, ["bind", "rshared", "rw"]),
        (
            Mount(type=TMPFS, target="/m"),
            NEW,
            ["nosuid", "noexec", "nodev", "mode=1777", "rw"],
        ),
        (
            Mount(type=TMPFS, target="/m", tmpfs_options=TmpfsOptions(size_bytes=64, mode=0o700)),
            NEW,
            ["nosuid", "noexec", "nodev", "mode=700", "size=64", "rw"],
        ),
    ],
)
def test_a_mount_has_dockers_options(mount: Mount, host: HostFacts, expected: list[str]) -> None:
    assert options(mount, host) == expected


def test_a_kernel_that_cannot_refuses_what_was_forced() -> None:
    with pytest.raises(InvalidArgument, match=r"this host's kernel is older than 5\.12"):
        mounts(bind(read_only=True, read_only_force_recursive=True), host=OLD)


def test_a_parent_comes_before_its_children_and_replaces_a_default() -> None:
    given = [Mount(target="/dev/shm"), Mount(target="/a/b/c"), Mount(target="/a"), bind()]
    shown = mounts(*given, tmpfs={"/a/b": ""})
    targets = [one["destination"] for one in shown]
    assert targets.index("/a") < targets.index("/a/b") < targets.index("/a/b/c")
    (shm,) = [one for one in shown if one["destination"] == "/dev/shm"]
    assert (shm["type"], shm["source"]) == ("bind", "/host/dev/shm")


def test_a_mount_of_the_user_wins_over_a_file_of_the_agent() -> None:
    shown = mounts(Mount(type=BIND, source="/s", target="/etc/hosts"))
    sources = [one["source"] for one in shown if one["destination"] == "/etc/hosts"]
    assert sources == ["/host/etc/hosts"]
    assert "/run/hostname" in [one["source"] for one in shown]


def test_without_mounts_the_order_is_that_of_docker() -> None:
    targets = [one["destination"] for one in mounts()][:4]
    assert targets == ["/proc", "/dev", "/dev/pts", "/sys"]


def test_volumes_map_the_ids_of_a_user_namespace_and_binds_do_not() -> None:
    given = (Mount(source="data", target="/v"), Mount(target="/own"), bind())
    shown = mounts(*given, userns_mode="auto")
    mapped = {one["destination"] for one in shown if "idmap" in one["options"]}
    assert mapped == {"/v", "/own"}
    assert not any("idmap" in one["options"] for one in mounts(*given))


def test_an_image_is_read_only_whatever_is_given() -> None:
    assert options(Mount(type=MountType.IMAGE, source="web", target="/m"))[-1] == "ro"
