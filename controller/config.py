"""A controller's settings: one frozen value, made once at its start. PURE."""

import re
from collections.abc import Iterable
from pathlib import Path

import msgspec
from msgspec.structs import replace

from pyswarm_core.limits import (
    API_PORT,
    AUDIT_BACKUPS,
    AUDIT_FILE_MIB,
    AUDIT_FILES_MAX,
    CONTROLLER_METRICS_PORT,
)
from pyswarm_core.specs import ClusterSpec
from pyswarm_core.validation import cluster_problems, require
from pyswarm_core.validation.problem import Problem

_ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s:/\[\]]*):(\d{1,5})")

_FLAGS = {
    "--default-addr-pool-mask-length": "--subnet-size",
    "--dispatcher-heartbeat": "--heartbeat-period",
}
"""Docker's names of flags, and the controller's."""


class EtcdConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The etcd to use; without endpoints the controller starts its own."""

    endpoints: tuple[str, ...] = ()
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    username: str = ""
    password: str = ""
    prefix: str = "/pyswarm"


class ClusterOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of the fleet among the flags of this start; None keeps the stored value."""

    heartbeat_period: int | None = None
    agent_grace: int | None = None
    task_history_limit: int | None = None
    default_address_pool: tuple[str, ...] | None = None
    subnet_size: int | None = None
    data_path_port: int | None = None

    def applied_to(self, spec: ClusterSpec) -> ClusterSpec:
        """The spec with these options. Raises InvalidArgument if that is not allowed."""
        given = msgspec.structs.asdict(self).items()
        named = {name: value for name, value in given if value is not None}
        changed = msgspec.structs.replace(spec, **named)
        problems = cluster_problems(changed)
        require([replace(each, field=_FLAGS.get(each.field, each.field)) for each in problems])
        return changed


class FileLimits(msgspec.Struct, frozen=True):
    """The bounds of the files of the audit log."""

    max_size: int = AUDIT_FILE_MIB
    """MiB of a file before it is rotated."""
    max_backups: int = AUDIT_BACKUPS
    """Rotated files that are kept: `audit.log.1` is the newest."""


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """A controller's settings; `python -m controller --help` explains each."""

    state_dir: Path
    name: str
    listen: tuple[str, ...] = (f"0.0.0.0:{API_PORT}",)
    advertise_addr: str
    """host:port at which agents, users and other controllers reach this one."""
    etcd: EtcdConfig = EtcdConfig()
    audit_files: FileLimits = FileLimits()
    metrics_addr: str = f"127.0.0.1:{CONTROLLER_METRICS_PORT}"
    cluster: ClusterOptions = ClusterOptions()


def config_problems(config: Config) -> list[Problem]:
    """The problems that can be found before anything is changed."""
    listen = [address for address in config.listen if not address.startswith("unix:")]
    etcd = config.etcd
    problems = [
        *_addresses("--listen", listen),
        *_addresses("--advertise-addr", [config.advertise_addr]),
        *_addresses("--etcd-endpoints", map(_bare, etcd.endpoints)),
        *_addresses("--metrics-addr", filter(None, [config.metrics_addr])),
    ]
    if bool(etcd.cert_file) != bool(etcd.key_file):
        given = etcd.cert_file or etcd.key_file
        problems.append(Problem("--etcd-cert", str(given), "expected --etcd-key as well"))
    files = config.audit_files
    for flag, number in (
        ("--audit-log-maxsize", files.max_size),
        ("--audit-log-maxbackup", files.max_backups),
    ):
        if not 1 <= number <= AUDIT_FILES_MAX:
            problems.append(Problem(flag, str(number), f"expected 1 to {AUDIT_FILES_MAX}"))
    if not config.name:
        problems.append(Problem("--name", "", "expected a name that no other controller has"))
    return problems


def _bare(endpoint: str) -> str:
    """An endpoint of etcd without its scheme."""
    return endpoint.removeprefix("http://").removeprefix("https://")


def _addresses(field: str, addresses: Iterable[str]) -> Iterable[Problem]:
    return [
        Problem(field, address, "expected HOST:PORT")
        for address in addresses
        if not _ADDRESS.fullmatch(address)
    ]
