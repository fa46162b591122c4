"""The controller's calls about stacks. SHELL."""

from collections import Counter
from collections.abc import Sequence

from cli.client import Client
from pyswarm_core.api.v1 import stacks_pb2 as pb
from pyswarm_core.codec import from_proto, to_proto
from pyswarm_core.errors import NotFound
from pyswarm_core.identity.users import STACK_LABEL
from pyswarm_core.kinds import STACK
from pyswarm_core.stacks.changes import ApplyStack, StackReply
from pyswarm_core.stacks.stack import Stack
from pyswarm_core.views import ServiceSummary

APPLY_TIMEOUT_S = 120.0
"""Time limit of an apply, which looks up the digests of all images."""


def apply(client: Client, request: ApplyStack) -> StackReply:
    """Create or change a stack. Raises Conflict if it changed since the dry run."""
    message = to_proto(request, pb.ApplyStackRequest())
    return from_proto(StackReply, client._ask(client._stub.ApplyStack, message, APPLY_TIMEOUT_S))


def rollback(client: Client, ref: str, to: int = 0, *, dry_run: bool = False) -> StackReply:
    """Return to an earlier version of a stack; 0: the one before."""
    request = pb.RollbackStackRequest(ref=ref, to=to, dry_run=dry_run)
    return from_proto(StackReply, client._ask(client._stub.RollbackStack, request))


def remove(client: Client, ref: str, *, volumes: bool = False) -> StackReply:
    """Begin to remove a stack."""
    request = pb.RemoveStackRequest(ref=ref, volumes=volumes)
    return from_proto(StackReply, client._ask(client._stub.RemoveStack, request))


def stacks(client: Client) -> list[Stack]:
    """All stacks."""
    return client.objects(STACK)


def services_by_stack(client: Client) -> Counter[str]:
    """How many services have the label of each stack."""
    found = client.services([f"label={STACK_LABEL}"])
    return Counter(one.service.spec.labels[STACK_LABEL] for one in found)


def services_of(client: Client, name: str, filters: Sequence[str] = ()) -> list[ServiceSummary]:
    """The services of a stack that pass the filters. Raises NotFound if it has none at all."""
    found = client.services([f"label={STACK_LABEL}={name}"])
    if not found:
        raise NotFound(f"nothing found in stack: {name}")
    if not filters:
        return found
    ids = {one.service.id for one in client.services(filters)}
    return [one for one in found if one.service.id in ids]
