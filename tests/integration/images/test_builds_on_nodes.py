"""Builds in a host's image storage by a real buildah, as an agent serves them."""

import asyncio
import io
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agent.images.base import ImageConfig, Images
from agent.images.building import buildah
from agent.images.building.buildah import Builds
from agent.images.building.steps import steps_of
from agent.images.settings import ImageSettings
from agent.images.store import open_images
from agent.streams import building
from agent.streams.base import Link
from agent.streams.building import serve_build
from pyswarm_core.specs import RegistryLogin
from pyswarm_core.streams.frames import STDIN, STDOUT, Data, Exit, Frame, HalfClose, Started, Window
from pyswarm_core.streams.requests import BUILD_FAILED, BuildImageRequest, BuildSecret
from tests.integration.images.builds import APPLETS
from tests.integration.images.registry import Registry

SHELL = "FROM scratch\nCOPY root/ /\n"
FILES = {"made": "of the context\n"}


def archive(files: Mapping[str, str] = FILES) -> bytes:
    """A context with a shell."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        busybox = shutil.which("busybox")
        assert busybox is not None
        tar.add(busybox, "root/bin/busybox")
        for name in APPLETS:
            link = tarfile.TarInfo(f"root/bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    return content.getvalue()


class Caller:
    """The other end of a build."""

    def __init__(self, context: bytes) -> None:
        self._context = context
        self.output = b""
        self.exit: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self._frames: asyncio.Queue[Frame] = asyncio.Queue()
        self._frames.put_nowait(Window(STDOUT, 1 << 30))
        self._more = asyncio.Event()
        self.link = Link(self._send, self._frames.get)

    async def _send(self, frame: Frame) -> None:
        match frame:
            case Started():
                if not self._context:
                    self._frames.put_nowait(HalfClose(STDIN))
            case Window(channel, credit) if channel == STDIN and self._context:
                part, self._context = self._context[:credit], self._context[credit:]
                self._frames.put_nowait(Data(STDIN, part))
                if not self._context:
                    self._frames.put_nowait(HalfClose(STDIN))
            case Data(channel, data) if channel == STDOUT:
                self.output += data
                self._more.set()
            case Exit():
                self.exit.set_result(frame)
            case _:
                pass

    async def printed(self, line: str) -> None:
        """Wait until the build has printed that line."""
        while line not in self.lines:
            self._more.clear()
            await self._more.wait()

    @property
    def lines(self) -> list[str]:
        """What was printed."""
        return self.output.decode().splitlines()


def request(dockerfile: str, *tags: str, **more: object) -> BuildImageRequest:
    return BuildImageRequest(ref="", dockerfile=dockerfile.encode(), tags=tags, **more)  # type: ignore[arg-type]


@asynccontextmanager
async def building_(
    images: Images, asked: BuildImageRequest, context: bytes | None = None
) -> AsyncIterator[Caller]:
    """A build that is served during the block."""
    caller = Caller(archive() if context is None else context)
    assert images.builds is not None
    serving = asyncio.create_task(serve_build(images.builds, asked, caller.link))
    try:
        yield caller
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def built(
    images: Images, asked: BuildImageRequest, context: bytes | None = None
) -> tuple[Exit, list[str]]:
    async with building_(images, asked, context) as caller:
        return await caller.exit, caller.lines


def nothing_is_left(settings: ImageSettings) -> None:
    """No container, mount, context or temporary file of a build."""
    listed = settings.root / "overlay-containers" / "containers.json"
    assert not listed.exists() or listed.read_text().strip() in ("[]", "null")
    assert str(settings.root) not in Path("/proc/self/mountinfo").read_text()
    assert list(settings.work.glob("build-*")) == []
    left = {path.name for path in settings.builds.glob("*")}
    assert left <= {"buildah-cache"}


STAGES = f"""\
{SHELL.replace("scratch", "scratch AS base")}FROM base
ARG WHO
COPY made /given
RUN echo hello $WHO; cat /given; sleep 0.3
RUN --mount=type=secret,id=token cat /run/secrets/token; sleep 0.3
RUN --mount=type=cache,target=/kept,id=kept echo x >> /kept/n; cat /kept/n; sleep 0.3
"""
"""buildah 1.28 may lose the end of the output of a step that ends at once."""


async def test_a_build_is_an_image_of_the_host_and_its_steps_are_cached(
    images: Images, settings: ImageSettings
) -> None:
    asked = request(
        STAGES,
        "web:1",
        "team/web:2",
        build_args=("WHO=you",),
        labels=("tier=1",),
        secrets=(BuildSecret(id="token", data=b"sesame\n"),),
    )
    end, lines = await built(images, asked)
    assert (end.code, end.message[:7]) == (0, "sha256:"), lines
    for line in ("hello you", "of the context", "sesame", "x"):
        assert line in lines, lines
    assert "[2/2] STEP 4/7: RUN echo hello $WHO; cat /given; sleep 0.3" in lines
    image = await images.resolve("web:1")
    assert image.id == end.message.removeprefix("sha256:")
    assert image.names == ("docker.io/library/web:1", "docker.io/team/web:2")
    assert not any(b"sesame" in path.read_bytes() for path in settings.root.rglob("*token*"))
    nothing_is_left(settings)

    again, lines = await built(images, asked)
    assert again == end
    assert sum(line.startswith("--> Using cache") for line in lines) == 7, lines
    assert images.builds is not None
    assert (settings.builds / "buildah-cache").is_dir()
    assert await images.builds.forget() > 0
    assert list(settings.builds.iterdir()) == []
    stored = (await images.stored()).images
    assert len(stored) > 4
    assert {one.id for one in stored} - steps_of(stored) == {image.id}


async def test_a_failing_step_ends_the_build_with_its_output(
    images: Images, settings: ImageSettings
) -> None:
    end, lines = await built(images, request(f"{SHELL}RUN echo one; false\n", "web:1"))
    assert end == Exit(BUILD_FAILED)
    assert "one" in lines
    assert lines[-1] == 'Error: building at STEP "RUN echo one; false": exit status 1'
    assert not any(image.names for image in (await images.stored()).images)
    nothing_is_left(settings)


async def test_base_images_are_pulled_with_the_login_of_the_caller(
    images: Images, registry: Registry
) -> None:
    registry.push("base:1", [{"a": b"1"}], ImageConfig(user="web"))
    registry.stop()
    registry.start(login=True)
    base = f"{registry.address}/base:1"
    asked = request(f"FROM {base}\nCOPY made /\n", "web:1")
    end, _ = await built(images, asked)
    assert end.code
    assert "not allowed to pull" in end.message
    login = RegistryLogin(registry=registry.address, username="ann", password="right")
    end, lines = await built(images, request(asked.dockerfile.decode(), "web:1", logins=(login,)))
    assert (end.code, lines[0]) == (0, f"pulling {base}"), lines
    assert (await images.resolve("web:1")).config.user == "web"
    registry.stop()
    end, lines = await built(images, asked)
    assert end.code == 0, "it is here"


async def test_steps_may_have_no_network(images: Images) -> None:
    asked = request(f"{SHELL}RUN cat /proc/net/dev\n", network="none")
    end, lines = await built(images, asked)
    assert end.code == 0
    assert [line.split(":")[0].strip() for line in lines if ": " in line and "|" not in line][
        -1
    ] == "lo"


SLEEPS = f"{SHELL}RUN sleep 971 & echo begun; sleep 972\n"


def sleepers() -> list[str]:
    found = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    return [line for line in found.stdout.splitlines() if line in ("sleep 971", "sleep 972")]


async def test_a_caller_who_leaves_ends_the_build_and_nothing_is_left(
    images: Images, settings: ImageSettings
) -> None:
    async with building_(images, request(SLEEPS, "web:1")) as caller:
        await caller.printed("begun")
        assert len(sleepers()) == 2
    assert sleepers() == []
    nothing_is_left(settings)
    assert not any(image.names for image in (await images.stored()).images)
    end, _ = await built(images, request(SHELL, "web:1"))
    assert end.code == 0


AGENT = """\
import asyncio, sys
from pathlib import Path
from agent.images.settings import ImageSettings
from agent.images.store import open_images
from tests.integration.images.test_builds_on_nodes import SLEEPS, building_, request

