"""What users list: the objects that a request finds, and how each is shown."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from controller.api.queries import lists, views
from controller.api.queries.containers import ContainerQuery, container_view, find_containers
from controller.api.queries.lookup import Sees, kind_named
from controller.brain.slices import Slices
from controller.leader.leadership import Leader
from pyswarm_core.ids import NodeId, ServiceId, TaskId
from pyswarm_core.kinds import NODE, SERVICE

K = TypeVar("K")


class Listing(NamedTuple, Generic[K]):
    """A list to be made in slices: first all ids, then one view after the other."""

    found: Slices[list[K]]
    """The ids, in order."""
    view: Callable[[K], msgspec.Struct | None]
    """The object as it is now; None if it is gone."""
    work: Callable[[K], int]
    """The cost of a view beyond its bytes, in bytes of SLICE_BYTES."""


def services(leader: Leader, filters: Sequence[str]) -> Listing[ServiceId]:
    """Services that pass the filters."""
    view = partial(views.listed_service, leader.state, quarantined=leader.quarantine.ids())
    return _listing(leader, lists.find_all(leader.state, SERVICE, filters), view)


def tasks(leader: Leader, query: lists.TaskQuery) -> Listing[TaskId]:
    """Tasks that the query names; with their specs if it names single tasks."""
    view = partial(views.listed_task, leader.state, with_spec=bool(query.tasks))
    return _listing(leader, lists.find_tasks(leader.state, query), view)


def containers(leader: Leader, query: ContainerQuery, sees: Sees) -> Listing[str]:
    """Containers and tasks of services that the caller may see, newest first."""
    view = partial(container_view, leader.state)
    return _listing(leader, find_containers(leader.state, query, sees), view)


def nodes(leader: Leader, filters: Sequence[str]) -> Listing[NodeId]:
    """Nodes that pass the filters."""
    view = partial(views.listed_node, leader.state, controllers=leader.controllers)
    return _listing(leader, lists.find_all(leader.state, NODE, filters), view)


def objects(leader: Leader, kind_name: str, filters: Sequence[str]) -> Listing[Any]:
    """Encoded objects of the kind that pass the filters. Raises InvalidArgument for its name."""
    kind = kind_named(kind_name)
    view = partial(views.listed, leader.state, kind)
    return _listing(leader, lists.find_all(leader.state, kind, filters), view)


def _listing(
    leader: Leader, found: Slices[list[K]], view: Callable[[K], msgspec.Struct | None]
) -> Listing[K]:
    return Listing(found, view, partial(views.work, leader.state))
