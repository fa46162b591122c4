"""A pipeline with the token of a user who is limited to a stack: build, push, deploy, exit code."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.acceptance.fleet import IMAGE, PYSWARM, ROOT, Fleet
from tests.fixtures.commands import Done

RECIPE = """\
FROM scratch
COPY rootfs/ /
ENV PATH=/bin PORT=80 REVISION={}
ENTRYPOINT ["/bin/sh", "{}"]
"""
CONVERGENCE_FAILED = 4
STACK = "com.docker.stack.namespace"


class Pipeline:
    """Commands on another machine, with nothing but an address and a token."""

    def __init__(self, fleet: Fleet, home: Path, token: str) -> None:
        self._fleet = fleet
        shutil.copytree(fleet.home / "image", home / "context", symlinks=True)
        (home / "context" / "Containerfile").unlink()
        self._context = home / "context"
        self._environment = (
            "PYSWARM_HOST=10.99.0.1:2377",
            f"PYSWARM_TOKEN={token}",
            f"XDG_CONFIG_HOME={home}/config",
            f"XDG_CACHE_HOME={home}/cache",
            f"PATH={PYSWARM.parent}:/usr/sbin:/usr/bin:/sbin:/bin",
        )

    def __call__(self, *words: str) -> Done:
        """Run `pyswarm WORDS`."""
        return self._fleet.outside("env", *self._environment, str(PYSWARM), *words)

    def deploy(self, revision: str, program: str = "/server") -> Done:
        """Build, push and deploy a revision."""
        (self._context / "Dockerfile").write_text(RECIPE.format(revision, program))
        script = str(ROOT / "examples/pipeline/deploy.sh")
        given = ("shop", "app", revision, str(self._context))
        return self._fleet.outside("env", *self._environment, script, *given)

    def build(self, *tags: str) -> Done:
        """Build and push."""
        words = [word for tag in tags for word in ("-t", tag)]
        return self("build", *words, str(self._context))


@pytest.fixture
def pipeline(fleet: Fleet, tmp_path: Path) -> Iterator[Pipeline]:
    fleet("user", "create", "--role", "operator", "--stack", "shop", "ci")
    try:
        yield Pipeline(fleet, tmp_path, fleet("user", "token", "-q", "--expires", "1h", "ci"))
    finally:
        fleet.run("service", "rm", "shop_app")
        fleet("user", "rm", "ci")


def running(fleet: Fleet, revision: str) -> bool:
    images = [task["Image"] for task in fleet.running("shop_app")]
    return [image.partition("@")[0] for image in images] == [f"shop/app:{revision}"]


def test_a_pipeline_builds_pushes_under_two_tags_and_deploys(
    fleet: Fleet, pipeline: Pipeline
) -> None:
    done = pipeline.deploy("r1")
    assert done.code == 0, done.err
    assert "shop/app:r1\nshop/app:latest\n" in done.out
    assert "[3/4] ENV" in done.err
    assert running(fleet, "r1")
    done = pipeline.deploy("r2")
    assert done.code == 0, done.err
    assert running(fleet, "r2")
    pushed = [row["Object"] for row in fleet.rows("audit", "--user", "ci")]
    for name in ("shop/app:r1", "shop/app:r2", "shop/app:latest"):
        assert f"image/{name}" in pushed

    done = pipeline.deploy("r3", "/nonesuch")
    assert done.code == CONVERGENCE_FAILED, done
    assert "shop_app update paused" in done.err
    done = pipeline("service", "rollback", "shop_app")
    assert done.code == 0, done.err
    assert running(fleet, "r2")


def test_it_sees_its_own_images_and_writes_to_no_repository_of_others(
    fleet: Fleet, pipeline: Pipeline, service: str
) -> None:
    assert pipeline.deploy("r1").code == 0
    fleet("service", "create", "--name", service, "--label", f"{STACK}=other", IMAGE)
    shown = pipeline("images", "--format", "{{.Repository}}:{{.Tag}} {{.Services}}")
    assert shown.code == 0, shown.err
    assert "shop/app:r1 shop_app" in shown.out
    assert service not in shown.out
    assert pipeline("image", "inspect", "shop/app:r1").code == 0
    assert pipeline("history", "shop/app:r1").code == 0
    assert pipeline("pull", "-q", "shop/app:r1").code == 0

    for tag in (IMAGE, "web:mine"):
        done = pipeline.build(tag)
        assert (done.code, done.out) == (1, "")
        assert "of other" in done.err or "of another" in done.err, done.err
    assert pipeline.build("tools/own:1").code == 0
    done = pipeline("rmi", IMAGE)
    assert done.code == 1, done
    assert "may not remove" in done.err
    done = pipeline("rmi", "tools/own:1")
    assert (done.code, done.out) == (0, "registry: Untagged: tools/own:1\n"), done.err
    done = pipeline("build", "--node", "host1", "-t", "shop/app:x", str(ROOT / "examples/web"))
    assert done.code != 0
    assert "needs the role admin" in done.err or "has no Dockerfile" in done.err
