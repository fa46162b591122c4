"""How a host's agent becomes a node of a fleet, and how one waits for that. SHELL."""

import ipaddress
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

import msgspec

from cli import daemons
from cli.daemons import Daemon
from cli.errors import NotConverged
from cli.swarm.host import Host, Supervisor
from pyswarm_core.errors import InvalidArgument, PyswarmError, Unavailable
from pyswarm_core.validation import address_problems, require
from pyswarm_core.views import Info

READY_TIMEOUT_S = 60.0
"""A first start makes etcd's data directory and elects a leader."""
JOIN_TIMEOUT_S = 30.0
AGENT_CONFIG = Path("/etc/pyswarm/agent.yaml")
"""The host's own settings for its agent, such as mirrors; used where it exists."""
_PAUSE_S = 0.1


class Identity(msgspec.Struct, frozen=True):
    """What the agent keeps of its node."""

    node_id: str
    controllers: tuple[str, ...] = ()


def agent_arguments(
    host: Host,
    *,
    controller: str,
    token: str,
    advertise_addr: str,
    availability: str,
    data_path_port: int | None = None,
) -> tuple[str, ...]:
    """The agent's flags."""
    arguments = [
        f"--state-dir={host.state_dir / 'agent'}",
        f"--run-dir={host.run_dir / 'agent'}",
        f"--controller={controller}",
        f"--join-token={token}",
        f"--availability={availability}",
    ]
    if AGENT_CONFIG.exists():
        arguments.append(f"--config={AGENT_CONFIG}")
    if advertise_addr:
        arguments.append(f"--advertise-addr={advertise_addr}")
    if data_path_port:
        arguments.append(f"--data-path-port={data_path_port}")
    return tuple(arguments)


def wait_for_leader(host: Host, keeper: Supervisor, controller: Daemon) -> Info:
    """What the controller tells once it leads. Raises NotConverged with its last words."""
    from cli.client import Client

    deadline = time.monotonic() + READY_TIMEOUT_S
    with Client(f"unix://{host.socket}") as client:
        while True:
            try:
                return client.info()
            except Unavailable as error:
                if time.monotonic() > deadline:
                    told = keeper.log_tail(controller) or str(error)
                    raise NotConverged(f"the controller does not lead yet: {told}") from None
            time.sleep(_PAUSE_S)


def wait_until_joined(host: Host, keeper: Supervisor, agent: Daemon) -> None:
    """Return once the agent is a node; it is stopped if that takes too long.

    Raises PyswarmError with its last words.
    """
    deadline = time.monotonic() + JOIN_TIMEOUT_S
    while not host.identity.exists():
        if time.monotonic() > deadline:
            told = keeper.log_tail(agent)
            keeper.stop(agent)
            raise PyswarmError(f"this host could not join: {told or 'the agent says nothing'}")
        time.sleep(_PAUSE_S)


def identity(host: Host) -> Identity | None:
    """Which node this host is; None if it has not joined."""
    try:
        return msgspec.json.decode(host.identity.read_bytes(), type=Identity)
    except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def node_id(host: Host) -> str:
    """The id of this host's node."""
    found = identity(host)
    return found.node_id if found else "unknown"


def forget(host: Host) -> None:
    """Make this host's next start a new node, and of a new fleet if the controller ran here.

    The controller's own etcd, which outlives it, ends with its data.
    """
    host.identity.unlink(missing_ok=True)
    stores = _stores(host)
    daemons.kill(stores)
    daemons.wait_gone(stores, daemons.END_TIMEOUT_S)
    shutil.rmtree(host.state_dir / "controller", ignore_errors=True)


def _stores(host: Host) -> list[int]:
    """The pids of etcd over this host's data."""
    flag = os.fsencode(f"--data-dir={host.state_dir}/controller/etcd/data")
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(FileNotFoundError, ProcessLookupError):
            if flag in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    return found


def require_address(flag: str, text: str, *, with_port: bool = False) -> None:
    """An IP address, with a port behind it if that is wanted. Raises InvalidArgument."""
    name, colon, port = text.rpartition(":") if text.count(":") == 1 else (text, "", "")
    try:
        ipaddress.IPv4Address(name)
    except ValueError:
        want = "IP:PORT" if with_port else "IP[:PORT]"
        raise InvalidArgument(f"{flag} {text[:80]!r} is not valid: want {want}") from None
    if flag == "--advertise-addr":
        require(list(address_problems(name)))
    if (with_port or colon) and not _is_port(port):
        raise InvalidArgument(f"{flag} {text[:80]!r} is not valid: want a port of 1-65535")


def require_endpoint(flag: str, text: str) -> None:
    """HOST:PORT. Raises InvalidArgument."""
    name, _, port = text.removeprefix("https://").removeprefix("http://").rpartition(":")
    if not name or not _is_port(port):
        raise InvalidArgument(f"{flag} {text[:80]!r} is not valid: want HOST:PORT")


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdecimal() and 0 < int(text[:9]) < 65536
