"""The calls about one container. SHELL; errors are those of `cli.client`."""

from collections.abc import Iterator, Sequence

from cli.client import Client
from pyswarm_core import views
from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.api.v1 import files_pb2
from pyswarm_core.codec import from_proto
from pyswarm_core.model import Model


def top(client: Client, ref: str, options: Sequence[str]) -> views.ProcessTable:
    """The processes of a running container, with these options of ps."""
    request = files_pb2.TopRequest(ref=ref, options=options)
    return from_proto(views.ProcessTable, client._ask(client._stub.Top, request))


def pause(client: Client, ref: str, *, paused: bool) -> None:
    """Pause a running container, or have it go on. Raises Conflict if it is so already."""
    method = client._stub.PauseContainer if paused else client._stub.UnpauseContainer
    client._ask(method, pb.RefRequest(ref=ref))


def changes(client: Client, ref: str) -> Iterator[views.FileChange]:
    """The files of a container that differ from its image."""
    request = files_pb2.ChangesRequest(ref=ref)
    for part in client._stream(_Changes, client._stub.Changes, request):
        yield from part.changes


def wait(client: Client, ref: str) -> Iterator[views.ContainerEnd]:
    """How the container ended, once it has: one item."""
    request = files_pb2.WaitRequest(ref=ref)
    return client._stream(views.ContainerEnd, client._stub.WaitContainer, request)


class _Changes(Model, frozen=True):
    changes: tuple[views.FileChange, ...] = ()
