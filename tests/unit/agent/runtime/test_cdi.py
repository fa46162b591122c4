"""What files of a host add to containers by the Container Device Interface."""

import json
from pathlib import Path

import pytest

from agent.runtime.base import RuntimeFailed
from agent.runtime.isolation.cdi import Injection, injected
from pyswarm_core.specs import ContainerSpec, Device

HOOK = {"hookName": "createContainer", "path": "/bin/hook", "args": ["hook", "x"]}
CONTENT = {
    "cdiVersion": "0.6.0",
    "kind": "vendor.com/gpu",
    "containerEdits": {"env": ["DRIVER=1"], "hooks": [HOOK]},
    "devices": [
        {
            "name": "0",
            "containerEdits": {
                "env": ["ZERO=1"],
                "deviceNodes": [{"path": "/dev/gpu0", "hostPath": "/dev/null"}],
                "mounts": [{"hostPath": "/etc/hostname", "containerPath": "/lib/driver"}],
            },
        },
        {"name": "1", "containerEdits": {"deviceNodes": [{"path": "/dev/zero"}]}},
        {"name": "broken", "containerEdits": {"deviceNodes": [{"path": "/dev/nosuch"}]}},
        {"name": "file", "containerEdits": {"deviceNodes": [{"path": "/etc/passwd"}]}},
        {"name": "odd", "containerEdits": {"hooks": [{"hookName": "x", "path": "/x"}]}},
    ],
}


def inject(directory: Path, *names: str) -> Injection:
    devices = tuple(Device(path_on_host=f"vendor.com/gpu={name}") for name in names)
    return injected(ContainerSpec(image="web", devices=devices), (directory,))


@pytest.fixture
def cdi(tmp_path: Path) -> Path:
    (tmp_path / "vendor.json").write_text(json.dumps(CONTENT))
    return tmp_path


def test_a_device_adds_what_its_file_says(cdi: Path) -> None:
    found = inject(cdi, "0", "1")
    assert found.env == ("DRIVER=1", "ZERO=1", "DRIVER=1")
    assert [(one.path, one.major, one.minor) for one in found.devices] == [
        ("/dev/gpu0", 1, 3),
        ("/dev/zero", 1, 5),
    ]
    assert found.mounts == (
        {
            "destination": "/lib/driver",
            "type": "bind",
            "source": "/etc/hostname",
            "options": ["rbind", "ro", "nosuid"],
        },
    )
    assert found.hooks == {"createContainer": [{"path": "/bin/hook", "args": ["hook", "x"]}]}


def test_a_later_file_counts(cdi: Path) -> None:
    later = "kind: vendor.com/gpu\ndevices:\n- name: '0'\n  containerEdits: {env: [LATER=1]}\n"
    (cdi / "x.yaml").write_text(later)
    assert inject(cdi, "0").env == ("LATER=1",)


def test_without_such_devices_no_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{")
    spec = ContainerSpec(image="web", devices=(Device(path_on_host="/dev/null"),))
    assert injected(spec, (tmp_path,)) == Injection()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("2", "device vendor.com/gpu=2: no CDI file in .* describes it; there: vendor.com/gpu=0, "),
        ("broken", "device /dev/nosuch of a CDI file: no such file or directory"),
        ("file", "device /etc/passwd of a CDI file: it is no device"),
        ("odd", "its CDI file is not valid: .*unknown hook x"),
    ],
)
def test_what_is_missing_is_named(cdi: Path, name: str, told: str) -> None:
    with pytest.raises(RuntimeFailed, match=told):
        inject(cdi, name)


def test_a_host_without_files_says_so(tmp_path: Path) -> None:
    with pytest.raises(RuntimeFailed, match="none has any device"):
        inject(tmp_path, "0")


@pytest.mark.parametrize("text", ["{", "[1]", '{"devices": ["x"]}'])
def test_a_file_that_is_no_specification_is_named(cdi: Path, text: str) -> None:
    (cdi / "bad.json").write_text(text)
    with pytest.raises(RuntimeFailed, match=r"bad\.json"):
        inject(cdi, "0")
