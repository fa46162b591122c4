"""The context of an administrator that `swarm init` saves. SHELL: imports gRPC and `cryptography`.

Root on the host needs none: the current context stays the controller's socket, which also serves
while the certificate has expired or the controller is locked.
"""

from contextlib import suppress

from cli.context import store
from cli.context.create import save
from cli.context.model import Context
from pyswarm_core.errors import AlreadyExists, InvalidArgument, NotFound
from pyswarm_core.identity.users import Role, UserSpec

ADMIN = "admin"
"""The name of the user and of the context."""


def save_context(socket: str, address: str) -> str:
    """Create the user and save a context with its certificate; return what to do with it.

    `socket` is the controller's, `address` where others reach it. A context of that name is kept.
    """
    from cli.client import Client
    from cli.context.issuing import issued

    with Client(socket) as client:
        with suppress(AlreadyExists):  # the controllers of one etcd have one
            client.create_user(UserSpec(name=ADMIN, role=Role.ADMIN))
        if store.exists(ADMIN):
            return (
                f'A context "{ADMIN}" exists already. To save one of this swarm, run the following'
                f" command:\n\n    pyswarm context create --user {ADMIN} NAME\n"
            )
        save(Context(name=ADMIN, host=address, material=issued(client, ADMIN)))
    return (
        "To administer this swarm from another machine, run the following command and import"
        f" the file there:\n\n    pyswarm context export {ADMIN}\n"
    )


def forget_context(controllers: tuple[str, ...]) -> None:
    """Remove the context of a fleet that had these controllers, one of them on this host."""
    with suppress(NotFound, InvalidArgument):
        if store.load(ADMIN).host in controllers:
            store.remove(ADMIN)
