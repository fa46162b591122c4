"""Every key that the table of fates maps becomes something: a case each."""

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from compose.keys.fates import SERVICE_FATES, TOP_FATES, Kind
from pyswarm_core.model import docker_name
from tests.fixtures.mapping import mapped, service_of

C, R, T = "task_template.container_spec.", "task_template.resources.", "task_template."
L = R + "limits."
TOP = (
    "networks: {n: , m: }\nvolumes: {v: }\nsecrets: {s: {environment: S}}\n"
    "configs: {c: {content: d}}\n"
)

CASES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "annotations": ("annotations: [a=1]", {C + "annotations": {"a": "1"}}),
    "blkio_config": (
        "blkio_config: {weight: 300, weight_device: [{path: /dev/sda, weight: 400}],"
        " device_read_bps: [{path: /dev/sda, rate: 12mb}],"
        " device_write_bps: [{path: /dev/sda, rate: 1k}],"
        " device_read_iops: [{path: /dev/sda, rate: 20}],"
        " device_write_iops: [{path: /dev/sda, rate: 30}]}",
        {
            L + "blkio_weight": 300,
            L + "blkio_weight_device": [{"Path": "/dev/sda", "Weight": 400}],
            L + "blkio_device_read_bps": [{"Path": "/dev/sda", "Rate": 12 << 20}],
            L + "blkio_device_write_bps": [{"Path": "/dev/sda", "Rate": 1024}],
            L + "blkio_device_read_iops": [{"Path": "/dev/sda", "Rate": 20}],
            L + "blkio_device_write_iops": [{"Path": "/dev/sda", "Rate": 30}],
        },
    ),
    "cap_add": (
        "cap_add: [SYS_TIME, net_admin, CAP_SYS_TIME]",
        {C + "capability_add": ["CAP_NET_ADMIN", "CAP_SYS_TIME"]},
    ),
    "cap_drop": (
        "cap_drop: [NET_RAW, ALL]\ncap_add: [NET_RAW]",
        {C + "capability_drop": ["ALL"], C + "capability_add": ["CAP_NET_RAW"]},
    ),
    "cgroup": ("cgroup: private", {C + "cgroupns_mode": "private"}),
    "command": ("command: serve 'a b'", {C + "args": ["serve", "a b"]}),
    "configs": (
        "configs: [{source: c, target: /etc/c, uid: '1', gid: '2', mode: 0400}]",
        {
            C + "configs.0.config_name": "shop_c",
            C + "configs.0.file": {"Name": "/etc/c", "UID": "1", "GID": "2", "Mode": 0o400},
        },
    ),
    "container_name": ("container_name: one", {T + "networks.0.aliases": ["a", "one"]}),
    "cpu_count": ("cpu_count: 2", {L + "nano_cpus": 2 * 10**9}),
    "cpu_period": (
        "cpu_period: 50000\ncpu_quota: 25000",
        {L + "cpu_period": 50_000, L + "cpu_quota": 25_000},
    ),
    "cpu_quota": ("cpu_quota: 25000", {L + "cpu_quota": 25_000}),
    "cpu_shares": ("cpu_shares: 512", {L + "cpu_shares": 512}),
    "cpus": ("cpus: '0.50'\ncpu_count: 3", {L + "nano_cpus": 5 * 10**8}),
    "cpuset": ("cpuset: 0,2-3", {L + "cpuset_cpus": "0,2-3"}),
    "depends_on": (
        "depends_on: {b: {condition: service_healthy, restart: true, required: false}}",
        {
            "depends_on": [
                {
                    "Service": "shop_b",
                    "Condition": "service_healthy",
                    "Restart": True,
                    "Required": False,
                }
            ]
        },
    ),
    "deploy.endpoint_mode": ("deploy: {endpoint_mode: dnsrr}", {"endpoint_spec.mode": "dnsrr"}),
    "deploy.labels": ("deploy: {labels: {l: m}}", {"labels.l": "m"}),
    "deploy.mode": ("deploy: {mode: global}", {"mode.type": "global"}),
    "deploy.placement": (
        "deploy: {placement: {constraints: [node.role == worker],"
        " preferences: [{spread: node.labels.z}], max_replicas_per_node: 2}}",
        {
            T + "placement.constraints": ["node.role == worker"],
            T + "placement.preferences": ["node.labels.z"],
            T + "placement.max_replicas": 2,
        },
    ),
    "deploy.replicas": ("deploy: {replicas: 0}", {"mode.Replicas": 0}),
    "deploy.resources": (
        "deploy: {resources: {limits: {cpus: 0.5, memory: 50m, pids: 9},"
        " reservations: {cpus: 0.25, memory: 20m,"
        " generic_resources: [{discrete_resource_spec: {kind: disk, value: 2}}],"
        " devices: [{capabilities: [gpu], count: 2}]}}}",
        {
            L + "nano_cpus": 5 * 10**8,
            L + "memory_bytes": 50 << 20,
            L + "pids": 9,
            R + "reservations.nano_cpus": 25 * 10**7,
            R + "reservations.memory_bytes": 20 << 20,
            R + "reservations.generic_resources.0.discrete_resource_spec": {
                "Kind": "disk",
                "Value": 2,
            },
            C + "devices.1.path_on_host": "nvidia.com/gpu=1",
        },
    ),
    "deploy.restart_policy": (
        "deploy: {restart_policy: {condition: on-failure, delay: 1s, max_attempts: 3, window: 2m}}",
        {
            T + "restart_policy.condition": "on-failure",
            T + "restart_policy.delay": 10**9,
            T + "restart_policy.max_attempts": 3,
            T + "restart_policy.window": 120 * 10**9,
        },
    ),
    "deploy.rollback_config": (
        "deploy: {rollback_config: {parallelism: 0, order: start-first}}",
        {"rollback_config.parallelism": 0, "rollback_config.order": "start-first"},
    ),
    "deploy.update_config": (
        "deploy: {update_config: {parallelism: 2, delay: 10s, failure_action: rollback,"
        " monitor: 1m, max_failure_ratio: 0.1, order: start-first}}",
        {
            "update_config": {
                "Parallelism": 2,
                "Delay": 10 * 10**9,
                "FailureAction": "rollback",
                "Monitor": 60 * 10**9,
                "MaxFailureRatio": 0.1,
                "Order": "start-first",
            }
        },
    ),
    "device_cgroup_rules": (
        "device_cgroup_rules: [c 1:3 mr]",
        {C + "device_cgroup_rules": ["c 1:3 mr"]},
    ),
    "devices": (
        "devices: ['/dev/ttyUSB0:/dev/tty0:r']",
        {
            C + "devices": [
                {
                    "PathOnHost": "/dev/ttyUSB0",
                    "PathInContainer": "/dev/tty0",
                    "CgroupPermissions": "r",
                }
            ]
        },
    ),
    "dns": ("dns: 10.0.0.53", {C + "dns_config.nameservers": ["10.0.0.53"]}),
    "dns_opt": ("dns_opt: [ndots:2]", {C + "dns_config.options": ["ndots:2"]}),
    "dns_search": ("dns_search: a.example", {C + "dns_config.search": ["a.example"]}),
    "domainname": (
        "domainname: example.org",
        {C + "sysctls": {"kernel.domainname": "example.org"}, C + "hostname": ""},
    ),
    "entrypoint": ("entrypoint: [a, b]", {C + "command": ["a", "b"]}),
    "environment": ("environment: {B: '2', A: , C: ''}", {C + "env": ["A", "B=2", "C="]}),
    "extra_hosts": (
        "extra_hosts: [db=10.0.0.5, 'six:[fd00::1]', up:host-gateway]",
        {C + "hosts": ["10.0.0.5 db", "fd00::1 six", "host-gateway up"]},
    ),
    "gpus": ("gpus: all", {C + "devices.0.path_on_host": "nvidia.com/gpu=all"}),
    "group_add": ("group_add: [mail, 44]", {C + "groups": ["mail", "44"]}),
    "healthcheck": (
        "healthcheck: {test: probe, interval: 1m, timeout: 2s, retries: 4, start_period: 3s,"
        " start_interval: 500ms}",
        {
            C + "healthcheck": {
                "Test": ["CMD-SHELL", "probe"],
                "Interval": 60 * 10**9,
                "Timeout": 2 * 10**9,
                "Retries": 4,
                "StartPeriod": 3 * 10**9,
                "StartInterval": 5 * 10**8,
            }
        },
    ),
    "hostname": ("hostname: box\ndomainname: example.org", {C + "hostname": "box.example.org"}),
    "image": ("init: false", {C + "image": "x", "labels.com\0docker\0stack\0image": "x"}),
    "init": ("init: true", {C + "init": True}),
    "ipc": ("ipc: host", {C + "ipc_mode": "host"}),
    "labels": ("labels: {l: m}", {C + "labels.l": "m"}),
    "links": ("links: [b:data]", {"depends_on.0.service": "shop_b"}),
    "logging": (
        "logging: {driver: local, options: {max-size: 1m}}",
        {T + "log_driver": {"Name": "local", "Options": {"max-size": "1m"}}},
    ),
    "mem_limit": ("mem_limit: 512m", {L + "memory_bytes": 512 << 20}),
    "mem_reservation": ("mem_reservation: 64m", {R + "reservations.memory_bytes": 64 << 20}),
    "mem_swappiness": ("mem_swappiness: 10", {R + "memory_swappiness": 10}),
    "memswap_limit": ("memswap_limit: 1g\nmem_limit: 512m", {R + "swap_bytes": 512 << 20}),
    "network_mode": (
        "network_mode: host",
        {T + "networks": [{"Target": "host", "Aliases": [], "IP": "", "TaskIP": ""}]},
    ),
    "networks": (
        "networks: {n: {aliases: [x], ipv4_address: 10.1.0.9}, m: }",
        {
            T + "networks": [
                {"Target": "shop_m", "Aliases": ["a"], "IP": "", "TaskIP": ""},
                {"Target": "shop_n", "Aliases": ["x", "a"], "IP": "10.1.0.9", "TaskIP": ""},
            ]
        },
    ),
    "oom_score_adj": ("oom_score_adj: -500", {C + "oom_score_adj": -500}),
    "pid": ("pid: host", {C + "pid_mode": "host"}),
    "pids_limit": ("pids_limit: 20", {L + "pids": 20}),
    "platform": (
        "platform: linux/arm64/v8",
        {T + "placement.constraints": ["node.platform.os==linux", "node.platform.arch==arm64"]},
    ),
    "ports": (
        "ports: ['127.0.0.1:8000-8001:80/udp', {target: 81, published: 82, mode: host}, 9]",
        {
            "endpoint_spec.ports": [
                ("127.0.0.1", 8000, 80, "udp", "ingress"),
                ("127.0.0.1", 8001, 80, "udp", "ingress"),
                ("", 82, 81, "tcp", "host"),
                ("", 0, 9, "tcp", "ingress"),
            ]
        },
    ),
    "privileged": ("privileged: true", {C + "privileged": True}),
    "read_only": ("read_only: true", {C + "read_only": True}),
    "restart": (
        "restart: on-failure:3",
        {T + "restart_policy.condition": "on-failure", T + "restart_policy.max_attempts": 3},
    ),
    "scale": ("scale: 3", {"mode.Replicas": 3}),
    "secrets": (
        "secrets: [{source: s, target: t, mode: 0440}, {source: s, target: /etc/k}]",
        {
            C + "secrets.0.secret_name": "shop_s",
            C + "secrets.0.file": {"Name": "t", "UID": "0", "GID": "0", "Mode": 0o440},
            C + "secrets.1.file.name": "/etc/k",
        },
    ),
    "security_opt": (
        "security_opt: ['no-new-privileges:true', seccomp=unconfined]",
        {C + "security_opt": ["no-new-privileges=true", "seccomp=unconfined"]},
    ),
    "shm_size": ("shm_size: 64m", {C + "shm_size": 64 << 20}),
    "stdin_open": ("stdin_open: true", {C + "open_stdin": True}),
    "stop_grace_period": ("stop_grace_period: 90s", {C + "stop_grace_period": 90 * 10**9}),
    "stop_signal": ("stop_signal: SIGUSR1", {C + "stop_signal": "SIGUSR1"}),
    "sysctls": ("sysctls: {net.core.somaxconn: 1}", {C + "sysctls": {"net.core.somaxconn": "1"}}),
    "tmpfs": ("tmpfs: ['/run:size=1m', /t]", {C + "tmpfs": {"/run": "size=1m", "/t": ""}}),
    "tty": ("tty: true", {C + "tty": True}),
    "ulimits": (
        "ulimits: {nproc: 9, nofile: {soft: 1, hard: 2}, core: -1}",
        {
            C + "ulimits": [
                {"Name": "core", "Soft": -1, "Hard": -1},
                {"Name": "nofile", "Soft": 1, "Hard": 2},
                {"Name": "nproc", "Soft": 9, "Hard": 9},
            ]
        },
    ),
    "user": ("user: '1000:1000'", {C + "user": "1000:1000"}),
    "userns_mode": ("userns_mode: host", {C + "userns_mode": "host"}),
    "uts": ("uts: host", {C + "uts_mode": "host"}),
    "volumes": (
        "volumes: ['v:/data:ro', /srv/a:/a]",
        {C + "mounts.0.source": "/srv/a", C + "mounts.1.source": "shop_v"},
    ),
    "volumes_from": ("volumes_from: [b]", {"depends_on.0.service": "shop_b"}),
    "working_dir": ("working_dir: /w", {C + "dir": "/w"}),
}
"""Key -> lines of a service, and fields of its spec."""
NOTHING = {"expose"}
PARTLY = {
    "cgroup",
    "container_name",
    "deploy.mode",
    "ipc",
    "links",
    "network_mode",
    "pid",
    "uts",
    "volumes_from",
}
"""Keys that have other fates as well."""
TOP_CASES: Mapping[str, tuple[str, str, Mapping[str, Any]]] = {
    "networks": (
        "networks: [n]",
        "networks: {n: {driver: overlay, internal: true, attachable: true, enable_ipv6: true,"
        " labels: [l=m], driver_opts: {encrypted: '', com.docker.network.driver.mtu: 1400},"
        " ipam: {config: [{subnet: 10.1.0.0/16, gateway: 10.1.0.1, ip_range: 10.1.4.0/24},"
        " {subnet: 'fd77::/64'}]}}}",
        {
            "networks.0.name": "shop_n",
            "networks.0.internal": True,
            "networks.0.attachable": True,
            "networks.0.enable_ipv6": True,
            "networks.0.encrypted": True,
            "networks.0.mtu": 1400,
            "networks.0.labels.l": "m",
            "networks.0.labels.com\0docker\0compose\0network": "n",
            "networks.0.ipam.config.0": {
                "Subnet": "10.1.0.0/16",
                "Gateway": "10.1.0.1",
                "IPRange": "10.1.4.0/24",
            },
            "networks.0.ipam.config.1.subnet": "fd77::/64",
        },
    ),
    "volumes": (
        "volumes: [v:/v]",
        "volumes: {v: {name: own, driver: nfs, driver_opts: {share: '10.0.0.9:/s'},"
        " labels: [l=m]}}",
        {
            "volumes.0.name": "own",
            "volumes.0.driver": "nfs",
            "volumes.0.driver_opts": {"share": "10.0.0.9:/s"},
            "volumes.0.placement": "any",
            "volumes.0.labels.l": "m",
            "volumes.0.labels.com\0docker\0compose\0volume": "v",
        },
    ),
    "secrets": (
        "secrets: [s]",
        "secrets: {s: {environment: S, labels: [l=m], template_driver: golang}}",
        {
            "secrets.0.spec.name": "shop_s",
            "secrets.0.spec.labels.l": "m",
            "secrets.0.spec.templating.name": "golang",
            "secrets.0.data": "dg==",
        },
    ),
    "configs": (
        "configs: [c]",
        "configs: {c: {content: text}}",
        {"configs.0.spec.name": "shop_c", "configs.0.data": "dGV4dA=="},
    ),
    "services": ("", "", {"services.0.name": "shop_a"}),
}


