"""Which specs are allowed: every refusal names its field and says what would be valid."""

import string
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyswarm_core import specs
from pyswarm_core.clock import HOUR, SECOND
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.limits import REPLICAS_MAX, SPEC_BYTES_MAX
from pyswarm_core.validation import (
    Problem,
    cluster_problems,
    network_problems,
    node_problems,
    require,
    service_problems,
)
from pyswarm_core.validation.text import env_problems
from tests.fixtures import build

replace = msgspec.structs.replace
MIB = 1 << 20


def container(**changes: object) -> specs.ServiceSpec:
    spec = build.service("web").spec
    container_spec = replace(spec.task_template.container_spec, **changes)
    return replace(spec, task_template=replace(spec.task_template, container_spec=container_spec))


def template(**changes: object) -> specs.ServiceSpec:
    spec = build.service("web").spec
    return replace(spec, task_template=replace(spec.task_template, **changes))


def service(**changes: object) -> specs.ServiceSpec:
    return replace(build.service("web").spec, **changes)


def resources(**limits: Any) -> specs.ServiceSpec:
    return template(resources=specs.Resources(limits=specs.Limits(**limits)))


def reservations(**reserved: Any) -> specs.ServiceSpec:
    return template(resources=specs.Resources(reservations=specs.Reservations(**reserved)))


def placement(**changes: object) -> specs.ServiceSpec:
    return template(placement=replace(specs.Placement(), **changes))


def replicas(count: int) -> specs.ServiceMode:
    return specs.ReplicatedMode(replicas=count)


def limited_swap(swap_bytes: int) -> specs.Resources:
    return specs.Resources(limits=specs.Limits(memory_bytes=6 * MIB), swap_bytes=swap_bytes)


def joined(*targets: str, aliases: tuple[str, ...] = ()) -> specs.ServiceSpec:
    return template(
        networks=tuple(specs.NetworkAttachment(target=name, aliases=aliases) for name in targets)
    )


ALLOWED = {
    "plain": service(),
    "stack name": service(name="shop_web-1"),
    "full": container(
        image="registry:5000/team/web@sha256:" + "0" * 64,
        labels={"com.example.tier": "höhe\n2"},
        command=("/bin/sh", "-c"),
        args=("echo", "ünï\tcode", ""),
        env=("A=", "B=x=y", "C=line\nline", "UNSET"),
        dir="/srv/app",
        user="1000:1000",
        groups=("audio", "44"),
        hostname="web-1.example",
        stop_signal="SIGRTMIN+3",
        stop_grace_period=0,
        capability_add=("NET_ADMIN", "cap_sys_time"),
        capability_drop=("ALL",),
        sysctls={"net.core.somaxconn": "1024", "kernel.sem": "1\t2 3 4"},
        ulimits=(
            specs.Ulimit(name="nofile", soft=1024, hard=2048),
            specs.Ulimit(name="core", soft=-1, hard=-1),
        ),
        oom_score_adj=-500,
    ),
    "limits": resources(nano_cpus=10_000_000, memory_bytes=6 * MIB, pids=10),
    "reservations": reservations(nano_cpus=1_000_000, memory_bytes=4 * MIB),
    "no replicas": service(mode=replicas(0)),
    "global": service(mode=specs.GlobalMode()),
    "placement": placement(
        constraints=("node.labels.zone==a", "node.role != manager"),
        preferences=("node.labels.rack",),
        max_replicas=2,
    ),
    "networks": joined("app", "db", aliases=("front",)),
}


@pytest.mark.parametrize("spec", ALLOWED.values(), ids=ALLOWED.keys())
def test_what_docker_takes_is_allowed(spec: specs.ServiceSpec) -> None:
    assert service_problems(spec) == []


