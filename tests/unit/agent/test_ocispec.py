"""An OCI config is a pure function of image, spec and host."""

from typing import Any

import pytest

from agent.images.base import ImageConfig
from agent.runtime.program.users import User, resolve_user
from agent.tasks.isolation.capabilities import capabilities
from agent.tasks.ocispec import HostFacts, Surroundings, oci_config
from agent.tasks.ocispec_process import (
    command_line,
    environment,
    signal_number,
)
from agent.tasks.ocispec_resources import resources_section
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.specs import ContainerSpec, Limits, Resources, TaskSpec

PASSWD = b"root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/srv:/bin/sh\nbroken\n"
GROUP = b"root:x:0:\nweb:x:34:\nextra:x:50:web,other\n"
IMAGE = ImageConfig(entrypoint=("/entry",), cmd=("serve",), env=("A=1", "PATH=/image"))


def spec(**fields: Any) -> ContainerSpec:
    return ContainerSpec(image="web:1", **fields)


def config(container: ContainerSpec, host: HostFacts | None = None, **around: Any) -> Any:
    surroundings = Surroundings(hostname="h", cgroups_path="/p/a", **around)
    task = TaskSpec(container_spec=container)
    return oci_config(IMAGE, task, host or HostFacts(), surroundings)


@pytest.mark.parametrize(
    ("command", "args", "words"),
    [
        ((), (), ("/entry", "serve")),
        ((), ("x",), ("/entry", "x")),
        (("/own",), (), ("/own",)),
        (("/own",), ("x",), ("/own", "x")),
    ],
)
def test_command_replaces_entrypoint_and_args_replace_cmd(
    command: tuple[str, ...], args: tuple[str, ...], words: tuple[str, ...]
) -> None:
    assert command_line(IMAGE, spec(command=command, args=args)) == words


def test_image_without_command_needs_one() -> None:
    with pytest.raises(InvalidArgument, match="web:1 has no command"):
        command_line(ImageConfig(), spec())


def test_environment_keeps_first_place_and_last_value() -> None:
    got = environment(IMAGE, spec(env=("A=2", "B=", "HOSTNAME"), tty=True), "h", "/srv")
    assert got == ["PATH=/image", "TERM=xterm", "A=2", "B=", "HOME=/srv"]


def test_environment_has_docker_defaults() -> None:
    got = environment(ImageConfig(), spec(), "h", "/root")
    assert got == [
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOSTNAME=h",
        "HOME=/root",
    ]


@pytest.mark.parametrize(
    ("requested", "user"),
    [
        ("", User(0, 0, (), "/root")),
        ("web", User(33, 34, (50,), "/srv")),
        ("33", User(33, 34, (50,), "/srv")),
        ("web:extra", User(33, 50, (), "/srv")),
        ("1234", User(1234, 0, (), "/")),
        ("1234:99", User(1234, 99, (), "/")),
    ],
)
def test_user_is_looked_up_in_the_image(requested: str, user: User) -> None:
    assert resolve_user(requested, (), PASSWD, GROUP) == user


def test_groups_add_to_those_that_list_the_user() -> None:
    assert resolve_user("web", ("root", "77"), PASSWD, GROUP).additional_gids == (50, 0, 77)


@pytest.mark.parametrize("requested", ["nobody", "web:nogroup", "-1", "99999999999"])
def test_unknown_user_or_group_is_named(requested: str) -> None:
    with pytest.raises(InvalidArgument, match=r"no matching entries in (passwd|group) file"):
        resolve_user(requested, (), PASSWD, GROUP)


def test_image_without_passwd_still_has_root_and_numbers() -> None:
    assert resolve_user("", (), b"", b"") == User(0, 0, (), "/root")
    assert resolve_user("5:6", (), b"", b"") == User(5, 6, (), "/")


def test_capabilities_follow_add_and_drop() -> None:
    assert len(capabilities((), ())) == 14
    assert "CAP_NET_ADMIN" in capabilities(("net_admin",), ())
    assert capabilities(("CAP_CHOWN",), ("ALL",)) == ("CAP_CHOWN",)
    assert "CAP_SYS_ADMIN" in capabilities(("ALL",), ("CHOWN",))
    assert "CAP_CHOWN" not in capabilities(("ALL",), ("CHOWN",))
    with pytest.raises(InvalidArgument, match="FLY"):
        capabilities(("FLY",), ())


