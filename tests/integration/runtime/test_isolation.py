"""What isolates real containers from their host, and what opens them: each option is looked at from
inside.
"""

import errno
import json
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import pytest

from agent.network.netns import Namespaces
from agent.runtime.base import RuntimeFailed
from agent.runtime.isolation import idmaps
from agent.runtime.mounts import unmount
from agent.secrets.plan import files_of, mounts_of
from agent.secrets.store import SecretStore
from pyswarm_core.docker.isolation.security import device
from pyswarm_core.payloads.references import ConfigReference, FileTarget, SecretReference
from pyswarm_core.specs import ContainerSpec
from tests.fixtures.runtime_contract import exit_of, until
from tests.integration.runtime.conftest import RealWorld
from tests.integration.runtime.test_containers import lines, output
from tests.integration.runtime.test_filtered import CALLS, errors
from tests.integration.runtime.test_running import execute, processes

ALL_KNOWN = 1 << 21  # CAP_SYS_ADMIN
STATUS = "cat /proc/self/status"
MOUNTS = "cat /proc/self/mounts"
NAMESPACES = "for n in pid ipc uts cgroup user; do busybox readlink /proc/self/ns/$n; done"


def own(kind: str) -> str:
    """The namespace of this process, `pid:[4026531836]`."""
    return str(Path(f"/proc/self/ns/{kind}").readlink())


def status(text: str) -> dict[str, str]:
    """The fields of /proc/self/status."""
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def options_at(text: str, path: str) -> set[str]:
    """The options of the uppermost mount at the path."""
    rows = [line.split() for line in text.splitlines() if f" {path} " in line]
    return set(rows[-1][3].split(","))


async def namespaces(world: RealWorld, **spec: object) -> set[str]:
    """The kinds of namespaces that the container shares with this process."""
    said = (await output(world, NAMESPACES, **spec)).split()
    await world.runtime.remove("a1", keep_logs=False)
    kinds = ("pid", "ipc", "uts", "cgroup", "user")
    return {kind for kind, found in zip(kinds, said, strict=True) if found == own(kind)}


# File systems in memory


async def test_tmpfs_has_dockers_defaults_and_the_given_options(world: RealWorld) -> None:
    said = await output(
        world,
        f"{MOUNTS}; busybox stat -c '%a %U' /scratch /run/own; echo x > /scratch/x && echo written"
        "; cp /bin/busybox /scratch/sh; /scratch/sh true || echo refused",
        read_only=True,
        tmpfs={"/scratch": "", "/run/own": "rw,exec,size=1m,mode=700,uid=1000"},
    )
    assert {"rw", "nosuid", "nodev", "noexec"} <= options_at(said, "/scratch")
    assert {"rw", "nosuid", "nodev", "size=1024k", "mode=700"} <= options_at(said, "/run/own")
    assert "noexec" not in options_at(said, "/run/own")
    assert "1777 root\n700 worker\n" in said
    assert "written\n" in said


async def test_a_tmpfs_takes_the_place_of_a_default_mount_and_hides_no_own_file(
    world: RealWorld,
) -> None:
    said = await output(
        world,
        f"{MOUNTS}; cat /etc/hosts",
        tmpfs={"/dev/shm": "size=2m", "/etc": "", "/etc/deep/er": "size=1m"},
    )
    assert len([line for line in said.splitlines() if " /dev/shm " in line]) == 1
    assert "size=2048k" in options_at(said, "/dev/shm")
    assert "size=1024k" in options_at(said, "/etc/deep/er")
    assert said.endswith("hosts of a1\n")


async def test_shm_has_its_size(world: RealWorld) -> None:
    assert "size=65536k" in options_at(await output(world, MOUNTS), "/dev/shm")
    await world.runtime.remove("a1", keep_logs=False)
    said = await output(world, f"{MOUNTS}; busybox df /dev/shm", shm_size=8 << 20)
    assert "size=8192k" in options_at(said, "/dev/shm")


# Namespaces


