"""`python -m bench.volumes_agent DIRECTORY ADDRESS`: the byte streams of one agent, with the volume
`v1` and the certificate in `own.json`. SHELL. Each line of the input is an OpenTunnel message in
hexadecimal; the end of the input ends the process.
"""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import grpc
import msgspec

from agent.session.streams import serve_stream
from agent.streams.direct.connection import Own
from agent.streams.serving import Streams
from agent.volumes.files import VolumeFiles
from agent.volumes.store import VolumeStore
from agent.volumes.volumes import Volumes
from pyswarm_core.aio.channel import CHANNEL_OPTIONS
from pyswarm_core.api.v1 import dispatcher_pb2


async def serve(top: Path, address: str) -> None:
    """Serve until the input ends."""
    store = VolumeStore(top / "state")
    store.prepare()
    volumes = Volumes(store, top / "run", lambda task_id: top / task_id)
    files = VolumeFiles(volumes, top / "run", dict)
    nothing: Any = None
    own = msgspec.json.decode((top / "own.json").read_bytes(), type=Own)
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    async with (
        grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel,
        Streams(nothing, nothing, dict, nothing, files, own=lambda: own) as streams,
        asyncio.TaskGroup() as group,
    ):
        print("ready", flush=True)
        while line := await reader.readline():
            request = dispatcher_pb2.OpenTunnel.FromString(bytes.fromhex(line.decode()))
            group.create_task(serve_stream(streams, channel, request))


if __name__ == "__main__":
    try:
        asyncio.run(serve(Path(sys.argv[1]), sys.argv[2]))
    finally:
        os._exit(0)
