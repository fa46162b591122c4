"""The container of `compose run`."""

import pytest

from cli.compose.deploying.oneoff import Asked, container
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.specs import (
    ContainerMode,
    ContainerSpec,
    EndpointSpec,
    HealthConfig,
    NetworkAttachment,
    PortConfig,
    RestartCondition,
    ServiceSpec,
    TaskSpec,
)
from pyswarm_core.stacks.dependencies import Dependency
from pyswarm_core.volumes.mounts import Mount, MountType
from tests.unit.cli.compose import made

SPEC = ServiceSpec(
    name="shop_app",
    labels={**made.labels("app"), "com.docker.stack.image": "app:1"},
    task_template=TaskSpec(
        container_spec=ContainerSpec(
            image="app:1",
            command=("entry",),
            args=("serve",),
            env=("A=1",),
            labels=made.labels("app"),
            healthcheck=HealthConfig(test=("CMD", "true")),
            mounts=(Mount(type=MountType.VOLUME, source="shop_data", target="/data"),),
        ),
        networks=(NetworkAttachment(target="shop_default", aliases=("app",), ip="10.0.0.9"),),
    ),
    endpoint_spec=EndpointSpec(ports=(PortConfig(80, published_port=8080),)),
    depends_on=(Dependency(service="shop_db"),),
)


def made_of(**more: object) -> ServiceSpec:
    return container(SPEC, Asked(name="shop-app-run-1", **more))  # type: ignore[arg-type]


def test_it_is_the_services_without_ports_aliases_and_restarts() -> None:
    spec = made_of(auto_remove=True)
    of_it = spec.task_template.container_spec
    assert (spec.name, spec.mode) == ("shop-app-run-1", ContainerMode(auto_remove=True))
    assert (of_it.command, of_it.args, of_it.env) == (("entry",), ("serve",), ("A=1",))
    assert spec.endpoint_spec.ports == ()
    assert spec.depends_on == ()
    assert spec.task_template.networks == (NetworkAttachment(target="shop_default"),)
    assert spec.task_template.restart_policy.condition is RestartCondition.NONE
    assert of_it.healthcheck.test == ("NONE",)
    assert of_it.labels["com.docker.compose.oneoff"] == "True"
    assert spec.labels["com.docker.compose.oneoff"] == "True"
    assert spec.labels["com.docker.compose.service"] == "app"


def test_flags_replace_what_the_service_says() -> None:
    spec = made_of(
        command=("npm", "test"),
        env=("B=2",),
        user="app",
        workdir="/src",
        labels=("a=b",),
        volumes=("cache:/data",),
        publish=("9090:90",),
        service_ports=True,
        use_aliases=True,
    )
    of_it = spec.task_template.container_spec
    assert (of_it.command, of_it.args) == (("entry",), ("npm", "test"))
    assert of_it.env == ("A=1", "B=2")
    assert (of_it.user, of_it.dir, of_it.labels["a"]) == ("app", "/src", "b")
    assert [(one.source, one.target) for one in of_it.mounts] == [("cache", "/data")]
    assert [one.published_port for one in spec.endpoint_spec.ports] == [8080, 9090]
    assert spec.task_template.networks[0].aliases == ("app",)


def test_an_entrypoint_drops_the_services_command() -> None:
    of_it = made_of(entrypoint="sh -c 'exit 3'").task_template.container_spec
    assert (of_it.command, of_it.args) == (("sh", "-c", "exit 3"), ())
    with pytest.raises(InvalidArgument, match="--entrypoint"):
        made_of(entrypoint="sh -c 'exit")