async def test_namespaces_are_its_own_or_the_host_s_as_requested(world: RealWorld) -> None:
    by_default = {"user"} if world.host.facts.unified_cgroups else {"user", "cgroup"}
    assert await namespaces(world) == by_default
    assert await namespaces(world, pid_mode="host") == by_default | {"pid"}
    assert await namespaces(world, ipc_mode="host") == by_default | {"ipc"}
    assert await namespaces(world, uts_mode="host") == by_default | {"uts"}
    assert await namespaces(world, cgroupns_mode="host") == {"user", "cgroup"}
    assert await namespaces(world, cgroupns_mode="private") == {"user"}
    for mode in ("private", "shareable", "none"):
        assert await namespaces(world, ipc_mode=mode) == by_default


async def test_a_container_in_the_host_s_pid_namespace_sees_it_and_ends_whole(
    world: RealWorld,
) -> None:
    script = "busybox setsid sleep 1000 & sleep 1000 & exec sleep 1000"
    await world.runtime.create(world.custom("a1", ("/bin/sh", "-c", script), pid_mode="host"))
    await world.runtime.start("a1")
    said = await execute(world, f"[ -d /proc/{os.getpid()} ] && cat /proc/{os.getpid()}/comm")
    assert said.output.decode().strip() == Path("/proc/self/comm").read_text().strip()
    assert processes(world) == 3
    await world.runtime.remove("a1", keep_logs=False)
    assert processes(world) == 0


async def test_ipc_host_shares_memory_and_none_has_no_shm(world: RealWorld) -> None:
    name = f"/dev/shm/{world.cgroup_parent[1:]}"
    said = await output(world, f"echo inside > {name}", ipc_mode="host")
    shared = Path(name)
    try:
        assert (said, shared.read_text()) == ("", "inside\n")
    finally:
        shared.unlink()
    await world.runtime.remove("a1", keep_logs=False)
    assert " /dev/shm " not in await output(world, MOUNTS, ipc_mode="none")


async def test_uts_host_has_the_host_s_name(world: RealWorld) -> None:
    assert await output(world, "busybox hostname", uts_mode="host") == f"{os.uname().nodename}\n"


# Privileges


async def test_a_privileged_container_has_what_its_host_has(world: RealWorld) -> None:
    said = await output(
        world,
        f"{STATUS}; {MOUNTS}; echo kernel $(dd if=/dev/kmsg bs=1 count=0 2>&1 | busybox wc -l)"
        "; busybox mount -t tmpfs none /tmp && echo mounted"
        "; busybox ls /dev | busybox wc -l; [ -w /proc/sys/kernel ] && echo writable",
        privileged=True,
    )
    fields = status(said)
    own_fields = status(Path("/proc/self/status").read_text())
    assert fields["CapEff"] == own_fields["CapBnd"]
    assert (fields["Seccomp"], fields["NoNewPrivs"]) == ("0", "0")
    assert "rw" in options_at(said, "/sys")
    assert "mounted\n" in said
    assert " /proc/kcore " not in said
    assert " /proc/sys " not in said


async def test_a_privileged_container_uses_every_device(world: RealWorld) -> None:
    said = await output(
        world,
        "cat /sys/class/mem/kmsg/dev; busybox mknod /own c 1 11 && dd if=/own bs=8192 count=1"
        " 2>&1 >/dev/null | busybox tail -n 1; busybox stat -c %t:%T /dev/fuse",
        privileged=True,
    )
    numbers = Path("/dev/fuse").stat().st_rdev
    assert said.splitlines()[0] == "1:11"
    assert "copied" in said or "records" in said
    assert said.splitlines()[-1] == f"{os.major(numbers):x}:{os.minor(numbers):x}"


async def test_a_privileged_container_lacks_what_it_drops(world: RealWorld) -> None:
    said = await output(world, STATUS, privileged=True, capability_drop=("SYS_ADMIN",))
    assert int(status(said)["CapEff"], 16) & ALL_KNOWN == 0


