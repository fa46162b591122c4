"""Starts a host's agent and waits until it has joined the fleet. SHELL."""

import ast
import ipaddress
import os
import re
import time
from contextlib import suppress
from pathlib import Path

import msgspec

from cli import daemons
from cli.context.model import Context, Material
from cli.daemons import Daemon
from cli.errors import NotConverged
from cli.render import terminal
from cli.swarm.host import JOIN_LOG_LINES, Host, Supervisor
from pyswarm_core.aio import thisnode
from pyswarm_core.aio.trees import remove_tree
from pyswarm_core.errors import PyswarmError, Unavailable, invalid
from pyswarm_core.validation import address_problems, require
from pyswarm_core.views import Info

READY_TIMEOUT_S = 60.0
"""Time to the first leader; a first start also creates etcd's data directory."""
JOIN_TIMEOUT_S = 30.0
AGENT_CONFIG = Path("/etc/pyswarm/agent.yaml")
"""Settings of the host's agent, such as mirrors; used if the file exists."""
_PAUSE_S = 0.1
_NO_ERROR = re.compile(r"(?:\S+ ){1,2}(?:INFO|DEBUG) ")
_LOGGED_ERROR = re.compile(r" error=('(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|[^\s'\"]\S*)")


class Certificate(msgspec.Struct, frozen=True):
    """The node's certificate and key, PEM."""

    roots: str = ""
    chain: str = ""
    key: str = ""


class Identity(msgspec.Struct, frozen=True):
    """The fields of the agent's identity file that the CLI reads."""

    node_id: str
    controllers: tuple[str, ...] = ()
    certificate: Certificate = Certificate()

    @property
    def context(self) -> Context:
        """How this host's node reaches a controller, with its own certificate."""
        found = self.certificate
        material = Material(ca=found.roots, cert=found.chain, key=found.key)
        return Context(name="", host=self.controllers[0], material=material)


def agent_arguments(
    host: Host,
    *,
    controller: str,
    token: str,
    advertise_addr: str,
    availability: str,
    data_path_port: int | None = None,
) -> tuple[str, ...]:
    """The agent's flags; its token is in a file, and a refusal of an earlier join is removed."""
    host.refusal.unlink(missing_ok=True)
    arguments = [
        f"--state-dir={host.state_dir / 'agent'}",
        f"--run-dir={host.run_dir / 'agent'}",
        f"--controller={controller}",
        f"--join-token-file={write_token(host.state_dir / 'agent' / 'join-token', token)}",
        f"--availability={availability}",
    ]
    if AGENT_CONFIG.exists():
        arguments.append(f"--config={AGENT_CONFIG}")
    if advertise_addr:
        arguments.append(f"--advertise-addr={advertise_addr}")
    if data_path_port:
        arguments.append(f"--data-path-port={data_path_port}")
    return tuple(arguments)


