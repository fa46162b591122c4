"""Waits until a playground's controller and hosts are ready. SHELL; `missing` decides.

Shortly after `kill` the leader may still have the host's node as ready. So a host is ready only
once its own agent has a session and has configured the network, too.
"""

import time
from collections.abc import Callable, Mapping
from http.client import HTTPException
from pathlib import Path

from cli.client import Client
from cli.playground.fleet import Fleet, Host
from cli.playground.scraping import Scraper
from pyswarm_core.errors import Unavailable
from pyswarm_core.limits import AGENT_METRICS_PORT
from pyswarm_core.plaintext import split_lines
from pyswarm_core.states import NodeState

READY_TIMEOUT_S = 120.0
PROGRESS_AFTER_S = 1.0
_PAUSE_S = 0.05
_LOG_LINES = 12
_SESSION = "pyswarm_agent_session_connected"
_REVISION = "pyswarm_agent_network_revision"


def wait_for_socket(fleet: Fleet) -> None:
    """Return once the controller listens. Raises TimeoutError with the end of its log."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    while not fleet.socket.exists():
        if time.monotonic() > deadline:
            tail = log_tail(fleet.hosts[0], "controller")
            raise TimeoutError(f"the controller did not start:\n{tail}")
        time.sleep(0.02)


def worker_token(fleet: Fleet) -> str:
    """The token that lets hosts join, once the controller leads. Raises TimeoutError."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    with Client(f"unix://{fleet.socket}") as client:
        while True:
            try:
                return client.join_token()
            except Unavailable as error:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"the controller does not lead: {error}") from error
                time.sleep(0.02)


def wait_for_host(fleet: Fleet, host: Host, report: Callable[[str], None]) -> str:
    """Wait until the host is ready, at most READY_TIMEOUT_S. Return what it lacks then, or "".
    Progress is printed after a second.
    """
    with Client(f"unix://{fleet.socket}") as client:
        looks = _Looks(client, host)
        return wait(looks.look, lambda text: report(f"{host.name}: {text}"))


def wait(
    look: Callable[[], str],
    report: Callable[[str], None],
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Call `look` until it returns "" or READY_TIMEOUT_S is over; return its last result."""
    began, printed = clock(), ""
    while lacks := look():
        waited = clock() - began
        if waited > READY_TIMEOUT_S:
            break
        if waited > PROGRESS_AFTER_S and lacks != printed:
            report(lacks)
            printed = lacks
        sleep(_PAUSE_S)
    return lacks


def missing(metrics: Mapping[str, float], state: NodeState) -> str:
    """What a host lacks to be ready, or "". `metrics`: its agent's, empty if it does not answer;
    `state`: its node's, according to the leader.
    """
    if not metrics:
        return "the agent is starting"
    if not metrics.get(_SESSION):
        return "the agent is connecting to the controller"
    if not metrics.get(_REVISION):
        return "the agent is configuring the network"
    return "" if state is NodeState.READY else f"the node is {state}"


def log_file(host: Host, daemon: str = "agent") -> Path:
    """Where a daemon logs."""
    return host.run_dir / f"{daemon}.log"


def log_tail(host: Host, daemon: str = "agent") -> str:
    """The end of a daemon's log."""
    log = log_file(host, daemon)
    lines = split_lines(log.read_text()) if log.exists() else [f"{log} is empty"]
    return "\n".join(lines[-_LOG_LINES:])


class _Looks:
    """Looks at a host until it is ready."""

    def __init__(self, client: Client, host: Host) -> None:
        self._client = client
        self._host = host
        self._scraper: Scraper | None = None

    def look(self) -> str:
        """What the host lacks."""
        metrics = self._metrics()
        # Without a session there may be no leader, and the call would wait for one.
        state = self._state() if metrics.get(_SESSION) else NodeState.UNKNOWN
        return missing(metrics, state)

    def _state(self) -> NodeState:
        try:
            return self._client.node(self._host.name).node.status.state
        except Unavailable:
            return NodeState.UNKNOWN

    def _metrics(self) -> dict[str, float]:
        """The metrics of the host's agent; empty while it does not answer."""
        try:
            if self._scraper is None:
                self._scraper = Scraper.of(self._client)
            return self._scraper.read(self._host, AGENT_METRICS_PORT)
        except (OSError, HTTPException, Unavailable):
            return {}
