"""An agent that makes a volume and is killed at its nth operation on files or processes."""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

from agent.volumes.children import Children
from agent.volumes.mounted import Mounts
from agent.volumes.store import VolumeStore
from agent.volumes.volumes import Volumes
from pyswarm_core.volumes.mounts import Driver, Mount

EVENTS = frozenset(
    {"os.mkdir", "os.rename", "os.rmdir", "os.remove", "open", "subprocess.Popen", "os.posix_spawn"}
)


async def main() -> None:
    from tests.integration.runtime.test_volume_drivers import SIZE, record

    state, run, image, step = sys.argv[1:]
    store = VolumeStore(Path(state))
    store.prepare()
    children = Children()
    mounts = Mounts(store, children)
    volumes = Volumes(store, Path(run), lambda task: Path(state) / task, children, mounts)
    left = int(step)

    def count(event: str, args: tuple[Any, ...]) -> None:
        nonlocal left
        counts = event != "open" or str(args[0]).startswith(state)
        if event in EVENTS and counts:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    asked = record(Mount(source="data", target="/data"), Driver(options=SIZE))
    await volumes.ready(asked, (image,), lambda text: None)
    os._exit(0)


asyncio.run(main())