def field(value: Any, path: str) -> Any:
    """What is at a path of a plain spec; a NUL stands for a dot of a name."""
    for part in path.split("."):
        if isinstance(value, list):
            value = value[int(part)]
            continue
        name = part.replace("\0", ".")
        value = value[name] if name in value else value[docker_name(part)]
    return value


def json(value: msgspec.Struct) -> Any:
    return msgspec.json.decode(msgspec.json.encode(value))


def shown(value: Any) -> Any:
    if (
        isinstance(value, list)
        and value
        and isinstance(value[0], dict)
        and "TargetPort" in value[0]
    ):
        keys = "HostIP", "PublishedPort", "TargetPort", "Protocol", "PublishMode"
        return [tuple(port[key] for key in keys) for port in value]
    return value


@pytest.mark.parametrize("key", CASES)
def test_a_key_becomes_fields(key: str) -> None:
    lines, wanted = CASES[key]
    spec = json(service_of(lines, TOP, environ={"S": "v"}))
    for path, value in wanted.items():
        assert shown(field(spec, path)) == value, path


@pytest.mark.parametrize("key", TOP_CASES)
def test_a_section_becomes_objects(key: str) -> None:
    lines, top, wanted = TOP_CASES[key]
    file = f"services:\n  a:\n    image: x\n    {lines}\n{top}\n"
    spec = json(mapped(file, environ={"S": "v"}).spec)
    for path, value in wanted.items():
        assert field(spec, path) == value, path


def test_every_mapped_key_has_a_case() -> None:
    wanted = {key for key, fate in SERVICE_FATES.items() if fate.kind is Kind.MAPPED}
    assert {*CASES, *NOTHING} - PARTLY == wanted
    tops = {key for key, fate in TOP_FATES.items() if fate.kind is Kind.MAPPED}
    assert {*TOP_CASES} == tops