async def test_new_privileges_can_be_allowed(world: RealWorld) -> None:
    allowed = ("no-new-privileges=false",)
    said = await output(world, STATUS, security_opt=allowed)
    assert status(said)["NoNewPrivs"] == "0"
    await world.runtime.remove("a1", keep_logs=False)
    said = await output(world, STATUS, privileged=True, security_opt=("no-new-privileges",))
    assert status(said)["NoNewPrivs"] == "1"


async def test_paths_of_the_kernel_are_hidden_unless_unconfined(world: RealWorld) -> None:
    look = f"{MOUNTS}; dd if=/proc/kcore bs=4 count=1 2>/dev/null | busybox wc -c"
    said = await output(world, look)
    assert "ro" in options_at(said, "/proc/sys")
    assert said.endswith("\n0\n")
    await world.runtime.remove("a1", keep_logs=False)
    said = await output(world, look, security_opt=("systempaths=unconfined",))
    assert " /proc/sys " not in said
    assert " /proc/kcore " not in said


# Filters of system calls


async def test_an_own_filter_replaces_the_default(world: RealWorld) -> None:
    profile = json.dumps(
        {
            "defaultAction": "SCMP_ACT_ALLOW",
            "archMap": [
                {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}
            ],
            "syscalls": [
                {"names": ["unshare"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.EXFULL},
                {
                    "names": ["chroot"],
                    "action": "SCMP_ACT_ERRNO",
                    "errnoRet": errno.ENOANO,
                    "includes": {"caps": ["CAP_SYS_ADMIN"]},
                },
                {
                    "name": "keyctl",
                    "action": "SCMP_ACT_ERRNO",
                    "errnoRet": errno.EBADE,
                    "excludes": {"caps": ["CAP_SYS_ADMIN"]},
                },
            ],
        }
    )
    calls = {name: CALLS[name] for name in ("unshare", "chroot", "keyctl", "add_key")}
    found = await errors(world, calls, security_opt=(f"seccomp={profile}",))
    assert found["unshare"] == errno.EXFULL
    assert found["chroot"] != errno.ENOANO
    assert found["keyctl"] == errno.EBADE
    assert found["add_key"] not in (errno.EPERM, errno.ENOSYS)


async def test_unconfined_has_no_filter(world: RealWorld) -> None:
    said = await output(world, STATUS, security_opt=("seccomp=unconfined",))
    assert status(said)["Seccomp"] == "0"


# Devices


async def test_a_device_is_there_and_usable_and_others_are_not(world: RealWorld) -> None:
    # Reading /dev/fuse without a mount is EPERM from the driver itself; opening it is not.
    script = "exec 3<>/dev/own && echo opened; busybox stat -c '%t:%T %F' /dev/own"
    said = await output(world, script, devices=(device("/dev/fuse:/dev/own:rw"),))
    numbers = Path("/dev/fuse").stat().st_rdev
    expected = f"{os.major(numbers):x}:{os.minor(numbers):x} character special file"
    assert said == f"opened\n{expected}\n"
    await world.runtime.remove("a1", keep_logs=False)
    made = f"busybox mknod /own c {os.major(numbers)} {os.minor(numbers)} && exec 3<>/own"
    assert "ermitted" in await output(world, made)


async def test_permissions_of_a_device_are_the_cgroup_s(world: RealWorld) -> None:
    script = "(exec 3</dev/fuse) && echo read; (exec 3>/dev/fuse) || echo refused"
    said = await output(world, script, devices=(device("/dev/fuse:r"),))
    assert "read\n" in said
    assert "refused\n" in said


async def test_a_device_rule_opens_the_cgroup(world: RealWorld) -> None:
    numbers = Path("/dev/fuse").stat().st_rdev
    major, minor = os.major(numbers), os.minor(numbers)
    made = f"busybox mknod /own c {major} {minor} && exec 3<>/own && echo opened"
    said = await output(world, made, device_cgroup_rules=(f"c {major}:* rwm",))
    assert said == "opened\n"


async def test_a_directory_of_devices_is_given_whole(world: RealWorld) -> None:
    said = await output(world, "busybox ls /dev/net", devices=(device("/dev/net"),))
    assert said.split() == sorted(path.name for path in Path("/dev/net").iterdir())


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/dev/nothing", "device /dev/nothing of this host: no such file or directory"),
        ("/etc/passwd", "device /etc/passwd of this host: it is no device"),
        ("/etc", "device /etc of this host: a directory outside of /dev"),
    ],
)
def test_what_is_no_device_is_refused(world: RealWorld, path: str, reason: str) -> None:
    with pytest.raises(RuntimeFailed, match=reason):
        world.custom("a1", ("/bin/true",), devices=(device(path),))


