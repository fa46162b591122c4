"""The OCI config of what isolates a container from its host, or opens it."""

import json
from typing import Any

import pytest

from agent.images.base import ImageConfig
from agent.runtime.base import DeviceNode
from agent.runtime.isolation.idmaps import SIZE
from agent.tasks.isolation.capabilities import BY_NUMBER, capabilities, from_mask
from agent.tasks.isolation.config import IDS
from agent.tasks.ocispec import HostFacts, Surroundings, oci_config
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.specs import ContainerSpec, TaskSpec

FUSE = DeviceNode(
    path="/dev/own",
    source="/dev/fuse",
    kind="c",
    major=10,
    minor=229,
    mode=0o666,
    permissions="rw",
)
NOTHING = {"allow": False, "access": "rwm"}
V1, V2 = HostFacts(), HostFacts(unified_cgroups=True)


def config(host: HostFacts = V1, devices: tuple[DeviceNode, ...] = (), **fields: Any) -> Any:
    task = TaskSpec(container_spec=ContainerSpec(image="web:1", **fields))
    around = Surroundings(hostname="h", cgroups_path="/p/a", devices=devices)
    return oci_config(ImageConfig(cmd=("serve",)), task, host, around)


def kinds(host: HostFacts = V1, **fields: Any) -> set[str]:
    return {each["type"] for each in config(host, **fields)["linux"]["namespaces"]}


def mounted(path: str, **fields: Any) -> list[dict[str, Any]]:
    return [each for each in config(**fields)["mounts"] if each["destination"] == path]


@pytest.mark.parametrize("host", [V1, V2])
def test_namespaces_are_those_of_the_spec(host: HostFacts) -> None:
    usual = {"mount", "pid", "ipc", "uts", "network"} | ({"cgroup"} if host is V2 else set())
    assert kinds(host) == usual
    assert kinds(host, pid_mode="host") == usual - {"pid"}
    assert kinds(host, ipc_mode="host") == usual - {"ipc"}
    assert kinds(host, uts_mode="host") == usual - {"uts"}
    assert kinds(host, ipc_mode="none") == kinds(host, ipc_mode="shareable") == usual
    assert kinds(host, cgroupns_mode="host") == usual - {"cgroup"}
    assert kinds(host, cgroupns_mode="private") == usual | {"cgroup"}


def test_the_host_s_name_is_not_set() -> None:
    assert config()["hostname"] == "h"
    assert "hostname" not in config(uts_mode="host")


def test_shared_memory_follows_size_and_ipc_mode() -> None:
    assert "size=67108864" in mounted("/dev/shm")[0]["options"]
    assert "size=4096" in mounted("/dev/shm", shm_size=4096)[0]["options"]
    assert mounted("/dev/shm", ipc_mode="none") == []
    (shared,) = mounted("/dev/shm", ipc_mode="host")
    assert (shared["type"], shared["source"]) == ("bind", "/dev/shm")


def test_tmpfs_are_mounted_parents_first_and_before_files() -> None:
    paths = {"/a/b/c": "", "/a": "size=1m", "/dev/shm/": "size=2m"}
    found = [each["destination"] for each in config(tmpfs=paths)["mounts"]]
    assert found[-3:] == ["/a", "/dev/shm", "/a/b/c"]
    assert found.count("/dev/shm") == 1
    assert mounted("/a", tmpfs=paths)[0]["options"] == ["nosuid", "noexec", "nodev", "size=1m"]


def test_a_privileged_container_is_not_confined() -> None:
    got = config(privileged=True, devices=(FUSE,))
    assert set(got["process"]["capabilities"]["effective"]) == set(BY_NUMBER)
    assert got["process"]["noNewPrivileges"] is False
    assert "seccomp" not in got["linux"]
    assert got["linux"]["maskedPaths"] == got["linux"]["readonlyPaths"] == []
    assert got["linux"]["resources"]["devices"] == [{"allow": True, "access": "rwm"}]
    assert [device["path"] for device in got["linux"]["devices"]] == ["/dev/own"]
    for path in ("/sys", "/sys/fs/cgroup"):
        assert "ro" in mounted(path)[0]["options"]
        assert "rw" in mounted(path, privileged=True)[0]["options"]