REFUSED = [
    ("--name", service(name="")),
    ("--name", service(name="web.1")),
    ("--name", service(name="-web")),
    ("--name", service(name="w" * 64)),
    ("--name", service(name="web\n")),
    ("--label", service(labels={"": "x"})),
    ("--label", service(labels={"a b": "x"})),
    ("--label", service(labels={"a\u200bb": "x"})),
    ("--label", service(labels={"a": "\x1b[2J"})),
    ("--replicas", service(mode=replicas(REPLICAS_MAX + 1))),
    ("--replicas", service(mode=replicas(-1))),
    ("image", container(image="")),
    ("image", container(image="Web")),
    ("image", container(image="web; rm -rf /")),
    ("--container-label", container(labels={"a=b": ""})),
    ("--entrypoint", container(command=("",))),
    ("args", container(args=("a\0b",))),
    ("--env", container(env=("A B",))),
    ("--env", container(env=("=value",))),
    ("--env", container(env=("A B=c",))),
    ("--env", container(env=("A=\0",))),
    ("--workdir", container(dir="srv")),
    ("--workdir", container(dir="/a\0")),
    ("--user", container(user="a b")),
    ("--group", container(groups=("",))),
    ("--hostname", container(hostname="-a")),
    ("--hostname", container(hostname="a" * 65)),
    ("--stop-signal", container(stop_signal="SIGNOW")),
    ("--stop-signal", container(stop_signal="65")),
    ("--stop-grace-period", container(stop_grace_period=-SECOND)),
    ("--cap-add", container(capability_add=("FLY",))),
    ("--cap-drop", container(capability_drop=("",))),
    ("--sysctl", container(sysctls={"kernel.panic": "1"})),
    ("--sysctl", container(sysctls={"net.core.somaxconn": "1\n2"})),
    ("--ulimit", container(ulimits=(specs.Ulimit(name="files", soft=1, hard=1),))),
    ("--ulimit", container(ulimits=(specs.Ulimit(name="nofile", soft=2, hard=1),))),
    ("--ulimit", container(ulimits=(specs.Ulimit(name="nofile", soft=-1, hard=1),))),
    ("--oom-score-adj", container(oom_score_adj=1001)),
    ("--limit-cpu", resources(nano_cpus=9_999_999)),
    ("--limit-cpu", resources(nano_cpus=-1)),
    ("--limit-memory", resources(memory_bytes=6 * MIB - 1)),
    ("--limit-memory", resources(memory_bytes=-1)),
    ("--limit-memory", resources(memory_bytes=2**48 + 1)),
    ("--limit-memory", resources(memory_bytes=2**63 - 1)),
    ("--limit-cpu", resources(nano_cpus=65_536 * 10**9 + 1)),
    ("--limit-pids", resources(pids=-1)),
    ("--reserve-cpu", reservations(nano_cpus=1)),
    ("--reserve-memory", reservations(memory_bytes=1)),
    ("--reserve-cpu", reservations(nano_cpus=2**63 - 1)),
    ("--reserve-memory", reservations(memory_bytes=2**48 + 1)),
    ("--memory-swap", template(resources=specs.Resources(swap_bytes=-2))),
    ("--memory-swap", template(resources=limited_swap(2**48 + 1))),
    ("--memory-swap", template(resources=specs.Resources(swap_bytes=MIB))),
    ("--memory-swappiness", template(resources=specs.Resources(memory_swappiness=101))),
    ("--restart-delay", template(restart_policy=specs.RestartPolicy(delay=-1))),
    ("--restart-window", template(restart_policy=specs.RestartPolicy(window=-1))),
    ("--restart-max-attempts", template(restart_policy=specs.RestartPolicy(max_attempts=-1))),
    (
        "--restart-max-attempts",
        template(restart_policy=specs.RestartPolicy(max_attempts=101, window=SECOND)),
    ),
    ("--constraint", placement(constraints=("node.labels.zone=a",))),
    ("--constraint", placement(constraints=("node.colour==red",))),
    ("--constraint", placement(constraints=("node.id==" + "a" * 600,))),
    ("--constraint", placement(constraints=("node.id==\x1b[2J",))),
    ("--constraint", placement(constraints=("node.role==worker",) * 65)),
    ("--placement-pref", placement(preferences=("zone",))),
    ("--placement-pref", placement(preferences=("node.labels.ü",))),
    ("--placement-pref", placement(preferences=("spread=node.labels.a",))),
    ("--placement-pref", placement(preferences=("node.labels.a",) * 9)),
    ("--replicas-max-per-node", placement(max_replicas=-1)),
    ("--network", joined("")),
    ("--network", joined("app", "app")),
    ("--network", joined(*(f"n{number}" for number in range(17)))),
    ("--network", joined("app", aliases=("a b",))),
    ("service", service(labels={"big": "x" * SPEC_BYTES_MAX})),
]


@pytest.mark.parametrize(
    ("field", "spec"), REFUSED, ids=[f"{n}-{field}" for n, (field, _) in enumerate(REFUSED)]
)
def test_what_is_wrong_is_named_by_its_field(field: str, spec: specs.ServiceSpec) -> None:
    problems = service_problems(spec)
    assert problems
    assert {problem.field for problem in problems} == {field}
    for problem in problems:
        assert str(problem).isprintable()
        assert problem.expected
        assert len(str(problem)) < 600


def test_memory_and_cpus_are_bounded_and_the_error_names_the_maximum() -> None:
    most = specs.Resources(
        limits=specs.Limits(nano_cpus=65_536_000_000_000, memory_bytes=281_474_976_710_656),
        reservations=specs.Reservations(
            nano_cpus=65_536_000_000_000, memory_bytes=281_474_976_710_656
        ),
        swap_bytes=281_474_976_710_656,
    )
    assert service_problems(template(resources=most)) == []
    assert most.limits.memory_bytes + most.swap_bytes < 2**63
    beyond = specs.Resources(
        limits=specs.Limits(nano_cpus=2**63 - 1, memory_bytes=2**63 - 1),
        reservations=specs.Reservations(nano_cpus=2**63 - 1, memory_bytes=2**63 - 1),
        swap_bytes=2**63 - 1,
    )
    assert [problem.expected for problem in service_problems(template(resources=beyond))] == [
        "expected 0, or 0.01 to 65536",
        "expected 0, or 0.001 to 65536",
        "expected 0, or 6MiB to 256TiB",
        "expected 0, or 4MiB to 256TiB",
        "expected -1 for unlimited, or 0B to 256TiB",
    ]


