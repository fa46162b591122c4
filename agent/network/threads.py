"""Runs blocking kernel calls in a pool of threads. SHELL.

Creating a namespace, and waiting for the kernel's network lock, take milliseconds, so neither runs
on the event loop. Invariant: each thread has one socket of its own in the host's namespace.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from agent.network.base import NetworkFailed
from agent.network.netlink import Netlink, nft_generation

T = TypeVar("T")
_THREADS = 8


class KernelThreads:
    """The pool, shared by the parts of one dataplane. Close it when done."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="dataplane")
        self._local = threading.local()
        self._sockets: list[Netlink] = []

    def close(self) -> None:
        """Stop the threads and close their sockets. The kernel's state stays."""
        self._pool.shutdown()
        for host in self._sockets:
            host.close()

    def host(self) -> Netlink:
        """This thread's socket in the host's namespace."""
        host: Netlink | None = getattr(self._local, "host", None)
        if host is None:
            host = self._local.host = Netlink()
            self._sockets.append(host)
        return host

    async def run(self, work: Callable[[], T]) -> T:
        """Run in a thread. Raises NetworkFailed for an OSError.

        A cancelled caller waits until the work has ended, so that nothing continues unobserved.
        """
        future = asyncio.get_running_loop().run_in_executor(self._pool, work)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            raise
        except OSError as error:
            raise NetworkFailed(f"the node's network cannot be changed: {error}") from error

    async def nft_generation(self) -> int:
        """The generation number, which changes with every change of any nft table of the host's
        namespace.
        """
        return await self.run(nft_generation)