async def main():
    top = Path(sys.argv[1])
    settings = ImageSettings(root=top / "root", run_root=top / "run", work=top / "work")
    async with open_images(settings) as images:
        async with building_(images, request(SLEEPS, "web:1")) as caller:
            await caller.printed("begun")
            print("begun", flush=True)
            await caller.exit

asyncio.run(main())
"""


def killed_agent(top: Path) -> None:
    """Run an agent that is killed while it builds."""
    words = [sys.executable, "-c", AGENT, str(top)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as agent:
        assert agent.stdout is not None
        assert agent.stdout.readline() == b"begun\n"
        assert len(sleepers()) == 2
        agent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while sleepers():
        assert time.monotonic() < deadline
        time.sleep(0.05)


async def test_an_agent_that_is_killed_takes_its_build_along(settings: ImageSettings) -> None:
    await asyncio.to_thread(killed_agent, settings.root.parent)
    assert list(settings.work.glob("build-*"))
    async with open_images(settings) as images:
        nothing_is_left(settings)
        assert not any(image.names for image in (await images.stored()).images)
        end, lines = await built(images, request(f"{SHELL}RUN echo again\n", "web:1"))
        assert end.code == 0
        assert "again" in lines


async def test_what_is_no_archive_or_too_large_is_refused(
    images: Images, settings: ImageSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    end, _ = await built(images, request(SHELL), b"no archive" * 1000)
    assert end.message.startswith("the context cannot be unpacked on the node: ")
    monkeypatch.setattr(building, "BUILD_CONTEXT_BYTES", 1 << 20)
    huge = archive({"big": "x" * (2 << 20)})
    end, _ = await built(images, request(SHELL), huge)
    assert end.message == (
        "PATH: the context has more than 1MiB: name in .dockerignore what the image does not need"
    )
    nothing_is_left(settings)


async def test_names_that_lead_out_of_the_context_are_refused(
    images: Images, tmp_path: Path
) -> None:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        info = tarfile.TarInfo(f"../../../../../../{tmp_path}/out")
        tar.addfile(info)
    end, _ = await built(images, request(SHELL), content.getvalue())
    assert end.code
    assert not (tmp_path / "out").exists()


async def test_a_dockerfile_that_cannot_be_built_is_named(images: Images) -> None:
    asked = request("FROM scratch\nRUNN x\n", name="web/Dockerfile")
    end, _ = await built(images, asked)
    assert end.message.startswith('web/Dockerfile:2: instruction "RUNN" is not valid')
    end, _ = await built(images, request(SHELL, target="nowhere"))
    assert "--target" in end.message


async def test_a_host_without_buildah_says_so(
    images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buildah, "which", lambda _: None)
    end, _ = await built(images, request(SHELL))
    assert end.message == "buildah is not installed on this host: apt-get install buildah"


async def test_so_many_builds_run_at_once(images: Images) -> None:
    builds = images.builds
    assert isinstance(builds, Builds)
    builds.running = 8
    end, _ = await built(images, request(SHELL))
    assert end.message == "8 builds run on this node, which is the limit: wait"
    builds.running = 0
