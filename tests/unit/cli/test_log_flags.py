"""`--log-driver` and `--log-opt` of `run`, `service create` and `service update`."""

import json
import shlex

import pytest
from msgspec.structs import replace

from pyswarm_core.codec import from_proto
from pyswarm_core.specs import ContainerSpec, LogDriver, ServiceSpec, TaskSpec
from tests.unit.cli.conftest import Pyswarm
from tests.unit.cli.objects import service, service_reply
from tests.unit.cli.scripted import Script

SIZED = LogDriver(name="local", options={"max-size": "10m", "max-file": "3"})
LINES = {
    "": LogDriver(),
    "--log-driver local --log-opt max-size=10m --log-opt max-file=3": SIZED,
    "--log-opt max-size=10m": LogDriver(options={"max-size": "10m"}),
    "--log-driver none": LogDriver(name="none"),
    "--log-driver journald --log-opt tag={{.Name}}": LogDriver(
        name="journald", options={"tag": "{{.Name}}"}
    ),
    "--log-driver syslog --log-opt syslog-address=udp://10.0.0.1:514": LogDriver(
        name="syslog", options={"syslog-address": "udp://10.0.0.1:514"}
    ),
}


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("verb", ["service create -d", "create"])
def test_the_driver_is_in_the_spec(verb: str, line: str, script: Script, pyswarm: Pyswarm) -> None:
    script.on("CreateService", service_reply())
    ran = pyswarm(*verb.split(), *shlex.split(line), "web")
    assert (ran.code, ran.err) == (0, "")
    spec = from_proto(ServiceSpec, script.requests("CreateService")[-1].spec)
    assert spec.task_template.log_driver == LINES[line]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("--replicas 2", SIZED),
        ("--log-driver json-file", LogDriver(name="json-file")),
        ("--log-driver local --log-opt max-file=2", replace(SIZED, options={"max-file": "2"})),
        ("--log-opt max-file=2", replace(SIZED, options={"max-file": "2"})),
        ("--log-driver ''", LogDriver()),
    ],
)
def test_an_update_replaces_driver_and_options(
    line: str, expected: LogDriver, script: Script, pyswarm: Pyswarm
) -> None:
    found = service()
    template = TaskSpec(container_spec=ContainerSpec(image="web"), log_driver=SIZED)
    script.on(
        "GetService",
        service_reply(replace(found, spec=replace(found.spec, task_template=template))),
    )
    script.on("UpdateService", service_reply())
    ran = pyswarm("service", "update", "-d", *shlex.split(line), "web")
    assert (ran.code, ran.err) == (0, "")
    spec = from_proto(ServiceSpec, script.requests("UpdateService")[-1].spec)
    assert spec.task_template.log_driver == expected


@pytest.mark.parametrize("verb", ["run", "create", "service create", "service update"])
@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("--log-driver gelf", '--log-driver: value "gelf" is not valid: expected json-file, local'),
        ("--log-opt max-file=0", '--log-opt: value "max-file=0" is not valid: expected a number'),
        ("--log-opt =x", '--log-opt: value "=x" is not valid: expected KEY=VALUE'),
    ],
)
def test_what_is_not_valid_changes_nothing(
    verb: str, line: str, told: str, script: Script, pyswarm: Pyswarm
) -> None:
    script.on("GetService", service_reply())
    ran = pyswarm(*verb.split(), *shlex.split(line), "web")
    assert (ran.code, ran.out) == (125 if verb == "run" else 2, "")
    assert told in ran.err
    assert not script.requests("CreateService")
    assert not script.requests("UpdateService")


def test_inspect_pretty_shows_driver_and_options(script: Script, pyswarm: Pyswarm) -> None:
    found = service()
    template = TaskSpec(container_spec=ContainerSpec(image="web"), log_driver=SIZED)
    script.on(
        "GetService",
        service_reply(replace(found, spec=replace(found.spec, task_template=template))),
    )
    ran = pyswarm("service", "inspect", "--pretty", "web")
    assert (
        "Log Driver:\n Name:          local\n LogOpts:       max-file=3 max-size=10m\n" in ran.out
    )
    shown = pyswarm(
        "service", "inspect", "web", "--format", "{{json .Spec.TaskTemplate.LogDriver}}"
    )
    assert json.loads(shown.out) == {"Name": "local", "Options": SIZED.options}
