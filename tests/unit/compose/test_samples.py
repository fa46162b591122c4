"""The samples load as the reference loads them (tests/fixtures/compose/README.md)."""

import json
from pathlib import Path
from typing import Any

import pytest

from compose.docker3 import version_3
from compose.dump import as_json, as_yaml
from compose.files import Disk
from compose.model import Loaded, load
from compose.projects import Request
from compose.report import Refused
from tests.fixtures.composing import CASES, HOME, SAMPLES, expected

MODELS = [name for name, case in CASES.items() if not case.get("each") and "verb" not in case]
STACKS = [name for name, case in CASES.items() if not case.get("each") and "verb" in case]
EACH = [
    (name, file)
    for name, case in CASES.items()
    if case.get("each")
    for file in json.loads((SAMPLES / f"{name}.expected.json").read_text())["files"]
]
ACCEPTED = {
    ("stack-refused", file)
    for file in (
        "boolean-environment.yaml cpus-number.yaml depends-on-map.yaml extends.yaml name.yaml "
        "plus-operator.yaml profiles.yaml published-text.yaml version-2.yaml yes-is-text.yaml "
        "no-image.yaml version-mismatch"
    ).split()
}
"""What the Compose Spec gives a meaning; `stack config` shows a service that is only built."""
KEPT_FOR_DOCKER = {"cap_add", "devices", "env_file", "shm_size", "build"}
"""Docker prints these as they are written: twice, in their short form."""


def sample(name: str, *files: str, **more: Any) -> Loaded:
    case = CASES[name]
    return load(
        Request(
            directory=str(SAMPLES / name),
            home=HOME,
            environ=case.get("env", {}),
            files=files or tuple(case.get("files", ())),
            profiles=tuple(case.get("profiles", ())),
            is_stack=case.get("verb") == "stack",
            project_name=case.get("project", ""),
            **more,
        ),
        Disk(),
    )


def result(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((SAMPLES / f"{name}.expected.json").read_text())
    return found


@pytest.mark.parametrize("name", MODELS)
def test_a_sample_has_the_reference_s_model(name: str) -> None:
    found = sample(name)
    assert found.model == expected(result(name)["model"], str(SAMPLES / name))
    assert bool(found.warnings) == bool(result(name)["warnings"])


@pytest.mark.parametrize("name", [*MODELS, *STACKS])
def test_what_is_printed_loads_as_the_same_model(name: str, tmp_path: Path) -> None:
    found = sample(name)
    for number, text in enumerate((as_yaml(found.model), as_json(found.model))):
        path = tmp_path / f"{number}.yaml"
        path.write_text(text)
        request = Request(
            directory=str(SAMPLES / name), home=HOME, files=(str(path),), profiles=("*",)
        )
        assert load(request, Disk()).model == found.model


@pytest.mark.parametrize(("name", "file"), EACH, ids=lambda part: part)
def test_a_sample_is_refused_as_the_readme_says(name: str, file: str) -> None:
    path = SAMPLES / name / file
    files = sorted(str(one) for one in path.iterdir()) if path.is_dir() else [str(path)]
    is_refused = result(name)["files"][file]["refused"] and (name, file) not in ACCEPTED
    if not is_refused:
        found = sample(name, *files)
        named = file in ("bad-name.yaml", "same-target.yaml")
        assert bool(found.notices) == (named and name == "refused")
        return
    with pytest.raises(Refused) as caught:
        sample(name, *files)
    for fault in caught.value.faults:
        assert fault.place is not None
        assert fault.place.file.endswith(".yaml")
        assert fault.place.line or "include" in fault.path


@pytest.mark.parametrize("name", STACKS)
def test_a_stack_has_what_docker_prints(name: str) -> None:
    found = sample(name)
    printed = version_3(found.model, found.versions)
    reference = expected(result(name)["config"], str(SAMPLES / name))
    for service, theirs in reference["services"].items():
        ours = printed["services"][service]
        _compare(ours, theirs, service)
    for section in ("networks", "volumes", "secrets", "configs"):
        for key, ours in printed.get(section, {}).items():
            assert ours == (reference[section][key] or {}), (section, key)
    assert printed["version"] == reference["version"]


def _compare(ours: dict[str, Any], theirs: dict[str, Any], service: str) -> None:
    ours, theirs = _like(ours), _like(theirs)
    for key, value in theirs.items():
        if key == "network_mode" and "networks" in theirs:
            continue
        assert ours[key] == value, (service, key)
    assert set(ours) - set(theirs) <= {"tmpfs"}, service


def _like(service: dict[str, Any]) -> dict[str, Any]:
    """A service without what Docker only repeats, numbers as numbers."""
    made = {key: value for key, value in service.items() if key not in KEPT_FOR_DOCKER}
    for amounts in made.get("deploy", {}).get("resources", {}).values():
        amounts["cpus"] = float(amounts.get("cpus", 0))
    made["ports"] = [{"protocol": "tcp", **port} for port in made.get("ports", ())]
    if "volumes" in made:
        made["volumes"] = sorted(made["volumes"], key=lambda mount: str(mount["target"]))
    if "networks" in made:
        made["networks"] = {key: value or None for key, value in made["networks"].items()}
    # Docker keeps the quotes in the values of env files.
    if "QUOTED" in made.get("environment", {}):
        made["environment"]["QUOTED"] = made["environment"]["QUOTED"].strip('"')
    return made
