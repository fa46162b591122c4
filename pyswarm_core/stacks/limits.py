"""Limits of stacks and dependencies, each with its reason. PURE values."""

from pyswarm_core.clock import SECOND

STACK_SERVICES_MAX = 500
"""Services of one stack: one request changes all of them."""
STACK_OBJECTS_MAX = 500
"""Networks of one stack, and its volumes, secrets and configs, each."""
STACK_VERSIONS_KEPT = 10
"""Earlier versions of a stack, as many as of a service; fewer if they do not fit into its value."""
STACK_REQUEST_BYTES_MAX = 3 * 1024 * 1024
"""A request to apply a stack, with the data of its secrets and configs."""
STACK_SLICE = 5
"""Services that one slice of an applied stack looks at (about 1 ms each)."""
DIFFERENCES_MAX = 20
"""Differences of one object that an answer has."""
DEPENDENCIES_MAX = 100
"""Services that one service depends on: each decision about one that waits judges all of them."""
DEPENDENCY_SLOTS = 1_000
"""Slots of a dependency that are looked at one by one while some of its tasks have not ended."""
DEPENDENCY_MESSAGE_PERIOD = 1 * SECOND
"""The shortest time between two messages of a task that waits for other services: each change of
a task of theirs may change the message.
"""
END_SLACK = 10 * SECOND
"""How much longer than the grace period a service may take to end before those that it depends on
end, too.
"""
