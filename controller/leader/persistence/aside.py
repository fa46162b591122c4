"""Runs a coroutine on an event loop in a separate thread. SHELL.

For the renewal of the leader's lease, which must continue while the main event loop is busy.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import closing, suppress
from threading import Thread
from typing import Any


async def in_thread(work: Coroutine[Any, Any, None]) -> None:
    """Run `work` on an event loop in a new thread; return or raise when it does.

    When this is cancelled, `work` is cancelled too and has ended when this returns.
    """
    caller = asyncio.get_running_loop()
    ended: asyncio.Future[None] = caller.create_future()
    loop = asyncio.new_event_loop()
    task = loop.create_task(work)

    def finish(error: BaseException | None) -> None:
        if error is not None:
            ended.set_exception(error)
        else:
            ended.set_result(None)

    def run() -> None:
        with closing(loop):
            loop.run_until_complete(asyncio.wait((task,)))
        error = None if task.cancelled() else task.exception()
        with suppress(RuntimeError):  # the caller's loop is closed
            caller.call_soon_threadsafe(finish, error)

    Thread(target=run, name="aside", daemon=True).start()
    try:
        await asyncio.shield(ended)
    except asyncio.CancelledError:
        with suppress(RuntimeError):  # it has ended already
            loop.call_soon_threadsafe(task.cancel)
        await asyncio.wait((ended,))
        ended.exception()  # retrieve and ignore it: the caller was cancelled
        raise
