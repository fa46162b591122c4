"""Which objects belong to stacks."""

from typing import Any

from pyswarm_core.identity.users import STACK_LABEL
from pyswarm_core.kinds import SERVICE, Kind
from pyswarm_core.objects import Object, Service


def stack_of(kind: Kind[Any, Any], item: Object | None) -> str:
    """The stack that an object belongs to; empty: none."""
    return "" if item is None else kind.labels(item).get(STACK_LABEL, "")


def is_free(service: Service) -> bool:
    """Whether any user may change the service: it is of no stack, and is not being removed."""
    return not service.removing and not stack_of(SERVICE, service)
