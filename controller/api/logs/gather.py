"""Reads the logs of a service or task from their nodes. SHELL.

A node that does not answer costs a warning and a bounded wait; the other nodes' lines are sent.
"""

from controller.api.logs.details import TaskDetails
from controller.api.logs.following import Follower
from controller.api.logs.merging import send_written
from controller.api.logs.parts import UNSTORED, LogPart
from controller.api.logs.sources import (
    LogSources,
    log_sources,
    previous_sources,
    require_stored,
)
from controller.api.queries.containers import find_container
from controller.api.queries.lookup import find_service_or_task, task_name
from controller.api.streams import Send
from controller.brain.slices import Slices
from controller.leader.leadership import Leader, Leadership
from pyswarm_core.clock import Clock
from pyswarm_core.errors import InvalidArgument, NotFound, Unavailable, quoted
from pyswarm_core.ids import NodeId, ServiceId
from pyswarm_core.logs.patterns import pattern
from pyswarm_core.objects import Service, Task
from pyswarm_core.state import State
from pyswarm_core.views import ANY_TIME, LogsQuery


async def send_logs(
    leadership: Leadership, query: LogsQuery, clock: Clock, send: Send[LogPart]
) -> None:
    """Send the lines, and a warning for every node whose lines are missing.

    Raises InvalidArgument, NotFound, also if no slot has a previous task, Conflict if no lines are
    stored, and Unavailable if the lines of no node can be read, or when leadership is lost while
    following.
    """
    _check(query)
    leader = leadership.current()
    named = await leader.watches.runner.run(_named(leader.state, query))
    await send(LogPart(of_service=_is_service(named)))
    if query.follow:
        follower = Follower(leader, query, named.id, send)
        await follower.run(_service_of(named), clock.now())
        return
    found = await _found(leader, query, named)
    require_stored(leader.state, named.id, found)
    if found.missing and not found.sources:
        raise Unavailable("; ".join(found.missing.values()))
    for missing in found.missing.values():
        await send(LogPart(warning=missing))
    if found.unstored:
        await send(LogPart(warning=UNSTORED))
    sources = found.sources
    if query.details:
        sources = await leader.watches.runner.run(TaskDetails().added(leader.state, sources))
    warned: set[NodeId] = set()
    await send_written(leader, sources, query, warned, send)


def _check(query: LogsQuery) -> None:
    if query.grep:
        pattern("--grep", query.grep)
    if query.follow and query.previous:
        raise InvalidArgument(
            "--follow and --previous cannot be combined: previous tasks have ended"
        )


def _named(state: State, query: LogsQuery) -> Slices[Service | Task]:
    """What the ref names. Of a container its service: its log is that of all its tasks."""
    if not query.container:
        return (yield from find_service_or_task(state, query.ref))
    found = yield from find_container(state, query.ref)
    if found.task is None or found.service.spec.mode.is_container:
        return found.service
    return found.task


async def _found(leader: Leader, query: LogsQuery, named: Service | Task) -> LogSources:
    runner = leader.watches.runner
    if not query.previous:
        return (await runner.run(log_sources(leader.state, named.id, ANY_TIME))).value
    name = task_name(leader.state, named) if isinstance(named, Task) else named.spec.name
    found = await runner.run(previous_sources(leader.state, named.id))
    if not (found.sources or found.missing or found.unstored):
        raise NotFound(
            f"no previous container of {quoted(name)}: it was never restarted or replaced"
        )
    return found


def _is_service(named: Service | Task) -> bool:
    return isinstance(named, Service) and not named.spec.mode.is_container


def _service_of(named: Service | Task) -> ServiceId:
    return named.service_id if isinstance(named, Task) else named.id
