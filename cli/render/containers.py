"""The rows of `ps`, in Docker's words. PURE."""

from collections.abc import Iterable

from msgspec.structs import replace

from cli.render.listing import Layout, Row, ellipsis, visible
from pyswarm_core.clock import Instant
from pyswarm_core.docker import ports
from pyswarm_core.docker.containers.views import SIZE_UNKNOWN, ContainerState, ContainerView
from pyswarm_core.docker.units import ago, decimal_size, format_time, human_duration
from pyswarm_core.ids import short
from pyswarm_core.objects import HealthState

COMMAND_SHOWN = 20
"""Characters of a command in the table, as in Docker."""
ANY_ADDRESS = "0.0.0.0"  # Docker's way to show all addresses

HEADINGS = {
    "ID": "CONTAINER ID",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "CreatedAt": "CREATED AT",
    "RunningFor": "CREATED",
    "Status": "STATUS",
    "State": "STATE",
    "Ports": "PORTS",
    "Names": "NAMES",
    "Node": "NODE",
    "Service": "SERVICE",
    "Health": "HEALTH",
    "Labels": "LABELS",
    "Networks": "NETWORKS",
    "Mounts": "MOUNTS",
    "LocalVolumes": "LOCAL VOLUMES",
    "Size": "SIZE",
    "Platform": "PLATFORM",
}
COLUMNS = ("ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names", "Node")


def layout(*, with_size: bool) -> Layout:
    """The columns of the table."""
    return Layout(headings=HEADINGS, columns=(*COLUMNS, "Size") if with_size else COLUMNS)


def rows(containers: Iterable[ContainerView], now: Instant, *, truncate: bool) -> list[Row]:
    """A row per container."""
    return [_row(one, now, truncate=truncate) for one in containers]


def _command(one: ContainerView, *, truncate: bool) -> str:
    """In quotes; empty while only the image says it, and no agent has the image."""
    command = visible(" ".join(one.command))
    if truncate:
        command = ellipsis(command, COMMAND_SHOWN)
    return f'"{command}"' if one.command else ""


def _row(one: ContainerView, now: Instant, *, truncate: bool) -> Row:
    labels = one.labels
    return {
        "ID": short(one.id) if truncate else one.id,
        "Image": one.image.partition("@")[0] if truncate else one.image,
        "Command": _command(one, truncate=truncate),
        "CreatedAt": format_time(one.created_at),
        "RunningFor": ago(one.created_at, now),
        "Status": status(one, now),
        "State": one.state.value,
        "Ports": _ports(one),
        "Names": one.name,
        "Node": one.node_name,
        "Service": one.service_name,
        "Health": _health(one),
        "Labels": ",".join(f"{key}={labels[key]}" for key in sorted(labels)),
        "Networks": ",".join(one.networks),
        "Mounts": "",
        "LocalVolumes": 0,
        "Size": _size(one),
        "Platform": "",
    }


def status(one: ContainerView, now: Instant) -> str:
    """The state as Docker words it: `Up 5 minutes (healthy)`, `Exited (0) 3 minutes ago`."""
    since = human_duration(max(0, now - one.since))
    match one.state:
        case ContainerState.RUNNING:
            return f"Up {since}{_bracketed(one)}"
        case ContainerState.PAUSED:
            return f"Up {since} (Paused)"
        case ContainerState.RESTARTING:
            return f"Restarting ({one.exit_code}) {since} ago"
        case ContainerState.REMOVING:
            return "Removal In Progress"
        case ContainerState.EXITED:
            return f"Exited ({one.exit_code}) {since} ago"
        case ContainerState.DEAD:
            return "Dead"
        case ContainerState.CREATED:
            return "Created"


def _size(one: ContainerView) -> str:
    """As in Docker: `1.09kB (virtual 4.27MB)`."""
    if one.size_rw == SIZE_UNKNOWN:
        return "N/A"
    virtual = f" (virtual {decimal_size(one.size_root_fs)})" if one.size_root_fs else ""
    return f"{decimal_size(one.size_rw)}{virtual}"


def _bracketed(one: ContainerView) -> str:
    word = _health(one)
    return f" ({'health: ' if word == HealthState.STARTING else ''}{word})" if word else ""


def _health(one: ContainerView) -> str:
    return one.health.value if one.state is ContainerState.RUNNING else ""


def _ports(one: ContainerView) -> str:
    """As Docker shows them: `0.0.0.0:8080->80/tcp`."""
    return ports.shown(replace(port, host_ip=port.host_ip or ANY_ADDRESS) for port in one.ports)
