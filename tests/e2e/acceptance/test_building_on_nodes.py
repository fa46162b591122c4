"""`pyswarm build --node`: the context goes to a node, the image to all."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.e2e.acceptance.fleet import PYSWARM, Fleet

RECIPE = """\
FROM scratch AS base
COPY rootfs/ /
FROM base
ARG WHO
ENV PATH=/bin PORT=80
COPY kept /kept
RUN echo built for $WHO > /made
RUN --mount=type=secret,id=token cat /run/secrets/token; ls /kept; sleep 0.3
ENTRYPOINT ["/bin/sh", "/server"]
"""


@pytest.fixture
def context(fleet: Fleet, tmp_path: Path) -> Path:
    folder = tmp_path / "context"
    shutil.copytree(fleet.home / "image", folder, symlinks=True)
    (folder / "Containerfile").unlink()
    (folder / "kept").mkdir()
    (folder / "kept" / "a").write_text("1")
    (folder / "kept" / "secret").write_text("2")
    (folder / ".dockerignore").write_text("kept/*\n!kept/a\n")
    return folder


def pushes(fleet: Fleet) -> list[str]:
    return [row["Object"] for row in fleet.rows("audit") if row["Verb"] == "image push"]


def test_what_a_node_has_built_runs_on_all(
    fleet: Fleet, service: str, context: Path, tmp_path: Path
) -> None:
    (tmp_path / "recipe").write_text(RECIPE)
    (tmp_path / "token").write_text("sesame\n")
    tags = ("remote:1", "remote:2")
    words = [word for tag in tags for word in ("-t", tag)]
    words += ["-f", str(tmp_path / "recipe"), "--build-arg", "WHO=all", "--node", "host2"]
    words += ["--secret", f"id=token,src={tmp_path}/token", str(context)]
    done = fleet.run("build", *words)
    assert (done.code, done.out.split()) == (0, list(tags)), done.err
    shown = done.err.splitlines()
    assert "[stage-1 5/7] RUN echo built for $WHO > /made (recipe:7)" in shown, done.err
    assert shown[shown.index("sesame") + 1] == "a"
    assert "CACHED" not in shown
    held = fleet("images", "--filter", "node=host2", "--format", "{{.Repository}}:{{.Tag}}")
    assert set(tags) <= set(held.split())
    assert "<none>:<none>" not in held.split()
    whole = fleet("images", "-a", "--filter", "node=host2", "--format", "{{.Repository}}")
    assert "<none>" in whole.split(), "the images of steps"

    fleet("service", "create", "--name", service, "--replicas", "3", "remote:2")
    tasks = fleet.running(service)
    assert {task["Node"] for task in tasks} == {"host1", "host2", "host3"}
    assert fleet.contained(tasks[0]["ID"], "/bin/cat", "/made").out == "built for all\n"

    again = fleet.run("build", *words)
    assert (again.code, again.out) == (0, done.out)
    assert again.err.count("CACHED") == 7, again.err
    assert "pushing" not in again.err
    found = pushes(fleet)
    assert [found.count(f"image/{tag}") for tag in tags] == [1, 1]
    (record,) = [row for row in fleet.rows("audit") if row["Verb"] == "image build"][:1]
    assert record["Object"] == "node/host2"


def test_the_lines_of_a_failing_step_are_shown(fleet: Fleet, context: Path) -> None:
    (context / "Dockerfile").write_text(RECIPE.replace("echo built for $WHO > /made", "nonesuch"))
    done = fleet.run("build", "--node", "host3", "-t", "broken:1", str(context))
    assert (done.code, done.out) == (1, "")
    *shown, error = done.err.splitlines()
    assert error == "Error: Dockerfile:7: RUN nonesuch: exit status 127"
    assert any("nonesuch: not found" in line for line in shown)
    assert any(line.startswith(" 7 | >>> RUN nonesuch") for line in shown)
    assert "image/broken:1" not in pushes(fleet)
    quiet = fleet.run("build", "-q", "--node", "host3", str(context))
    assert "nonesuch: not found" in quiet.err


def test_a_node_that_does_not_exist_is_named(fleet: Fleet, context: Path) -> None:
    (context / "Dockerfile").write_text(RECIPE)
    done = fleet.run("build", "--node", "nowhere", str(context))
    assert done.code == 1
    assert "nowhere" in done.err


def test_a_build_that_is_interrupted_ends_on_the_node(fleet: Fleet, context: Path) -> None:
    (context / "Dockerfile").write_text("FROM scratch\nCOPY rootfs/ /\nRUN sleep 973\n")
    with subprocess.Popen(
        [PYSWARM, "build", "--node", "host1", "-t", "never:1", str(context)],
        env={**fleet.environment, "PATH": os.environ["PATH"]},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        process_group=0,
    ) as process:
        assert process.stderr is not None
        while b"RUN sleep" not in process.stderr.readline():
            pass
        fleet.until(lambda: sleepers(), "the step runs")
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait() == 130
    fleet.until(lambda: not sleepers(), "the step has ended")

    def is_clean() -> bool:
        top = fleet.state_dir / "host1"
        listed = (top / "storage/overlay-containers/containers.json").read_text()
        return listed.strip() in ("[]", "null") and not list((top / "pulls").glob("build-*"))

    fleet.until(is_clean, "nothing is left of it")
    assert "never:1" not in fleet("images", "--format", "{{.Repository}}:{{.Tag}}")


def sleepers() -> bool:
    found = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    return "sleep 973" in found.stdout.splitlines()