def test_only_root_has_effective_capabilities() -> None:
    root = config(spec())["process"]["capabilities"]
    other = config(spec(user="7"))["process"]["capabilities"]
    assert root["effective"] == root["bounding"] == other["bounding"]
    assert other["effective"] == other["permitted"] == []


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("SIGTERM", 15),
        ("term", 15),
        ("9", 9),
        ("SIGRTMIN", 34),
        ("SIGRTMIN+3", 37),
        ("RTMAX-1", 63),
    ],
)
def test_signals_have_names_and_numbers(text: str, number: int) -> None:
    assert signal_number(text) == number


@pytest.mark.parametrize(
    "text", ["", "SIGNOPE", "0", "65", "-1", "²", "9" * 5000, "RTMIN+99", "RTMAX-64"]
)
def test_unknown_signal_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="is unknown"):
        signal_number(text)


@pytest.mark.parametrize(("swap_bytes", "total"), [(0, 200), (50, 150), (-1, -1)])
def test_swap_is_counted_on_top_of_memory(swap_bytes: int, total: int) -> None:
    resources = Resources(limits=Limits(memory_bytes=100), swap_bytes=swap_bytes)
    got = resources_section(resources, swap_accounted=True, unified=True)
    assert got["memory"] == {"limit": 100, "swap": total}


def test_limits_become_cgroup_values() -> None:
    resources = Resources(limits=Limits(nano_cpus=500_000_000, pids=10), memory_swappiness=5)
    got = resources_section(resources, swap_accounted=True, unified=False)
    assert got["cpu"] == {"period": 100_000, "quota": 50_000}
    assert got["pids"] == {"limit": 10}
    assert got["memory"] == {"swappiness": 5}
    assert "memory" not in resources_section(resources, swap_accounted=True, unified=True)


def test_smallest_cpu_limit_is_one_the_kernel_takes() -> None:
    resources = Resources(limits=Limits(nano_cpus=1))
    assert resources_section(resources, swap_accounted=True, unified=True)["cpu"]["quota"] == 1_000


def test_swap_is_left_alone_where_the_kernel_does_not_count_it() -> None:
    resources = Resources(limits=Limits(memory_bytes=100))
    got = resources_section(resources, swap_accounted=False, unified=False)
    assert got["memory"] == {"limit": 100}


def test_init_wraps_the_command_and_needs_a_static_init() -> None:
    got = config(spec(init=True), HostFacts(init_path="/usr/bin/tini-static"))
    assert got["process"]["args"][:2] == ["/sbin/docker-init", "--"]
    assert any(m["source"] == "/usr/bin/tini-static" for m in got["mounts"])
    with pytest.raises(InvalidArgument, match="Debian package tini"):
        config(spec(init=True))


def test_network_namespace_is_the_given_one() -> None:
    namespaces = config(spec(), netns_path="/run/netns/x")["linux"]["namespaces"]
    assert {"type": "network", "path": "/run/netns/x"} in namespaces
    assert {"type": "network"} in config(spec())["linux"]["namespaces"]


def test_a_task_in_the_hosts_network_has_no_network_namespace() -> None:
    kinds = [n["type"] for n in config(spec(), host_network=True)["linux"]["namespaces"]]
    assert "network" not in kinds
    assert "uts" in kinds


def test_a_task_in_the_hosts_network_may_not_change_it() -> None:
    with pytest.raises(InvalidArgument, match=r"net\.core\.somaxconn.*network host"):
        config(spec(sysctls={"net.core.somaxconn": "1"}), host_network=True)
    config(spec(sysctls={"kernel.msgmax": "1"}), host_network=True)


def test_files_are_mounted_over_the_images() -> None:
    got = config(spec(), files={"/etc/hosts": "/host/hosts"})["mounts"]
    assert got[-1]["destination"] == "/etc/hosts"
    assert got[-1]["source"] == "/host/hosts"
    assert got[-1]["options"] == ["rbind", "rprivate", "rw"]


def test_sysctls_hostname_and_read_only_are_taken_over() -> None:
    got = config(spec(sysctls={"net.core.somaxconn": "7"}, hostname="own", read_only=True))
    assert got["linux"]["sysctl"] == {"net.core.somaxconn": "7"}
    assert got["hostname"] == "own"
    assert got["root"] == {"readonly": True}


def test_every_container_has_a_filter_for_its_capabilities() -> None:
    def names(**capabilities: tuple[str, ...]) -> set[str]:
        allowed, *_ = config(spec(**capabilities))["linux"]["seccomp"]["syscalls"]
        return set(allowed["names"])

    assert {"openat", "execve", "arch_prctl", "chroot"} <= names()
    assert not {"init_module", "mount"} & names()
    assert "mount" in names(capability_add=("SYS_ADMIN",))
    assert "chroot" not in names(capability_drop=("SYS_CHROOT",))