def write_token(path: Path, token: str) -> Path:
    """Write the token for the agent, which removes it when it has joined. Its command line would
    show the token to every user of the host.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(token)
    return path


def wait_for_leader(host: Host, supervisor: Supervisor, controller: Daemon) -> tuple[Info, str]:
    """The controller's info and the join token, once it leads. Raises NotConverged with the end of
    its log.
    """
    from cli.client import Client

    deadline = time.monotonic() + READY_TIMEOUT_S
    waiting = terminal.announced("waiting until the controller leads")
    with waiting, Client(f"unix://{host.socket}") as client:
        while True:
            try:
                return client.info(), client.join_token()
            except Unavailable as error:
                if time.monotonic() > deadline:
                    reason = supervisor.log_tail(controller) or str(error)
                    raise NotConverged(f"the controller does not lead yet: {reason}") from None
            time.sleep(_PAUSE_S)


def wait_until_joined(host: Host, supervisor: Supervisor, agent: Daemon, controller: str) -> None:
    """Return once the agent has joined. If a controller refuses it, or after JOIN_TIMEOUT_S, stop
    the agent and raise PyswarmError with the reason; stop it as well if the wait is interrupted.
    """
    try:
        _wait_until_joined(host, supervisor, agent, controller)
    except BaseException:
        supervisor.stop(agent)
        raise


def _wait_until_joined(host: Host, supervisor: Supervisor, agent: Daemon, controller: str) -> None:
    deadline = time.monotonic() + JOIN_TIMEOUT_S
    with terminal.announced(f"joining through {controller}"):
        while not host.identity.exists():
            if refusal := _refusal(host):
                raise PyswarmError(f"cannot join through {controller}: {refusal}")
            if time.monotonic() > deadline:
                reason = last_error(supervisor.log_tail(agent, JOIN_LOG_LINES))
                raise PyswarmError(
                    f"cannot join through {controller}: {reason}. Check that a controller listens"
                    " there, and the token (`pyswarm swarm join-token worker` on a manager), then"
                    " run the command again"
                )
            time.sleep(_PAUSE_S)


def _refusal(host: Host) -> str:
    """The error of a join that no retry changes; empty if there is none."""
    try:
        return host.refusal.read_text(errors="replace")
    except FileNotFoundError:
        return ""


def last_error(log: str) -> str:
    """The last error of a log: `Error: TEXT`, an event with `error=TEXT`, or the last line that is
    no event of level INFO or DEBUG.
    """
    lines = [line for line in log.split("\n") if line.strip()]
    if not lines:
        return "the agent has logged nothing"
    last = next((line for line in reversed(lines) if not _NO_ERROR.match(line)), None)
    if last is None:
        return "the agent has logged no error"
    text = last.removeprefix("Error: ")
    match = _LOGGED_ERROR.search(text)
    if match is None:
        return text
    return str(ast.literal_eval(match[1])) if match[1][0] in "'\"" else match[1]


def identity(host: Host) -> Identity | None:
    """The identity of this host's node; None if it has not joined."""
    try:
        return msgspec.json.decode(host.identity.read_bytes(), type=Identity)
    except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def node_id(host: Host) -> str:
    """The id of this host's node."""
    found = identity(host)
    return found.node_id if found else "unknown"


def forget(host: Host) -> None:
    """Remove this host's identity, and the controller's state with its own etcd and registry,
    which outlive the controller. The next start is a new node, and of a new fleet if the controller
    ran here.
    """
    host.identity.unlink(missing_ok=True)
    thisnode.PATH.unlink(missing_ok=True)
    pids = _kept_pids(host)
    daemons.kill(pids)
    daemons.wait_gone(pids, daemons.END_TIMEOUT_S)
    with suppress(OSError):
        remove_tree(host.state_dir / "controller")


def _kept_pids(host: Host) -> list[int]:
    """The pids of etcd and of the registry's processes, which use this host's data."""
    etcd = os.fsencode(f"--data-dir={host.state_dir}/controller/etcd/data")
    registry = os.fsencode(f"{host.state_dir}/controller/registry/")
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(FileNotFoundError, ProcessLookupError):
            words = path.read_bytes().split(b"\0")
            if etcd in words or any(word.startswith(registry) for word in words):
                found.append(int(path.parent.name))
    return found


def require_address(flag: str, text: str, *, with_port: bool = False) -> None:
    """Require an IPv4 address, followed by a port if `with_port`. Raises InvalidArgument."""
    name, colon, port = text.rpartition(":") if text.count(":") == 1 else (text, "", "")
    try:
        ipaddress.IPv4Address(name)
    except ValueError:
        form = "IP:PORT" if with_port else "IP[:PORT]"
        raise invalid(flag, text, f"expected {form}") from None
    if flag == "--advertise-addr":
        require(list(address_problems(name)))
    if (with_port or colon) and not _is_port(port):
        raise invalid(flag, text, "expected a port of 1 to 65535")


def require_endpoint(flag: str, text: str) -> None:
    """Require HOST:PORT. Raises InvalidArgument."""
    name, _, port = text.removeprefix("https://").removeprefix("http://").rpartition(":")
    if not name or not _is_port(port):
        raise invalid(flag, text, "expected HOST:PORT with a port of 1 to 65535")


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdecimal() and 0 < int(text[:9]) < 65536
