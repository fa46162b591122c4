"""A controller's settings: one frozen value, made once at its start. PURE."""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from pyswarm_core.controlplane import split_address
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.identity.limits import AUDIT_BACKUPS, AUDIT_FILE_MIB, AUDIT_FILES_MAX
from pyswarm_core.limits import API_PORT, CONTROLLER_METRICS_PORT
from pyswarm_core.specs import ClusterSpec
from pyswarm_core.validation import cluster_problems, require
from pyswarm_core.validation.problem import Problem

ETCD_MIN = (3, 4)

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

    @property
    def named(self) -> tuple[str, ...]:
        """The options that are given, as `agent_grace=15000000000`."""
        return tuple(f"{name}={value}" for name, value in self._given())

    def applied_to(self, spec: ClusterSpec, former: Sequence[str] = ()) -> ClusterSpec:
        """The spec with these options, except those that are in `former`. Raises InvalidArgument if
        that is not allowed.
        """
        given = {name: value for name, value in self._given() if f"{name}={value}" not in former}
        changed = msgspec.structs.replace(spec, **given)
        problems = cluster_problems(changed)
        require([replace(each, field=_FLAGS.get(each.field, each.field)) for each in problems])
        return changed

    def _given(self) -> Iterator[tuple[str, Any]]:
        options = msgspec.structs.asdict(self).items()
        yield from ((name, value) for name, value in options if value is not None)


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
    encryption_key: Path | None = None
    """The key file of encryption at rest; None: the one in the state directory."""
    etcd: EtcdConfig = EtcdConfig()
    audit_files: FileLimits = FileLimits()
    registry_addr: str = ""
    """HOST:PORT at which nodes reach the fleet's registry; empty: this controller has none."""
    registry_dir: Path | None = None
    """Its images; None: in the state directory."""
    registry_quota: int = 0
    """Bytes of images above which it refuses pushes; 0: none."""
    metrics_addr: str = f"127.0.0.1:{CONTROLLER_METRICS_PORT}"
    health_addr: str = ""
    cluster: ClusterOptions = ClusterOptions()
    convert: bool = False
    """Give certificates to a fleet whose data was made by a version without them."""

    @property
    def registry_advertised(self) -> str:
        """HOST:PORT at which nodes reach the registry: where they reach the controller, unless it
        listens on one address.
        """
        found, own = split_address(self.registry_addr), split_address(self.advertise_addr)
        if found is None or own is None:
            return ""
        host = own[0] if found[0] in ("", "0.0.0.0", "::") else found[0]
        return f"[{host}]:{found[1]}" if ":" in host else f"{host}:{found[1]}"

    @property
    def key_file(self) -> Path:
        """The key file of encryption at rest."""
        return self.encryption_key or self.state_dir / "encryption.key"


def config_problems(config: Config) -> list[Problem]:
    """The problems that can be found before anything is changed."""
    listen = [address for address in config.listen if not address.startswith("unix:")]
    etcd = config.etcd
    problems = [
        *_addresses("--listen", listen),
        *_addresses("--advertise-addr", [config.advertise_addr]),
        *_addresses("--etcd-endpoints", map(_bare, etcd.endpoints)),
        *_addresses("--metrics-addr", filter(None, [config.metrics_addr])),
        *_addresses("--health-addr", filter(None, [config.health_addr])),
        *_addresses("--registry-addr", filter(None, [config.registry_addr])),
    ]
    if bool(etcd.cert_file) != bool(etcd.key_file):
        given = etcd.cert_file or etcd.key_file
        problems.append(Problem("--etcd-certfile", str(given), "expected --etcd-keyfile as well"))
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


def etcd_name(version: str) -> str:
    """`etcd 3.5.9`. Raises InvalidArgument for one that is too old."""
    numbers = version.split(".")[:2]
    if all(n.isdecimal() for n in numbers) and tuple(map(int, numbers)) < ETCD_MIN:
        least = ".".join(map(str, ETCD_MIN))
        raise InvalidArgument(
            f"--etcd-endpoints: etcd {version} is too old: expected {least} or later"
        )
    return f"etcd {version}"
