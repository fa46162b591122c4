"""A controller in a process of its own, whose memory is not that of its attackers.

`python -m tests.integration.controller.attacks.target FOLDER` serves the cluster in
FOLDER/cluster.json until its input ends, and prints a line when it leads.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from controller.identity.keyring import Keyring
from controller.store.base import Put, Txn
from controller.store.memory import MemoryKv
from controller.store.memory_store import MemoryStore
from pyswarm_core.aio.memory import give_back_freed_memory
from pyswarm_core.aio.system import SteadyClock
from pyswarm_core.keys import Keys
from pyswarm_core.objects import Cluster
from tests.fixtures.identity import Pki, another
from tests.integration.controller.fleet import config, leading, serving

CLUSTER = "cluster.json"
_STOP_S = 30.0


class Target:
    """A running controller."""

    def __init__(self, folder: Path, pki: Pki, pid: int, listen: tuple[str, str]) -> None:
        self.folder = folder
        self.pki = pki
        self.pid = pid
        self.socket, self.address = listen

    @property
    def host_port(self) -> tuple[str, int]:
        """Where its TLS port is."""
        host, _, port = self.address.rpartition(":")
        return host, int(port)

    def memory(self) -> int:
        """Bytes of resident memory."""
        return self._status("VmRSS") << 10

    def forget_most_memory(self) -> None:
        """The most memory is that from now on."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5", encoding="ascii")

    def most_memory(self) -> int:
        """The most that it had."""
        return self._status("VmHWM") << 10

    def connections(self) -> int:
        """Open sockets of the process."""
        links = Path(f"/proc/{self.pid}/fd").iterdir()
        return sum(str(link.readlink()).startswith("socket:") for link in links)

    def _status(self, name: str) -> int:
        lines = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(name))


@contextmanager
def running(folder: Path) -> Iterator[Target]:
    """A controller over an empty store until the block is left."""
    pki = another()
    (folder / CLUSTER).write_bytes(msgspec.json.encode(pki.cluster))
    command = [sys.executable, "-m", __name__, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        try:
            listen = json.loads(process.stdout.readline())
            yield Target(folder, pki, process.pid, listen)
        finally:
            process.stdin.close()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                raise


async def _serve(folder: Path) -> None:
    settings = config(folder)
    store = MemoryStore(MemoryKv(), SteadyClock())
    cluster = msgspec.json.decode((folder / CLUSTER).read_bytes(), type=Cluster)
    sealed = Keyring(settings.key_file).envelope(is_new=True).encode(cluster)
    await store.commit(Txn((), (Put(Keys().cluster, sealed),)))
    async with serving(settings, store) as controller:
        await leading(controller)
        sys.stdout.write(json.dumps(settings.listen) + "\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    give_back_freed_memory()  # as in controller/__main__.py
    asyncio.run(_serve(Path(sys.argv[1])))
