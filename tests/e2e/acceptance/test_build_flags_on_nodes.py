"""Flags of `pyswarm build --node`, each by what it changes in the image, also for a platform that
is none of the fleet's.
"""

import io
import json
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.e2e.acceptance.fleet import PYSWARM, Fleet

RECIPE = """\
FROM scratch AS first
ARG WHO=nobody
LABEL case={case} who=$WHO stage=first
COPY kept /kept
FROM first AS last
LABEL stage=last
COPY one /one
"""
"""With a label of the case: buildah 1.28 takes a cached LABEL for another value of an argument."""


class Case(NamedTuple):
    """Flags, and what they change."""

    words: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    architecture: str = "amd64"
    files: frozenset[str] = frozenset({"kept", "kept/a", "one"})
    by_stdin: bool = False


FOREIGN = ("--platform", "linux/arm64")
CASES = {
    "none": Case(),
    "platform": Case(FOREIGN, architecture="arm64"),
    "build-arg": Case((*FOREIGN, "--build-arg", "WHO=ann"), (("who", "ann"),), "arm64"),
    "label": Case((*FOREIGN, "--label", "who=eve"), (("who", "eve"),), "arm64"),
    "target": Case((*FOREIGN, "--target", "first"), (("stage", "first"),), "arm64",
                   frozenset({"kept", "kept/a"})),
    "stdin": Case((*FOREIGN, "-f", "-"), architecture="arm64", by_stdin=True),
    "secret": Case((*FOREIGN, "--secret", "id=token,src=SECRET"), architecture="arm64"),
    "cache-from": Case(("--cache-from", "10.99.0.250:9/none")),
}  # fmt: skip


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("context")
    (folder / "kept").mkdir()
    (folder / "kept" / "a").write_text("1")
    (folder / "kept" / "left").write_text("2")
    (folder / "one").write_text("3")
    (folder / ".dockerignore").write_text("**/left\n")
    return folder


@pytest.fixture(autouse=True)
def _nothing_stays(fleet: Fleet) -> Iterator[None]:
    yield
    fleet.run("rmi", "flag:1", "flag:2")


def files(fleet: Fleet, image: str) -> set[str]:
    """The paths in the image's layers."""
    words = [str(PYSWARM), "save", image]
    saved = subprocess.run(words, env=fleet.environment, capture_output=True, check=True).stdout
    found: set[str] = set()
    with tarfile.open(fileobj=io.BytesIO(saved)) as archive:
        listed = archive.extractfile("manifest.json")
        assert listed is not None
        for name in json.load(listed)[0]["Layers"]:
            with tarfile.open(fileobj=archive.extractfile(name)) as layer:
                found |= {path.strip("/") for path in layer.getnames()} - {"", "."}
    return found


@pytest.mark.parametrize("name", CASES)
def test_a_flag_has_its_effect_on_a_node(
    name: str, fleet: Fleet, context: Path, tmp_path: Path
) -> None:
    case, recipe = CASES[name], RECIPE.format(case=name)
    (context / "Dockerfile").write_text("" if case.by_stdin else recipe)
    (tmp_path / "secret").write_text("sesame")
    words = [str(PYSWARM), "build", "--node", "host2", "--iidfile", str(tmp_path / "iid")]
    words += ["-t", "flag:1", "-t", "flag:2"]
    words += [word.replace("SECRET", f"{tmp_path}/secret") for word in case.words]
    given = recipe if case.by_stdin else ""
    done = subprocess.run(
        [*words, str(context)],
        env=fleet.environment, input=given, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "flag:1\nflag:2\n"), done.stderr

    found: list[dict[str, Any]] = json.loads(fleet("image", "inspect", "flag:1", "flag:2"))
    assert {one["Id"] for one in found} == {(tmp_path / "iid").read_text()}
    image = found[0]
    expected = {"case": name, "who": "nobody", "stage": "last", **dict(case.labels)}
    labels = image["Config"]["Labels"]
    assert {key: labels[key] for key in expected} == expected
    assert image["Architecture"] == case.architecture
    assert files(fleet, "flag:1") == case.files

    rows = fleet.rows("images", "--filter", "node=host2")
    assert "<none>" not in {row["Repository"] for row in rows}, "steps are no rows of the list"
    fleet("rmi", "flag:1", "flag:2")
    rows = fleet.rows("images", "-a", "--filter", f"label=case={name}")
    assert rows == [], "the images of its steps go with it"
