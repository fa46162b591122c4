"""How `rm` and `container prune` remove containers. SHELL."""

from cli.client import Client
from cli.container.calls import Named
from cli.container.lifecycle.stopping import runs
from cli.converge import Watched
from pyswarm_core.errors import Conflict


def request(client: Client, named: Named, *, force: bool, volumes: bool = False) -> Watched | None:
    """Remove it, and with `volumes` its anonymous volumes; returns the service to wait for.

    Raises Conflict for one that runs, for a service, and for an ended task, unless forced.
    """
    service = named.service
    name = service.spec.name
    if named.is_container:
        if runs(named) and not force:
            raise Conflict(
                f'cannot remove container "{name}": container is running: stop the container before'
                " removing or force remove"
            )
        return Watched.of(client.remove_service(service.id, volumes=volumes))
    if named.is_service:
        if not force:
            raise Conflict(
                f'cannot remove "{name}": it is a service: use --force or `pyswarm service rm`'
            )
        return Watched.of(client.remove_service(service.id))
    assert named.task is not None
    if not runs(named):
        raise Conflict(
            f"cannot remove task {named.task.name}: ended tasks are kept up to the fleet's"
            " --task-history-limit"
        )
    if not force:
        raise Conflict(
            f"cannot remove task {named.task.name}: it is running: stop the task before removing"
            " or force remove"
        )
    client.restart_task(named.task.task.id)
    return None
