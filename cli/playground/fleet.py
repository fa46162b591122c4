"""A playground's names, addresses and paths, and the file that stores it. SHELL.

network namespaces   <name>-lan (the bridge), <name>-host1, <name>-host2, …
mount namespaces     of each host: its own /etc, /run and /var/lib
underlay             10.99.0.0/24; host N is .N, the bridge .250
cgroups              /pyswarm-<name>/<host>/{daemons,containers}

A cgroup cannot be named `tasks`: every cgroup of v1 has a file of that name.
"""

import re
from pathlib import Path

import msgspec

from cli.errors import parsed
from pyswarm_core.docker.units import human_size, parse_cpus, parse_size
from pyswarm_core.errors import NotFound, invalid, quoted
from pyswarm_core.limits import NODE_MEMORY_MAX

STATE_ROOT = Path("/var/lib/pyswarm/playground")
RUN_ROOT = Path("/run/pyswarm/playground")
NETNS_ROOT = Path("/run/netns")
HOSTS_MAX = 200
DISK_MIN = 192 << 20
"""etcd's first files on host1 are 128 MiB."""
UNDERLAY = "10.99.0"
GATEWAY = f"{UNDERLAY}.250"
"""The bridge. Agents accept registries without TLS there."""

_NAME = re.compile(r"[a-z][a-z0-9]{0,11}")


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """A host of a playground."""

    fleet: str
    number: int

    @property
    def name(self) -> str:
        return f"host{self.number}"

    @property
    def address(self) -> str:
        return f"{UNDERLAY}.{self.number}"

    @property
    def netns(self) -> str:
        return f"{self.fleet}-{self.name}"

    @property
    def netns_path(self) -> Path:
        return NETNS_ROOT / self.netns

    @property
    def mountns_path(self) -> Path:
        return self.run_dir / "mount.namespace"

    @property
    def state_dir(self) -> Path:
        """The host's disk, which survives a power loss."""
        return STATE_ROOT / self.fleet / self.name

    @property
    def root(self) -> Path:
        """The directory of its /etc and /var/lib on its disk."""
        return self.state_dir / "root"

    @property
    def run_dir(self) -> Path:
        """The directory that does not survive a power loss."""
        return RUN_ROOT / self.fleet / self.name

    @property
    def cgroup(self) -> str:
        return f"/pyswarm-{self.fleet}/{self.name}"


class Fleet(msgspec.Struct, frozen=True, kw_only=True):
    """A playground. The first host also runs the controller and its etcd."""

    name: str
    nodes: int
    cpus: str = ""
    memory: str = ""
    disk: int = 0
    """Bytes of each host's disk; 0: those of the machine's disk."""
    killed: tuple[str, ...] = ()
    """Hosts without power."""
    cut: tuple[str, ...] = ()
    """Hosts disconnected from the underlay."""

    @property
    def hosts(self) -> tuple[Host, ...]:
        return tuple(Host(fleet=self.name, number=n) for n in range(1, self.nodes + 1))

    @property
    def lan(self) -> str:
        """The namespace of the bridge."""
        return f"{self.name}-lan"

    @property
    def cgroup(self) -> str:
        return f"/pyswarm-{self.name}"

    @property
    def state_dir(self) -> Path:
        return STATE_ROOT / self.name

    @property
    def run_dir(self) -> Path:
        return RUN_ROOT / self.name

    @property
    def is_here(self) -> bool:
        """Whether the run directory is mounted in this mount namespace, as since `up`."""
        return self.run_dir.is_mount()

    @property
    def socket(self) -> Path:
        """The controller's socket on this machine."""
        return self.run_dir / "pyswarm.sock"

    def host(self, name: str) -> Host:
        """The host of that name. Raises NotFound."""
        for host in self.hosts:
            if host.name == name:
                return host
        names = ", ".join(host.name for host in self.hosts)
        raise NotFound(
            f"playground {self.name} has no host {quoted(name)}: expected one of {names}"
        )


def check(name: str) -> None:
    """Validate the name. Raises InvalidArgument."""
    if not _NAME.fullmatch(name):
        raise invalid("--name", name, "expected 1 to 12 of a-z 0-9, a letter first")


def check_resources(cpus: str, memory: str) -> None:
    """Validate what each host offers; empty: all that it has. Raises InvalidArgument."""
    for flag, text, parse in (("--cpus", cpus, parse_cpus), ("--memory", memory, parse_size)):
        if text and not parsed(flag, parse, text):
            raise invalid(flag, text, "expected more than 0")


def disk_bytes(text: str) -> int:
    """`--disk` in bytes; 0 if it is empty. Raises InvalidArgument."""
    if not text:
        return 0
    size = parsed("--disk", parse_size, text)
    if size < DISK_MIN:
        expected = f"expected {human_size(DISK_MIN)} to {human_size(NODE_MEMORY_MAX)}"
        raise invalid("--disk", text, expected)
    return size


def load(name: str) -> Fleet:
    """The playground of that name. Raises NotFound."""
    path = STATE_ROOT / name / "playground.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=Fleet)
    except FileNotFoundError as error:
        raise NotFound(
            f"no playground {quoted(name)} is up: run `pyswarm playground up --name {name}`"
        ) from error


def save(fleet: Fleet) -> None:
    """Store the playground for later commands."""
    fleet.state_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
    (fleet.state_dir / "playground.json").write_bytes(msgspec.json.encode(fleet))


def names() -> list[str]:
    """The names of all playgrounds that are up."""
    return sorted(path.parent.name for path in STATE_ROOT.glob("*/playground.json"))
