"""The task lists of `service ps` and `node ps`. PURE."""

from collections.abc import Iterable, Iterator

import msgspec

from cli.render.listing import Layout, Row, ellipsis, one_line
from pyswarm_core.clock import Instant
from pyswarm_core.docker import ports
from pyswarm_core.docker.units import ago
from pyswarm_core.ids import short
from pyswarm_core.objects import NOT_READY, HealthState, Task
from pyswarm_core.states import TaskState, is_terminal, lives
from pyswarm_core.views import ServiceSummary, TaskView

ERROR_SHOWN = 30
WAITING = (TaskState.NEW, TaskState.PENDING)

LAYOUT = Layout(
    headings={
        "ID": "ID",
        "Name": "NAME",
        "Image": "IMAGE",
        "Node": "NODE",
        "DesiredState": "DESIRED STATE",
        "CurrentState": "CURRENT STATE",
        "Error": "ERROR",
        "Ports": "PORTS",
        "Health": "HEALTH",
    },
    columns=(
        "ID", "Name", "Image", "Node", "DesiredState", "CurrentState", "Error", "Ports"
    ),
)  # fmt: skip


class Style(msgspec.Struct, frozen=True):
    """How a list of tasks is printed."""

    truncate: bool = True
    resolve: bool = True
    tree: bool = True
    r"""Mark earlier tasks of a slot with ` \_ `."""


def rows(tasks: Iterable[TaskView], now: Instant, style: Style) -> Iterator[Row]:
    """A row per task, by service and slot: those that are to run, frozen ones, the others, each
    newest first.
    """
    previous = ""
    for view in sorted(tasks, key=_order):
        place = view.name.rpartition(".")[2]
        name = view.name if style.resolve else f"{view.task.service_id}.{place}"
        earlier = style.tree and name == previous
        previous = name
        yield _row(view, now, style, rf" \_ {name}" if earlier else name)


def unlisted(summary: ServiceSummary) -> str:
    """The line about replicas without a task, which have no row."""
    name, number = summary.service.spec.name, summary.unlisted
    more = "replica waits" if number == 1 else "replicas wait"
    return f"{name}: {number} more {more} for a node; see `pyswarm why {name}`"


def _order(view: TaskView) -> tuple[str, int, int, int, str]:
    task = view.task
    return (view.service_name, task.slot, _rank(task.desired_state), -task.created_at, task.id)


def _rank(desired: TaskState) -> int:
    """In its slot a task that is to run comes first, then one that is kept aside."""
    if desired <= TaskState.RUNNING:
        return 0
    return 1 if lives(desired) else 2


def _row(view: TaskView, now: Instant, style: Style, name: str) -> Row:
    task = view.task
    error = one_line(task.detail.error or _waiting(view))
    if error:
        error = f'"{error if not style.truncate else ellipsis(error, ERROR_SHOWN)}"'
    since = task.status_at or task.created_at
    return {
        "ID": short(task.id) if style.truncate else task.id,
        "Name": name,
        "Image": view.image if not style.truncate else view.image.partition("@")[0],
        "Node": view.node_name if style.resolve else task.node_id,
        "DesiredState": task.desired_state.word.capitalize(),
        "CurrentState": f"{task.state.word.capitalize()} {ago(since, now).lower()}{_health(task)}",
        "Error": error,
        "Ports": ports.shown(task.detail.ports),
        "Health": task.detail.health.value,
    }


def _health(task: Task) -> str:
    """The result of its health check while it runs, as `docker ps` shows it; else empty."""
    health = task.detail.health
    if health is HealthState.NONE or is_terminal(task.state):
        return ""
    return f" ({'health: ' if health is HealthState.STARTING else ''}{health.value})"


def _waiting(view: TaskView) -> str:
    """Why a pending task waits, or a running one receives no connections, from its message. Docker
    prints the former as its error.
    """
    message = view.task.detail.message
    is_unready = view.task.state is TaskState.RUNNING and message.startswith(NOT_READY)
    return message if view.task.state in WAITING or is_unready else ""
