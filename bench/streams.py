"""Byte streams: the throughput of `exec` beside a plain gRPC stream, and the time of `exec true`.

The plain stream is one of gRPC in Python between two processes of this machine, with messages as
large as a frame. A byte stream passes the controller: four processes, three of them Python, share
the processors.
"""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any, cast

import grpc
import msgspec

from bench.fleet import Fleet, playground, service
from bench.report import Figure
from cli.daemons import entering
from pyswarm_core.aio.channel import CHANNEL_OPTIONS, SERVER_OPTIONS
from pyswarm_core.specs import Resources, ServiceSpec
from pyswarm_core.streams.limits import STREAM_FRAME_BYTES

if TYPE_CHECKING:
    from io import BufferedReader

_HOST = "host2"
_METHOD = "/bench.Plain/Stream"
_MIB = 1 << 20


def measure(quick: bool) -> Iterable[Figure]:
    """Both in turns on one playground."""
    size, rounds, times = (256 * _MIB, 1, 3) if quick else (1024 * _MIB, 3, 30)
    with playground() as fleet:
        created = fleet.create(_unlimited(service("box", 1, host=_HOST)))
        (replica,) = fleet.replicas(created)
        yield _throughput(fleet, size, rounds)
        yield _time(fleet, replica.task, times)


def _unlimited(spec: ServiceSpec) -> ServiceSpec:
    """The same without limits, which would be the command's as well."""
    template = msgspec.structs.replace(spec.task_template, resources=Resources())
    return msgspec.structs.replace(spec, task_template=template)


def _throughput(fleet: Fleet, size: int, rounds: int) -> Figure:
    ratios, ours, floor = [], 0.0, 0.0
    for _ in range(rounds):
        floor = _plain(size)
        ours = _exec(fleet, size)
        ratios.append(ours / floor)
    note = f"{ours / _MIB:.0f} MiB/s, plain {floor / _MIB:.0f} MiB/s"
    return Figure(
        "exec's output, over a plain gRPC stream", median(ratios), "x", 0.5, True, note=note
    )


def _exec(fleet: Fleet, size: int) -> float:
    """Bytes per second of a command's output, without the time until its first byte."""
    count = f"count={size // _MIB + 1}"
    words = _pyswarm(fleet, "exec", "box", "/bin/busybox", "dd", "if=/dev/zero", "bs=1M", count)
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        output = cast("BufferedReader", process.stdout)
        output.read(_MIB)
        began, left = time.perf_counter(), size
        while part := output.read1(_MIB):
            left -= len(part)
        took = time.perf_counter() - began
    assert (process.returncode, left) == (0, 0)
    return size / took


def _plain(size: int) -> float:
    """Bytes per second of a plain stream from another process."""
    words = [sys.executable, "-m", "bench.streams", str(size)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        took = asyncio.run(_received(port, size))
        server.terminate()
    return size / took


async def _received(port: int, size: int) -> float:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=CHANNEL_OPTIONS) as channel:
        call: Any = channel.unary_stream(_METHOD, bytes, bytes)(b"")
        left = size - len(await call.read())
        began = time.perf_counter()
        while left > 0:
            left -= len(await call.read())
        return time.perf_counter() - began


async def _serve(size: int) -> None:
    """Serve one stream of that many bytes, until the process is terminated."""

    async def stream(_: bytes, context: object) -> AsyncIterator[bytes]:
        message = bytes(STREAM_FRAME_BYTES)
        for _number in range(-(-size // len(message)) + 1):
            yield message

    handler = grpc.unary_stream_rpc_method_handler(stream)
    service_, method = _METHOD.strip("/").split("/")
    server = grpc.aio.server(options=SERVER_OPTIONS)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service_, {method: handler}),)
    )
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    await server.start()
    await server.wait_for_termination()


def _time(fleet: Fleet, task: str, times: int) -> Figure:
    host = fleet.plan.host(_HOST)
    crun = ["crun", "--root", f"{host.run_dir}/oci", "exec", task, "/bin/busybox", "true"]
    bare = _wall_ms([*entering(host.netns_path, host.mountns_path), *crun], times)
    entered = _wall_ms([*entering(host.netns_path, host.mountns_path), "/bin/true"], times)
    imports = "import os, cli.main, cli.client, cli.container.exec, cli.streams.program"
    start = _wall_ms([sys.executable, "-P", "-c", f"{imports}; os._exit(0)"], times)
    ours = _wall_ms(_pyswarm(fleet, "exec", "box", "/bin/busybox", "true"), times)
    return Figure(
        "exec true: wall time above the CLI's start",
        ours - start,
        "ms",
        1.5 * (bare - entered) + 30,
        note=f"{ours:.0f} ms with the start's {start:.0f} ms; crun exec {bare - entered:.0f} ms",
    )


def _wall_ms(words: Sequence[str], times: int) -> float:
    found = []
    for _ in range(times):
        began = time.perf_counter()
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        found.append(1e3 * (time.perf_counter() - began))
    return median(found)


def _pyswarm(fleet: Fleet, *words: str) -> list[str]:
    start = "from cli.start import main; main()"
    return [sys.executable, "-P", "-c", start, "--host", fleet.client.host, *words]


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
