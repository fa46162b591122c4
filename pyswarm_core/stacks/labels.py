"""Labels of what belongs to a stack, as Docker's programs give them. PURE.

`docker stack` finds its objects by STACK_LABEL, `docker compose` by PROJECT: every object of a
stack has both.
"""

from pyswarm_core.identity.users import STACK_LABEL

PROJECT = "com.docker.compose.project"
SERVICE = "com.docker.compose.service"
"""The short name of a service, on it and its containers."""
NETWORK = "com.docker.compose.network"
VOLUME = "com.docker.compose.volume"
"""The key of a network or volume in the file."""
IMAGE = "com.docker.stack.image"
"""The image of a service as it is written, on the service."""
CONTAINER_NAME = "com.docker.compose.container-name"
"""The `container_name` of a service, on the service: only one has it."""


def of_stack(stack: str, **more: str) -> dict[str, str]:
    """The labels of an object of a stack."""
    return {STACK_LABEL: stack, PROJECT: stack, **more}
