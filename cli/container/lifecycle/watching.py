"""The progress of one container while a verb waits for it. SHELL.

A watch reconnects: a controller that restarts does not end a wait.
"""

import time
from collections.abc import Iterator, Mapping, Sequence

from cli import converge
from cli.client import Client
from cli.converge import Watched
from cli.errors import Interrupted
from cli.streams.resuming import PAUSE_S, resumed
from pyswarm_core.errors import NotFound
from pyswarm_core.views import ServiceProgress

_GONE = ServiceProgress(gone=True)


def progress_of(client: Client, service_id: str) -> Iterator[ServiceProgress]:
    """The progress now and at every change; the last one says that the service is gone.

    Raises Interrupted by Ctrl-C, Unavailable without a controller for RECONNECT_S.
    """
    try:
        while True:
            for progress in resumed(client, lambda: client.watch_service(service_id, follow=True)):
                yield progress
                if progress.gone:
                    return
            time.sleep(PAUSE_S)
    except NotFound:
        yield _GONE
    except KeyboardInterrupt:
        raise Interrupted("no longer waiting: the change continues") from None


def until_stopped(client: Client, watched: Sequence[Watched]) -> Mapping[str, str]:
    """Return once none of their tasks is left; a container may remove itself then."""
    for one in watched:
        for progress in progress_of(client, one.id):
            if progress.gone or not progress.alive:
                break
    return {}


def until_gone(client: Client, watched: Sequence[Watched]) -> Mapping[str, str]:
    """Return once they are removed."""
    converge.until_gone(client, watched, quiet=True)
    return {}
