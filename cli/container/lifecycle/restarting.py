"""How `restart` restarts what a name means. SHELL."""

import msgspec

from cli.client import Client
from cli.container.calls import Named
from cli.container.lifecycle import starting
from cli.container.lifecycle.stopping import Stop
from cli.container.lifecycle.watching import until_stopped
from cli.converge import Watched
from cli.service.restart import restarted
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
        if not named.service.spec.stopped and (ending := self.stop.request(client, named)):
            until_stopped(client, [ending])
        return starting.request(
            client, msgspec.structs.replace(named, service=client.service(named.service.id))
        )
