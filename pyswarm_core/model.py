"""The base of all specs and objects: frozen msgspec structs that print as Docker's JSON. PURE.

Field names are snake_case in code and proto; `docker_name` gives the key of the same field in
Docker's API, so that `inspect` output and `--format '{{.Spec.Name}}'` are what Docker users know.
`gc=False` is safe because values never form cycles, and saves the garbage collector from tracking a
million of them.
"""

from typing import Any

import msgspec

_INITIALISMS = {
    "id": "ID",
    "ipam": "IPAM",
    "nano_cpus": "NanoCPUs",
    "vni": "VNI",
    "tty": "TTY",
    "allow_fleet_api": "AllowFleetAPI",
    "mtu": "MTU",
    "os": "OS",
    "ip": "IP",
    "virtual_ips": "VirtualIPs",
    "task_ip": "TaskIP",
    "ip_range": "IPRange",
    "enable_ipv6": "EnableIPv6",
    "dns_config": "DNSConfig",
    "cpu": "CPU",
    "uid": "UID",
    "gid": "GID",
    "pid": "PID",
    "uts": "UTS",
    "oom": "OOM",
    "oom_score_adj": "OomScoreAdj",
    "oom_kill_disable": "OomKillDisable",
    "cpu_shares": "CpuShares",
    "cpu_period": "CpuPeriod",
    "cpu_quota": "CpuQuota",
    "blkio_device_read_iops": "BlkioDeviceReadIOps",
    "blkio_device_write_iops": "BlkioDeviceWriteIOps",
}


def docker_name(field: str) -> str:
    """`service_id` -> `ServiceID`, `nano_cpus` -> `NanoCPUs`."""
    if field in _INITIALISMS:
        return _INITIALISMS[field]
    return "".join(_INITIALISMS.get(word, word.capitalize()) for word in field.split("_"))


class Model(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename=docker_name):
    """Base of every value that users or the store see."""


def to_json_value(model: Model) -> dict[str, Any]:
    """The model as plain dicts, lists, strings and numbers, with Docker's keys."""
    value: dict[str, Any] = msgspec.to_builtins(model)
    return value
