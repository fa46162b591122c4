"""The controller's calls about containers, and what a name means to the verbs. SHELL."""

from collections.abc import Iterable
from contextlib import suppress

import click
import msgspec
from msgspec.structs import replace

from cli.calls.connection import CALL_TIMEOUT_S
from cli.calls.parts import whole
from cli.client import Client
from pyswarm_core.api.v1 import containers_pb2 as cp
from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.codec import from_proto
from pyswarm_core.docker.containers.views import ContainerState, ContainerView
from pyswarm_core.objects import Service
from pyswarm_core.views import TaskView

_WAIT = (ContainerState.CREATED, ContainerState.RESTARTING)
SIZES_TIMEOUT_S = 120.0
"""Time limit of a list with sizes: nodes measure for a minute, not all at the same time."""


COMMANDS_WAIT_S = 2.0
"""How long a list waits for the commands of images that no agent has reported."""


class Named(msgspec.Struct, frozen=True):
    """What a name means: a container, one task of a service, or a service with all its tasks."""

    service: Service
    task: TaskView | None
    """Of a container its newest task; None: it was never started, or this is a service."""
    networks: dict[str, str] = {}
    """Their names, by id."""

    @property
    def is_container(self) -> bool:
        """Whether it has one task, which keeps its files."""
        return self.service.spec.mode.is_container

    @property
    def is_service(self) -> bool:
        """Whether all tasks of the service are meant."""
        return self.task is None and not self.is_container


def containers(
    client: Client,
    *,
    every: bool = False,
    last: int = 0,
    filters: Iterable[str] = (),
    size: bool = False,
) -> list[ContainerView]:
    """The containers that pass the filters, newest first. With `size` their nodes measure their
    files; prints a warning for those that do not.
    """
    request = cp.ListContainersRequest(all=every, last=last, filters=filters, size=size)
    method = whole(client._stub.ListContainers, cp.ListContainersReply)
    reply = client._ask(method, request, SIZES_TIMEOUT_S if size else CALL_TIMEOUT_S)
    for warning in reply.warnings:
        click.echo(f"warning: {warning}", err=True)
    return [from_proto(ContainerView, item) for item in reply.containers]


def named(client: Client, ref: str) -> Named:
    """What the name, id or prefix means. Raises NotFound in Docker's words."""
    reply = client._ask(client._stub.GetContainer, pb.RefRequest(ref=ref))
    return from_proto(Named, reply)


def stop_task(client: Client, task_id: str, signal: str, timeout: int) -> None:
    """Stop a task's process by a signal and within nanoseconds; empty and 0: those of its spec.

    Raises Conflict if it does not run.
    """
    request = pb.SignalTaskRequest(ref=task_id, signal=signal, stop=True, timeout=timeout)
    client._ask(client._stub.SignalTask, request)


def with_commands(client: Client, found: Iterable[ContainerView]) -> list[ContainerView]:
    """The containers; those that wait, and whose command their image alone says, have that of the
    image, if a node has it. What nodes do not say in time stays empty.
    """
    from threading import Thread

    containers = list(found)
    images = (one.image for one in containers if _lacks_command(one))
    known: dict[str, tuple[str, ...]] = dict.fromkeys(images, ())
    if known:
        # The list may end before it, so it leaves nothing behind: it asks no registry, which needs
        # a login in a file.
        looking = Thread(target=_look, args=(client, known), daemon=True)
        looking.start()
        looking.join(COMMANDS_WAIT_S)
    return [
        replace(one, command=known[one.image]) if _lacks_command(one) else one for one in containers
    ]


def _lacks_command(one: ContainerView) -> bool:
    return one.state in _WAIT and not one.command


def _look(client: Client, known: dict[str, tuple[str, ...]]) -> None:
    from cli.image.calls import inspect
    from pyswarm_core.docker.images import command_of

    for image in known:
        with suppress(Exception):  # also those of a connection that is closed meanwhile
            known[image] = command_of(inspect(client, image))