def test_a_privileged_container_keeps_what_it_asks_for() -> None:
    def effective(**fields: Any) -> set[str]:
        found = config(privileged=True, **fields)["process"]["capabilities"]["effective"]
        return set(found)

    assert set(BY_NUMBER) - effective(capability_drop=("sys_admin",)) == {"CAP_SYS_ADMIN"}
    assert effective(capability_drop=("all",), capability_add=("CHOWN",)) == {"CAP_CHOWN"}
    own = config(privileged=True, security_opt=("no-new-privileges", f"seccomp={PROFILE}"))
    assert own["process"]["noNewPrivileges"] is True
    assert own["linux"]["seccomp"]["defaultAction"] == "SCMP_ACT_LOG"


PROFILE = json.dumps({"defaultAction": "SCMP_ACT_LOG"})


def test_security_options_are_taken_over() -> None:
    assert config()["process"]["noNewPrivileges"] is True
    allowed = config(security_opt=("no-new-privileges=false",))
    assert allowed["process"]["noNewPrivileges"] is False
    assert "seccomp" not in config(security_opt=("seccomp=unconfined",))["linux"]
    assert config(security_opt=("seccomp=builtin",))["linux"]["seccomp"]["syscalls"]
    own = config(security_opt=(f"seccomp={PROFILE}",))["linux"]["seccomp"]
    assert own == {"defaultAction": "SCMP_ACT_LOG", "architectures": [], "syscalls": []}
    open_paths = config(security_opt=("systempaths=unconfined",))["linux"]
    assert open_paths["maskedPaths"] == open_paths["readonlyPaths"] == []
    assert "apparmorProfile" not in config(security_opt=("apparmor=unconfined",))["process"]
    found = config(HostFacts(apparmor=True), security_opt=("apparmor=mine",))
    assert found["process"]["apparmorProfile"] == "mine"
    with pytest.raises(InvalidArgument, match="this host's kernel has no AppArmor"):
        config(security_opt=("apparmor=mine",))


def test_devices_are_made_and_allowed() -> None:
    linux = config(devices=(FUSE,), device_cgroup_rules=("c 1:* r", "b *:* m"))["linux"]
    assert linux["devices"] == [
        {
            "path": "/dev/own",
            "type": "c",
            "major": 10,
            "minor": 229,
            "fileMode": 0o666,
            "uid": 0,
            "gid": 0,
        }
    ]
    assert linux["resources"]["devices"] == [
        NOTHING,
        {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"},
        {"allow": True, "type": "c", "major": 1, "access": "r"},
        {"allow": True, "type": "b", "access": "m"},
    ]
    assert config()["linux"]["resources"]["devices"] == [NOTHING]
    assert "devices" not in config()["linux"]


@pytest.mark.parametrize("mode", ["auto", "private"])
def test_devices_of_a_user_namespace_are_mounted(mode: str) -> None:
    got = config(devices=(FUSE,), userns_mode=mode)
    assert {"type": "user"} in got["linux"]["namespaces"]
    assert "devices" not in got["linux"]
    assert got["linux"]["resources"]["devices"][1]["minor"] == 229
    assert got["mounts"][-1] == {
        "destination": "/dev/own",
        "type": "bind",
        "source": "/dev/fuse",
        "options": ["bind", "rprivate"],
    }
    assert {"type": "user"} not in config(userns_mode="host")["linux"]["namespaces"]


def test_ids_beyond_those_of_a_user_namespace_are_refused() -> None:
    assert IDS == SIZE
    config(user="65535:65535", userns_mode="auto")
    config(user="65536", userns_mode="host")
    for fields in ({"user": "65536"}, {"user": "1:70000"}, {"groups": ("70000",)}):
        with pytest.raises(InvalidArgument, match="with --userns auto ids are 0 to 65535"):
            config(userns_mode="auto", **fields)


def test_all_means_what_the_agent_can_give() -> None:
    available = from_mask((1 << 21) | 1)
    assert available == {"CAP_CHOWN", "CAP_SYS_ADMIN"}
    assert capabilities(("ALL",), (), available) == ("CAP_CHOWN", "CAP_SYS_ADMIN")
    with pytest.raises(InvalidArgument, match="CAP_NET_ADMIN: the agent of this host does not"):
        capabilities(("NET_ADMIN",), (), available)
    assert from_mask((1 << 64) - 1) == set(BY_NUMBER)