# User namespaces


async def test_root_of_a_user_namespace_is_nobody_on_the_host(world: RealWorld) -> None:
    config = world.custom("a1", ("/bin/sleep", "1000"), userns_mode="auto")
    pid = await world.runtime.create(config)
    await world.runtime.start("a1")
    said = await execute(
        world,
        "id -u; cat /proc/self/uid_map; busybox stat -c '%u:%g' /bin/busybox /etc/hosts /;"
        " echo x > /made && busybox chown 1000:1001 /made && busybox stat -c '%u:%g' /made;"
        " echo 127.0.0.1 more >> /etc/hosts && busybox tail -n 1 /etc/hosts",
    )
    seen = said.output.decode().splitlines()
    assert seen[0] == "0"
    start = int(seen[1].split()[1])
    assert seen[1].split() == ["0", str(start), "65536"]
    assert start >= 1 << 30
    assert seen[2:] == ["0:0", "0:0", "0:0", "1000:1001", "127.0.0.1 more"]
    assert status(Path(f"/proc/{pid}/status").read_text())["Uid"].split() == [str(start)] * 4
    made = (world.layout.writable("a1") / "upper/made").stat()
    assert (made.st_uid, made.st_gid) == (start + 1000, start + 1001)
    assert Path(world.layers[0], "bin/busybox").stat().st_uid == 0


async def test_secrets_have_the_owners_of_the_user_namespace(
    world: RealWorld, tmp_path: Path
) -> None:
    owner = FileTarget(name="db", uid="1000", gid="1001", mode=0o400)
    script = FileTarget(name="/start.sh", mode=0o555)
    spec = ContainerSpec(
        image="busybox",
        secrets=(SecretReference(secret_id="s1", secret_name="db", file=owner),),
        configs=(ConfigReference(config_id="c1", config_name="start", file=script),),
    )
    data = {"db": b"hidden", "/start.sh": b"#!/bin/sh\necho started\n"}
    (store := SecretStore(tmp_path)).prepare()
    try:
        files = files_of(spec)
        directory = store.make("a1", files, lambda one: data[one.reference.file.name])
        config = world.custom("a1", ("/bin/sleep", "1000"), userns_mode="auto")
        own = cast(list[Any], config.oci["mounts"])
        own += mounts_of(files, str(directory), is_mapped=True)
        await world.runtime.create(config)
        await world.runtime.start("a1")
        said = await execute(
            world,
            "busybox stat -c '%u:%g:%a' /run/secrets/db; busybox cat /run/secrets/db; echo;"
            " /start.sh",
        )
        assert said.output.decode().split() == ["1000:1001:400", "hidden", "started"]
    finally:
        unmount(store.root)


async def test_many_layers_are_shifted_without_a_copy(world: RealWorld) -> None:
    layers = []
    # pytest's own directory is in memory, where kernels before 6.3 shift no owners.
    base = world.layout.state / "layers"
    for number in range(12):
        layer = base / str(number)
        (layer / "data").mkdir(parents=True)
        (layer / f"data/{number}").write_bytes(b"x" * (1 << 20))
        os.chown(layer / f"data/{number}", number, number)
        layers.append(str(layer))
    world.layers = (*layers, *world.layers)
    said = await output(
        world,
        "cd /data; busybox stat -c '%n %u %g' *; cat * | busybox wc -c; rm 3; echo more >> 4",
        userns_mode="auto",
    )
    owners = {tuple(line.split()) for line in said.splitlines()[:-1]}
    assert owners == {(str(number), str(number), str(number)) for number in range(12)}
    assert said.splitlines()[-1] == str(12 << 20)
    upper = world.layout.writable("a1") / "upper/data"
    assert {path.name for path in upper.iterdir()} == {"3", "4"}
    assert (base / "4/data/4").stat().st_uid == 4
    assert not (world.layout.bundle("a1") / "layers").exists()


