"""How `restart` restarts what a name means. SHELL."""

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
from msgspec.structs import replace

from cli.client import Client
from cli.container.calls import Named
from cli.container.lifecycle import starting
from cli.container.lifecycle.stopping import Stop, removes_itself
from cli.container.lifecycle.watching import until_stopped
from cli.converge import Watched
from cli.service.change import changed
from cli.service.restart import restarted
from cli.service.spec.template import put
from pyswarm_core.errors import InvalidArgument


class Restart(msgspec.Struct, frozen=True):
    """A restart whose stops have a signal and a grace period of their own."""

    stop: Stop

    def request(self, client: Client, named: Named) -> Watched | None:
        """Restart it; returns the service to wait for."""
        if named.is_service:
            if self.stop != Stop():
                raise InvalidArgument(
                    "--timeout and --signal are for containers: a service's tasks stop as its"
                    " --stop-signal and --stop-grace-period say"
                )
            return Watched.of(restarted(client, named.service.id))
        if not named.is_container and named.task is not None:
            client.restart_task(named.task.task.id)
            return Watched(named.service.id, named.service.spec.name, while_paused=True)
        with _kept(client, named):
            if not named.service.spec.stopped and (ending := self.stop.request(client, named)):
                until_stopped(client, [ending])
            service = client.service(named.service.id)
            return starting.request(client, replace(named, service=service))


@contextmanager
def _kept(client: Client, named: Named) -> Iterator[None]:
    """A container with `--rm` does not remove itself in the block."""
    if not removes_itself(named):
        yield
        return
    changed(client, named.service.id, lambda spec: put(spec, "mode.auto_remove", False))
    try:
        yield
    finally:
        changed(client, named.service.id, lambda spec: put(spec, "mode.auto_remove", True))
