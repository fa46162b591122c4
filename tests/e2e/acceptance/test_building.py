"""`pyswarm build` for a fleet that has no registry but its own."""

import shutil
from pathlib import Path

import pytest

from tests.e2e.acceptance.fleet import Fleet

RECIPE = """\
FROM scratch AS base
COPY rootfs/ /
FROM base
ENV PATH=/bin PORT=80
RUN echo built > /made
ENTRYPOINT ["/bin/sh", "/server"]
"""


@pytest.fixture(scope="module")
def context(fleet: Fleet) -> Path:
    folder = fleet.home / "built"
    shutil.copytree(fleet.home / "image", folder, symlinks=True)
    (folder / "Containerfile").unlink()
    (folder / "Dockerfile").write_text(RECIPE)
    return folder


def pushes(fleet: Fleet) -> list[str]:
    return [row["Object"] for row in fleet.rows("audit") if row["Verb"] == "image push"]


def test_what_was_built_runs_and_is_pushed_once(fleet: Fleet, service: str, context: Path) -> None:
    tags = ("built:1", "built:2", "team/built:1")
    words = [word for tag in tags for word in ("-t", tag)]
    assert fleet("build", *words, str(context)).split() == list(tags)
    fleet("service", "create", "--name", service, "--replicas", "3", "team/built:1")
    (task, *_) = fleet.running(service)
    assert fleet.contained(task["ID"], "/bin/cat", "/made").out == "built\n"

    first = fleet("build", "-q", *words, str(context))
    assert first.startswith("sha256:")
    assert first == fleet("builder", "build", "-q", "-t", "built:1", str(context))
    # Records come in the order of pushes, a moment later.
    fleet("build", "-q", "-t", "marker:1", str(context))
    fleet.until(lambda: "image/marker:1" in pushes(fleet), "the last push has a record")
    found = pushes(fleet)
    assert [found.count(f"image/{tag}") for tag in tags] == [1, 1, 1], "pushed again"


def test_a_base_image_comes_from_the_fleet(fleet: Fleet, context: Path, tmp_path: Path) -> None:
    fleet("build", "-q", "-t", "built:1", str(context))
    child = tmp_path / "Dockerfile"
    child.write_text("FROM built:1\nCOPY --from=built:1 /made /again\nRUN cat /again\n")
    other = Fleet(fleet.name, fleet.home)
    other.environment["XDG_CACHE_HOME"] = str(tmp_path / "other")
    done = other.run("build", "-t", "child:1", str(tmp_path))
    assert done.code == 0, done.err
    assert "[3/3] RUN cat /again (Dockerfile:3)\nbuilt\n" in done.err


def test_a_build_that_fails_pushes_nothing(fleet: Fleet, context: Path) -> None:
    (context / "broken").write_text(RECIPE.replace("echo built > /made", "nonesuch"))
    done = fleet.run("build", "-t", "broken:1", "-f", str(context / "broken"), str(context))
    assert (done.code, done.out) == (1, "")
    *shown, error = done.err.splitlines()
    assert error == "Error: broken:5: RUN nonesuch: exit status 127"
    assert any("nonesuch: not found" in line for line in shown)
    fleet("build", "-q", "-t", "marker:2", str(context))
    fleet.until(lambda: "image/marker:2" in pushes(fleet), "the last push has a record")
    assert "image/broken:1" not in pushes(fleet)
