"""`python -m bench.control_reload FOLDER`: the time in which a new process loads the state."""

import asyncio
import os
import sys
import time
from pathlib import Path

from bench.control_rig import embedded, open_store, resident_mib
from controller.identity.keyring import Keyring
from controller.leader.persistence.loading import load
from pyswarm_core.clock import Instant
from pyswarm_core.keys import Keys
from pyswarm_core.objects import Cluster


async def main(folder: Path) -> None:
    """Print seconds, tasks and MiB resident. The embedded etcd of this directory runs."""
    envelope = Keyring(folder / "encryption.key").envelope(is_new=False)
    async with open_store(embedded(folder)) as store:
        began = time.monotonic()
        loaded = await load(store, Keys(), envelope, _absent, Instant(0))
        took_s = time.monotonic() - began
    print(f"{took_s:.3f} {len(loaded.state.tasks)} {resident_mib(os.getpid()):.0f}")


def _absent() -> Cluster:
    raise SystemExit("the store has no cluster")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