def test_a_global_service_has_no_cap_per_node() -> None:
    spec = replace(placement(max_replicas=1), mode=specs.GlobalMode())
    assert [problem.field for problem in service_problems(spec)] == ["--replicas-max-per-node"]


@pytest.mark.parametrize("entry", ["=hunter2", "DB PASSWORD=hunter2", "A=hunter2\0"])
def test_errors_about_the_environment_quote_no_value(entry: str) -> None:
    problems = list(env_problems((entry,)))
    assert [problem.field for problem in problems] == ["--env"]
    assert "hunter2" not in repr(problems)


def test_problems_are_raised_together_and_not_without_end() -> None:
    require([])
    many = [Problem("--env", f"{number}", "expected NAME=VALUE") for number in range(12)]
    with pytest.raises(InvalidArgument, match=r'--env: value "0" is not valid: .*; and 2 more$'):
        require(many)


@given(st.text(max_size=80))
def test_prop_no_name_is_allowed_that_is_not_plain_ascii(name: str) -> None:
    problems = service_problems(service(name=name))
    plain = set(name) <= set(string.ascii_letters + string.digits + "-_")
    assert problems or (plain and 1 <= len(name) <= 63)
    assert all(str(problem).isprintable() for problem in problems)


@given(st.text(max_size=200))
def test_prop_no_text_in_any_field_breaks_validation(text: str) -> None:
    spec = container(
        image=text, env=(text,), args=(text,), user=text, hostname=text, stop_signal=text, dir=text
    )
    for problem in service_problems(spec):
        assert str(problem).isprintable()


@pytest.mark.parametrize(
    ("field", "spec"),
    [
        ("name", specs.NetworkSpec(name="a b")),
        ("name", specs.NetworkSpec(name="")),
        ("--driver", specs.NetworkSpec(name="app", driver="bridge")),
        ("--opt", specs.NetworkSpec(name="app", mtu=100)),
        ("--label", specs.NetworkSpec(name="app", labels={"a b": ""})),
        ("--ipam-driver", specs.NetworkSpec(name="app", ipam=specs.Ipam(driver="cloud"))),
        *(
            (
                "--subnet",
                specs.NetworkSpec(
                    name="app", ipam=specs.Ipam(config=(specs.IpamConfig(subnet=subnet),))
                ),
            )
            for subnet in (
                "10.0.0.1/8",
                "10.0.0.0/30",
                "10.0.0.0/33",
                "0.0.0.0/8",
                "127.0.0.0/16",
                "224.0.0.0/8",
                "169.254.0.0/16",
                "fd00::/64",
                "10.0.0.0/16\n",
                "x" * 1_000,
            )
        ),
    ],
)
def test_network_problems_are_named(field: str, spec: specs.NetworkSpec) -> None:
    assert [problem.field for problem in network_problems(spec)] == [field]


def test_a_network_may_choose_its_subnet() -> None:
    ipam = specs.Ipam(config=(specs.IpamConfig(subnet="10.5.0.0/24"),))
    assert network_problems(specs.NetworkSpec(name="app.net_1", ipam=ipam, mtu=1400)) == []


def test_a_node_has_one_of_two_roles_and_clean_labels() -> None:
    assert node_problems(specs.NodeSpec(labels={"zone": "a"})) == []
    bad = specs.NodeSpec(labels={"a b": "c"}, role="king")
    assert [problem.field for problem in node_problems(bad)] == ["--label", "--role"]


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("--name", {"name": ""}),
        ("--dispatcher-heartbeat", {"heartbeat_period": 0}),
        ("--task-history-limit", {"task_history_limit": -1}),
        ("--data-path-port", {"data_path_port": 80}),
        ("--default-addr-pool", {"default_address_pool": ()}),
        ("--default-addr-pool", {"default_address_pool": ("x",)}),
        ("--default-addr-pool", {"default_address_pool": ("10.0.0.0/8", "10.1.0.0/16")}),
        ("--cert-expiry", {"cert_expiry": 5 * SECOND - 1}),
        ("--cert-expiry", {"cert_expiry": 365 * 24 * HOUR + 1}),
        ("--default-addr-pool-mask-length", {"subnet_size": 8}),
        ("--default-addr-pool-mask-length", {"subnet_size": 30}),
    ],
)
def test_cluster_problems_are_named(field: str, changes: dict[str, object]) -> None:
    spec = replace(specs.ClusterSpec(), **changes)
    assert [problem.field for problem in cluster_problems(spec)] == [field]


def test_the_default_cluster_is_allowed() -> None:
    assert cluster_problems(specs.ClusterSpec()) == []