async def test_shifted_layers_that_a_killed_agent_left_are_removed(world: RealWorld) -> None:
    config = world.custom("a1", ("/bin/sleep", "1000"), userns_mode="auto")
    await world.runtime.create(config)
    place = world.layout.bundle("a1") / "layers"
    with ExitStack() as killed:
        killed.enter_context(idmaps.shifted(world.layers, idmaps.FIRST, place))
        assert f" {place}/0 " in Path("/proc/self/mounts").read_text()
        restarted = world.another()
        (found,) = await restarted.found()
        assert found.pid
        await restarted.remove("a1")
        restarted.close()
        assert str(place) not in Path("/proc/self/mounts").read_text()
    assert await world.runtime.found() == ()


async def test_each_container_has_ids_of_its_own(world: RealWorld) -> None:
    starts = set()
    script = "busybox chown 77:77 / && exec sleep 1000"
    for name in ("a1", "a2", "a3"):
        config = world.custom(name, ("/bin/sh", "-c", script), userns_mode="private")
        pid = await world.runtime.create(config)
        await world.runtime.start(name)
        starts.add(Path(f"/proc/{pid}/uid_map").read_text().split()[1])
    assert len(starts) == 3
    root = world.layout.writable("a3") / "upper"

    async def has_other_owner() -> bool:
        return root.stat().st_uid % idmaps.SIZE == 77

    await until(has_other_owner)
    assert idmaps.taken(world.layout.writables) == set(map(int, starts))


async def test_a_user_namespace_goes_with_the_other_options(world: RealWorld) -> None:
    said = await output(
        world,
        f"id -u; {STATUS}; {MOUNTS}; exec 3<>/dev/own && echo opened; echo x > /run/x && echo kept"
        "; echo y > /y || echo refused; cat /proc/1/comm",
        userns_mode="auto",
        user="worker",
        init=True,
        read_only=True,
        tmpfs={"/run": "mode=1777"},
        devices=(device("/dev/zero:/dev/own"),),
        shm_size=1 << 20,
        sysctls={"kernel.shmmax": "4096"},
        cgroupns_mode="private",
    )
    fields = status(said)
    assert said.startswith("1000\n")
    assert (fields["Seccomp"], fields["NoNewPrivs"]) == ("2", "1")
    assert "size=1024k" in options_at(said, "/dev/shm")
    assert {"opened", "kept", "refused", "docker-init"} <= set(said.splitlines())


async def test_a_container_without_a_layer_says_which(world: RealWorld) -> None:
    world.layers = ("/no/such/layer", *world.layers)
    config = world.custom("a1", ("/bin/true",), userns_mode="auto")
    with pytest.raises(RuntimeFailed, match="image layer /no/such/layer"):
        await world.runtime.create(config)
    assert await world.runtime.found() == ()


async def test_programs_without_capabilities_have_low_ports(
    world: RealWorld, tmp_path: Path
) -> None:
    spaces = Namespaces(tmp_path)
    with spaces.new() as (descriptor, _):
        spaces.keep("web", descriptor)
    try:
        specs: tuple[dict[str, Any], ...] = ({"userns_mode": "auto"}, {"user": "worker"})
        for spec in specs:
            script = "busybox httpd -p 80 -h /tmp && echo listens"
            config = world.custom("a1", ("/bin/sh", "-c", script), **spec)
            namespaces = cast("Any", config.oci["linux"])["namespaces"]
            namespaces.remove({"type": "network"})
            namespaces.append({"type": "network", "path": str(spaces.path("web"))})
            await world.runtime.create(config)
            await world.runtime.start("a1")
            await exit_of(world.runtime, "a1")
            assert [line.text for line in await lines(world, "a1")] == [b"listens"]
            await world.runtime.remove("a1", keep_logs=False)
    finally:
        spaces.drop("web")
        spaces.close()
