"""Images that buildah builds, also where the kernel's overlay cannot be used."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent.images.imageconfig import parse_configuration
from cli.image.building.progress import BuildFailed
from pyswarm_core.clock import SECOND
from pyswarm_core.errors import InvalidArgument, PyswarmError
from pyswarm_core.specs import HealthConfig
from tests.integration.images.builds import Builds


@pytest.fixture
def builds(tmp_path: Path) -> Builds:
    return Builds(tmp_path)


@pytest.fixture
def overlay(tmp_path: Path) -> Iterator[Path]:
    """A folder on an overlay."""
    lower, upper, work, home = (tmp_path / name for name in ("lower", "upper", "work", "home"))
    for folder in (lower, upper, work, home):
        folder.mkdir()
    options = f"lowerdir={lower},upperdir={upper},workdir={work}"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, home], check=True)
    yield home
    subprocess.run(["umount", home], check=True)


def test_an_image_is_built_where_the_file_system_is_an_overlay(overlay: Path) -> None:
    builds = Builds(overlay)
    builds.write({"Containerfile": "FROM scratch\nCOPY file /file\n", "file": "text"})
    builds.build()
    assert (overlay / "storage/storage/vfs-images").is_dir()


def test_a_built_image_keeps_its_healthcheck(builds: Builds) -> None:
    check = "HEALTHCHECK --interval=7s --timeout=2s --start-period=9s --retries=5 CMD /check it\n"
    builds.write({"Dockerfile": f"FROM scratch\nCOPY file /file\n{check}", "file": "text"})
    config = msgspec.json.encode(builds.build().config())
    assert parse_configuration(config).run.healthcheck == HealthConfig(
        test=("CMD-SHELL", "/check it"),
        interval=7 * SECOND,
        timeout=2 * SECOND,
        start_period=9 * SECOND,
        retries=5,
    )


STAGES = """\
# syntax=docker/dockerfile:1
ARG BASE=nothing
FROM ${BASE} AS base
COPY root/ /
FROM base AS builder
ARG WHO
ENV GREETING=hello
RUN echo $GREETING $WHO > /made
RUN --mount=type=cache,target=/kept,id=kept echo x >> /kept/n && cat /kept/n >> /made
RUN --mount=type=secret,id=token cat /run/secrets/token > /dev/stderr
FROM base AS last
COPY --from=builder --chown=5:6 /made /given
RUN ls -ln /given
USER 5
EXPOSE 3000
CMD ["sh", "-c", "true"]
"""


def test_stages_arguments_mounts_and_owners(
    builds: Builds,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("token", "of the environment")
    builds.add_busybox()
    builds.write({"Dockerfile": STAGES})
    (tmp_path / "secret").write_text("sesame\n")
    given: dict[str, Any] = {
        "build_args": ("BASE=scratch", "WHO=you"),
        "labels": ("tier=1",),
        "secrets": (f"id=token,type=file,src={tmp_path}/secret",),
    }
    built = builds.build(**given)
    shown = capfd.readouterr().err
    assert "[builder 4/6] RUN echo $GREETING $WHO > /made (Dockerfile:8)" in shown
    assert "sesame\n" in shown
    assert "    1 5        6 " in shown
    assert built.files("given")["."] == "hello you\nx\n"
    config = built.config()["config"]
    assert (config["User"], config["ExposedPorts"], config["Labels"]["tier"]) == (
        "5",
        {"3000/tcp": {}},
        "1",
    )
    again = builds.build(**given)
    shown = capfd.readouterr().err
    assert again.image == built.image
    assert shown.count("CACHED") == 12, shown
    builder = builds.build(**given, target="builder", no_cache=True, mode="quiet")
    assert builder.image != built.image
    assert capfd.readouterr().err == ""
    assert builder.files("made")["."] == "hello you\nx\nx\n", "the cache mount is kept"


def test_a_failing_step_is_shown_with_its_line_and_output(
    builds: Builds, capfd: pytest.CaptureFixture[str]
) -> None:
    builds.add_busybox()
    text = "FROM scratch\n\nCOPY root/ /\nRUN echo one && \\\n    echo two >&2 && \\\n    false\n"
    builds.write({"Dockerfile": text})
    for mode in ("plain", "quiet"):
        with pytest.raises(BuildFailed) as raised:
            builds.build(mode=mode)
        words = "RUN echo one &&     echo two >&2 &&     false"
        assert str(raised.value) == f"Dockerfile:4: {words}: exit status 1"
        shown = capfd.readouterr().err
        step = f"[3/3] {words} (Dockerfile:4)\n"
        outputs = [f"{step}{output}Dockerfile:4\n" for output in ("one\ntwo\n", "two\none\n")]
        assert any(output in shown for output in outputs), "stdout and stderr are two pipes"
        assert " 3 |     COPY root/ /\n 4 | >>> RUN echo one && \\\n 5 | >>>" in shown
        assert "exited with status" not in shown
    containers = builds.storage.folder / "storage/overlay-containers/containers.json"
    assert containers.read_text().strip() in ("[]", "null")


def test_the_step_that_failed_is_named_although_stages_run_at_the_same_time(
    builds: Builds,
) -> None:
    builds.add_busybox()
    text = "FROM scratch AS a\nCOPY root/ /\nRUN sleep 1\nFROM scratch\nCOPY --from=a /nothing /b\n"
    builds.write({"Dockerfile": text})
    with pytest.raises(PyswarmError, match=r"Dockerfile:5: COPY --from=a /nothing /b: .*nothing"):
        builds.build()


def test_a_file_that_is_not_there_or_ignored_is_named(builds: Builds) -> None:
    builds.write({"Dockerfile": "FROM scratch\nCOPY b /\n", "b": "", ".dockerignore": "b\n"})
    with pytest.raises(PyswarmError) as raised:
        builds.build()
    expected = "the context has no such file, or .dockerignore excludes it"
    assert str(raised.value) == f"Dockerfile:2: COPY b /: b: {expected}"
    builds.write({"Dockerfile": "FROM scratch\nCOPY sub/none /\n"})
    with pytest.raises(PyswarmError, match=f"2: COPY sub/none /: sub/none: {expected}"):
        builds.build()


def test_heredocs_are_refused_with_their_line(builds: Builds) -> None:
    builds.write({"Dockerfile": "FROM scratch\nRUN <<EOF\necho a\nEOF\n"})
    with pytest.raises(InvalidArgument, match=r"Dockerfile:2: heredocs need buildah 1\.33, and"):
        builds.build()


def test_more_layers_than_an_image_can_have_are_refused_by_number(builds: Builds) -> None:
    lines = ["FROM scratch AS a", *["COPY a /"] * 100, "FROM a", *["RUN a"] * 28]
    builds.write({"Dockerfile": "\n".join(lines)})
    with pytest.raises(InvalidArgument, match="make 128 layers, and an image has at most 127"):
        builds.build()


def test_steps_may_have_no_network(builds: Builds, capfd: pytest.CaptureFixture[str]) -> None:
    builds.add_busybox()
    text = "FROM scratch\nCOPY root/ /\nRUN cat /proc/net/dev > /dev/stderr\n"
    builds.write({"Dockerfile": text})
    builds.build(network="none")
    shown = capfd.readouterr().err
    interfaces = [line.split(":")[0].strip() for line in shown.splitlines() if ": " in line]
    assert "lo" in interfaces
    assert not [name for name in interfaces if name.startswith(("e", "br"))], shown


def test_an_interrupted_build_leaves_no_container(builds: Builds) -> None:
    builds.add_busybox()
    builds.write({"Dockerfile": "FROM scratch\nCOPY root/ /\nRUN touch /tmp/x; sleep 997\n"})
    program = "import sys; from tests.unit.cli.entry import main; main()"
    environment = {**os.environ, "XDG_CACHE_HOME": str(builds.context.parent)}
    with subprocess.Popen(
        [sys.executable, "-c", program, "build", str(builds.context)],
        env=environment,
        stderr=subprocess.PIPE,
        process_group=0,
    ) as process:
        assert process.stderr is not None
        while b"RUN touch" not in process.stderr.readline():
            pass
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait() == 130
    storage = builds.context.parent / "pyswarm/build"
    assert not list(storage.glob("run-*"))
    listed = storage / "storage/overlay-containers/containers.json"
    assert listed.read_text().strip() in ("[]", "null")


TAR = {"Dockerfile": "FROM scratch\nCOPY a /\n", "a": "x"}


def test_a_context_may_be_an_archive_on_stdin(builds: Builds, tmp_path: Path) -> None:
    builds.write(TAR)
    for name, flag in (("plain.tar", "c"), ("packed.tar.gz", "cz"), ("packed.tar.xz", "cJ")):
        archive = tmp_path / name
        subprocess.run(["tar", f"-{flag}f", archive, "-C", builds.context, "."], check=True)
        with stdin(archive):
            assert builds.build(context="-", tags=()).files() == {"a": "x"}
    cut = tmp_path / "cut.tar"
    cut.write_bytes((tmp_path / "plain.tar").read_bytes()[:1100])
    with stdin(cut), pytest.raises(InvalidArgument, match="is not a complete archive: "):
        builds.build(context="-")


def test_a_dockerfile_may_be_on_stdin(builds: Builds, tmp_path: Path) -> None:
    builds.write({"a": "x", "Dockerfile": "RUNN"})
    file = tmp_path / "file"
    file.write_text("FROM scratch\nCOPY a /\n")
    with stdin(file):
        assert builds.build(file="-").files() == {"a": "x"}
    with stdin(file), pytest.raises(PyswarmError, match="standard input:2: COPY a /: a: the cont"):
        builds.build(context="-")
    with stdin(Path(os.devnull)), pytest.raises(InvalidArgument, match="standard input is empty"):
        builds.build(context="-")


@contextmanager
def stdin(path: Path) -> Iterator[None]:
    """The file as the standard input of this process."""
    kept = os.dup(0)
    with path.open("rb") as file:
        os.dup2(file.fileno(), 0)
    try:
        yield
    finally:
        os.dup2(kept, 0)
        os.close(kept)


def test_what_is_ignored_is_not_read(builds: Builds) -> None:
    builds.write(
        {"Dockerfile": "FROM scratch\nCOPY . /\n", ".dockerignore": "*\n!**/a\n", "b/a": ""}
    )
    with (builds.context / "b" / "huge").open("wb") as file:
        file.truncate(1 << 40)
    assert builds.build().files() == {"b/a": ""}


@pytest.mark.nightly
def test_a_context_of_500_megabytes_and_140_steps(
    builds: Builds, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = builds.context / "data"
    folder.mkdir()
    for number in range(500):
        (folder / str(number)).write_bytes(os.urandom(1_000_000))
    settings = [f"ENV A{number}={number}" for number in range(138)]
    builds.write({"Dockerfile": "\n".join(["FROM scratch", "COPY data/ /data/", *settings])})
    built = builds.build()
    shown = capfd.readouterr().err
    assert "[140/140] ENV A137=137 (Dockerfile:140)" in shown
    assert len(built.config()["config"]["Env"]) >= 138
    assert builds.build().image == built.image
    assert capfd.readouterr().err.count("CACHED") == 139


IGNORED = [
    ("plain", "a\n**/x.log\n", ["b/c", "d++/e", "keep/one", "keep/two/three"]),
    ("regular expression", "d++\nb\n", ["a", "keep/one", "keep/two/three", "keep/two/x.log"]),
    ("exceptions", "*\n!keep/one\n", ["keep/one"]),
    ("exceptions by pattern", "*\n!**/three\n", ["keep/two/three"]),
    ("the last counts", "keep\n!keep/two\nkeep/two/x*\n", ["a", "b/c", "d++/e", "keep/two/three"]),
    ("blanks", " /b \r\n # none\nkeep/**\n", ["a", "d++/e"]),
]


@pytest.mark.parametrize(
    ("patterns", "kept"), [row[1:] for row in IGNORED], ids=[r[0] for r in IGNORED]
)
def test_dockerignore_leaves_out_what_docker_leaves_out(
    builds: Builds, patterns: str, kept: list[str]
) -> None:
    names = ("a", "b/c", "d++/e", "keep/one", "keep/two/three", "keep/two/x.log")
    builds.write({f"src/{name}": name for name in names})
    folder = builds.context / "src"
    (folder.parent / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    (folder / ".dockerignore").write_text(f"{patterns}\n.dockerignore\n")
    built = builds.build(context=str(folder), file=str(builds.context / "Dockerfile"))
    assert sorted(built.files()) == kept


def test_a_dockerfile_has_an_ignore_file_of_its_own(builds: Builds) -> None:
    builds.write(
        {
            ".dockerignore": "b\n",
            "sub/other.Dockerfile": "FROM scratch\nCOPY . /\n",
            "sub/other.Dockerfile.dockerignore": "*\n!b\n",
            "a": "a",
            "b": "b",
        }
    )
    assert builds.build(file="sub/other.Dockerfile").files() == {"b": "b"}
