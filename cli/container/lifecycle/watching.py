"""The progress of one container while a verb waits for it. SHELL.

A watch reconnects: a controller that restarts does not end a wait.
"""

import time
from collections.abc import Iterator, Mapping, Sequence

from cli import converge
from cli.client import Client
from cli.converge import RECONNECT_S, Watched
from cli.errors import NoAnswer, NotConverged
from pyswarm_core.errors import NotFound, Unavailable
from pyswarm_core.views import ServiceProgress

_PAUSE_S = 0.5
_GONE = ServiceProgress(gone=True)


def progress_of(client: Client, service_id: str) -> Iterator[ServiceProgress]:
    """The progress now and at every change; the last one says that the service is gone.

    Raises NotConverged when interrupted, Unavailable without a controller for RECONNECT_S.
    """
    deadline = time.monotonic() + RECONNECT_S
    while True:
        try:
            for progress in client.watch_service(service_id, follow=True):
                deadline = time.monotonic() + RECONNECT_S
                yield progress
                if progress.gone:
                    return
        except NotFound:
            yield _GONE
            return
        except KeyboardInterrupt:
            raise NotConverged("no longer waiting: the change continues") from None
        except Unavailable as error:
            if time.monotonic() > deadline or isinstance(error, NoAnswer):
                raise
        time.sleep(_PAUSE_S)


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
