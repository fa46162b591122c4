"""The samples as stacks: what Docker sends for them, and what a fleet refuses."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from compose.dump import as_yaml
from compose.files import Disk
from compose.mapping.mapped import Mapped, Options
from compose.mapping.stack import stack_of
from compose.model import Loaded, load
from compose.projects import Request
from compose.report import Refused
from pyswarm_core.validation import require, service_problems
from tests.fixtures.composing import CASES, HOME, SAMPLES
from tests.unit.compose.test_samples import MODELS, STACKS, result, sample

REFUSED = {
    "build": {"services.long.build.ssh", "services.long.build.additional_contexts"},
    "deploy": {
        "services.job.deploy.mode",
        "services.replicated.deploy.resources.reservations.devices[0]",
        "services.replicated.deploy.resources.reservations.devices[2]",
    },
    "depends-on": {
        "services.sidecar.network_mode",
        "services.sidecar.pid",
        "services.sidecar.ipc",
    },
    "extras": {
        "services.app.develop",
        "services.app.external_links",
        "services.app.post_start",
        "services.app.pre_stop",
    },
    "interpolation": {"services.list-form.ports[1]"},
    "limits": {
        "services.old-style.cpu_period",
        "services.old-style.cpu_quota",
        "services.security.hostname",
    },
    "networks": {"networks.front.ipam.config[0].aux_addresses"},
    "ports": {"services.short.ports[12].host_ip"},
    "secrets": {"services.app.build.secrets"},
    "stack-ignored": {"services.a.external_links", "services.a.shm_size"},
    "stack-monitoring": {"volumes.spool.driver"},
}
"""Sample -> the keys for which it is refused; others are mapped."""


def stacked(name: str, found: Loaded) -> Mapped:
    is_stack = CASES[name].get("verb") == "stack"
    return stack_of(found, Options(is_stack=is_stack), Disk())


@pytest.mark.parametrize("name", [*MODELS, *STACKS])
def test_a_sample_is_mapped_or_refused_by_key(name: str) -> None:
    loaded = sample(name)
    if name not in REFUSED:
        for service in stacked(name, loaded).spec.services:
            require(service_problems(service))
        return
    with pytest.raises(Refused) as caught:
        stacked(name, loaded)
    assert {fault.path for fault in caught.value.faults} == REFUSED[name]
    for fault in caught.value.faults:
        assert fault.place is not None
        assert fault.place.line


PRINTED = [name for name in (*MODELS, *STACKS) if name not in (*REFUSED, "volumes")]
"""`volumes` binds what is outside of the project, relatively: what is printed is absolute."""


@pytest.mark.parametrize("name", PRINTED)
def test_what_is_printed_is_mapped_alike(name: str, tmp_path: Path) -> None:
    loaded = sample(name)
    path = tmp_path / "compose.yaml"
    path.write_text(as_yaml(loaded.model))
    request = Request(
        directory=loaded.directory,
        home=HOME,
        files=(str(path),),
        project_directory=loaded.directory,
        profiles=("*",),
        environ=CASES[name].get("env", {}),
    )
    again = stacked(name, load(request, Disk()))
    assert again.spec == stacked(name, loaded).spec


OTHERS = {"SecretID", "ConfigID", "ForceUpdate", "VolumeOptions", "Mode", "Placement", "Options"}
"""What we have in another shape."""


@pytest.mark.parametrize("name", STACKS)
def test_a_stack_has_what_docker_sends(name: str) -> None:
    loaded = sample(name)
    if name in REFUSED:
        loaded = without(loaded, REFUSED[name])
    ours = msgspec.json.decode(msgspec.json.encode(stacked(name, loaded).spec))
    sent = result(name)["sent"]
    for service in sent["services"]:
        mine = next(one for one in ours["Services"] if one["Name"] == service["Name"])
        assert_has(mine, service, service["Name"])
    for section in ("secrets", "configs"):
        for one in sent.get(section, ()):
            mine = next(own for own in ours[section.title()] if own["Spec"]["Name"] == one["Name"])
            assert mine["Data"] == one["Data"]
            assert_has(mine["Spec"], {k: v for k, v in one.items() if k != "Data"}, one["Name"])
    for network in sent["networks"]:
        mine = [one for one in ours["Networks"] if one["Name"] == network["Name"]]
        for one in mine:
            assert_has(one, network, network["Name"])


def without(loaded: Loaded, paths: set[str]) -> Loaded:
    """The model without the keys that a fleet refuses."""
    for path in paths:
        *keys, last = path.split(".")
        found = loaded.tree.get(*keys)
        assert found is not None
        if last == "driver":
            found.value[last] = found.at("nfs")
        else:
            del found.value[last]
    return loaded


def assert_has(ours: Any, theirs: Any, where: str) -> None:
    """Everything in theirs is in ours, which may have more."""
    if isinstance(theirs, dict):
        for key, value in theirs.items():
            if key not in OTHERS:
                assert_has(ours[key], value, f"{where}.{key}")
        return
    if isinstance(theirs, list) and where.endswith(".Ports"):
        # Docker ignores the addresses of ports, and leaves defaults out.
        ours = [{**one, "HostIP": ""} for one in ours]
    if isinstance(theirs, list) and theirs and isinstance(theirs[0], dict):
        assert len(ours) == len(theirs), where
        for number, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
            assert_has(mine, other, f"{where}[{number}]")
        return
    if where.endswith(".Aliases"):
        ours = [alias for alias in ours if alias != "fixed"]  # container_name
    if where.endswith(".Env"):
        ours = ['QUOTED="kept with quotes"' if one.startswith("QUOTED") else one for one in ours]
    assert ours == theirs, where


def test_the_samples_are_there() -> None:
    assert SAMPLES.is_dir()
    assert {*REFUSED} <= {*MODELS, *STACKS}
