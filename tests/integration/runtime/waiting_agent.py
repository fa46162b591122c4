"""An agent that prepares tasks whose volumes and binds hang, and ends at SIGTERM."""

import asyncio
import signal
import sys
from contextlib import suppress
from pathlib import Path

from agent.volumes.volumes import Volumes
from pyswarm_core.volumes.mounts import Driver, Mount, MountType


async def main() -> None:
    from tests.integration.runtime.test_volume_drivers import Host, record

    state, run, image, hung = map(Path, sys.argv[1:])
    host = Host.__new__(Host)
    host.state, host.run, host.image, host.agents = state, run, image, []
    agent: Volumes = host.agent()
    bound = {"type": "none", "o": "bind", "device": str(hung)}
    volume = record(Mount(source="data", target="/data"), Driver(options=bound))
    bind = record(Mount(type=MountType.BIND, source=str(hung), target="/b"), Driver())
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with asyncio.TaskGroup() as group:
        work = [
            group.create_task(agent.ready(one, (str(image),), lambda text: None))
            for one in (volume, bind, bind, bind)
        ]
        await asyncio.sleep(1)  # for children to begin
        sys.stdout.write("waiting\n")
        sys.stdout.flush()
        await stop.wait()
        for one in work:
            one.cancel()
    agent.close()


with suppress(asyncio.CancelledError):
    asyncio.run(main())
