"""Names, labels, restarts, replicas, ports, networks and dependencies of mapped services."""

import pytest

from compose.mapping.mapped import Build, Mapped
from pyswarm_core.clock import MILLISECOND, MINUTE, SECOND
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.specs import RestartCondition, RestartPolicy
from tests.fixtures.mapping import faults, file_of, mapped, notices, service_of

OWN = {"com.docker.stack.namespace": "shop", "com.docker.compose.project": "shop"}


def test_everything_has_the_names_and_labels_of_the_stack() -> None:
    top = "networks: {n: , own: {name: mine}, far: {external: true}}\nvolumes: {v: }\n"
    found = mapped(file_of("networks: [n, own, far]\nvolumes: [v:/v]\nlabels: [a=b]", top))
    assert found.services == {"a": "shop_a", "b": "shop_b"}
    web = found.spec.services[0]
    assert web.labels == {
        **OWN,
        "com.docker.compose.service": "a",
        "com.docker.stack.image": "x",
    }
    container = web.task_template.container_spec
    assert container.labels == {**OWN, "com.docker.compose.service": "a", "a": "b"}
    assert [one.name for one in found.spec.networks] == ["mine", "shop_default", "shop_n"]
    assert found.spec.networks[0].labels == {**OWN, "com.docker.compose.network": "own"}
    assert [one.name for one in found.spec.volumes] == ["shop_v"]
    joined = {one.target: one.aliases for one in web.task_template.networks}
    assert joined == {"far": ("a",), "mine": ("a",), "shop_n": ("a",)}


def test_a_label_of_a_user_never_hides_the_stack() -> None:
    lines = "labels: {com.docker.stack.namespace: other}"
    assert service_of(lines).task_template.container_spec.labels["com.docker.stack.namespace"] == (
        "shop"
    )


@pytest.mark.parametrize(
    ("lines", "compose", "stack"),
    [
        ("", RestartCondition.NONE, RestartCondition.ANY),
        ('restart: "no"', RestartCondition.NONE, RestartCondition.NONE),
        ("restart: always", RestartCondition.ANY, RestartCondition.ANY),
        ("restart: unless-stopped", RestartCondition.ANY, RestartCondition.ANY),
        ("restart: on-failure:3", RestartCondition.ON_FAILURE, RestartCondition.ON_FAILURE),
        (
            'restart: "no"\ndeploy: {restart_policy: {}}',
            RestartCondition.ANY,
            RestartCondition.ANY,
        ),
    ],
)
def test_restarts(lines: str, compose: RestartCondition, stack: RestartCondition) -> None:
    assert service_of(lines).task_template.restart_policy.condition is compose
    found = service_of(lines, is_stack=True, files=("compose.yaml",))
    assert found.task_template.restart_policy.condition is stack


def test_delays_of_restarts_are_docker_s() -> None:
    run = service_of("restart: always").task_template.restart_policy
    assert (run.delay, run.max_delay) == (100 * MILLISECOND, MINUTE)
    swarm = service_of("restart: on-failure:3", is_stack=True, files=("compose.yaml",))
    expected = RestartPolicy(condition=RestartCondition.ON_FAILURE, max_attempts=3)
    assert swarm.task_template.restart_policy == expected
    assert expected.delay == 5 * SECOND


def test_a_container_name_of_several_replicas() -> None:
    (fault,) = faults(file_of("container_name: one\nscale: 2"))
    assert fault.startswith("compose.yaml:4:21: services.a.container_name: one is the name of one")
    told = notices(file_of("container_name: one"), scales={"a": 3})
    assert [text for text in told if "resolves to all 3 replicas" in text]
    assert len([text for text in notices(file_of("container_name: one")) if "alias" in text]) == 1


def test_scale_counts_before_the_file() -> None:
    found = mapped(file_of("deploy: {replicas: 2}"), scales={"a": 5})
    assert getattr(found.spec.services[0].mode, "replicas", 0) == 5
    with pytest.raises(InvalidArgument, match=r'--scale: service "c" is not valid'):
        mapped(file_of(""), scales={"c": 1})
    (fault,) = faults(file_of("deploy: {mode: global}"), scales={"a": 1})
    assert fault.startswith("compose.yaml:4:20: services.a.deploy.mode: a service of mode global")


def test_links_are_aliases_on_shared_networks() -> None:
    top = "networks: {n: , m: , o: }\n"
    text = (
        "services:\n"
        "  a: {image: x, networks: [n, m], links: ['b:data', c]}\n"
        "  b: {image: x, networks: [n, o]}\n"
        "  c: {image: x, networks: [o]}\n"
    )
    found = mapped(text + top)
    b = found.spec.services[1]
    assert {one.target: one.aliases for one in b.task_template.networks} == {
        "shop_n": ("b", "data"),
        "shop_o": ("b",),
    }
    assert [one.service for one in found.spec.services[0].depends_on] == ["shop_b", "shop_c"]
    told = [str(notice) for notice in found.notices]
    assert any("no network of the service has c" in text for text in told)


def test_a_predefined_network_has_no_aliases() -> None:
    top = "networks: {h: {external: true, name: host}}\n"
    (joined,) = service_of("networks: [h]", top).task_template.networks
    assert (joined.target, joined.aliases) == ("host", ())


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        (
            "ports: ['80:80', '80:81']",
            "compose.yaml:4:22: services.a.ports[1]: port 80 is published at compose.yaml:4:13 as"
            " well: expected each once; `ports: !override` in a later file replaces the earlier"
            " list",
        ),
        (
            "ports: ['8000-8002:80', {target: 9, published: 8001, mode: host}]",
            "compose.yaml:4:29: services.a.ports[1]: port 8001 is published at compose.yaml:4:13 as"
            " well: expected each once; `ports: !override` in a later file replaces the earlier"
            " list",
        ),
        (
            "ports: ['127.0.0.1:80:80', '0.0.0.0:80:81']",
            "compose.yaml:4:32: services.a.ports[1]: port 80 is published at compose.yaml:4:13 as"
            " well: expected each once; `ports: !override` in a later file replaces the earlier"
            " list",
        ),
    ],
)
def test_a_port_that_is_published_twice_is_refused(lines: str, fault: str) -> None:
    assert faults(file_of(lines)) == [fault]


def test_two_services_publish_no_port_together() -> None:
    text = "services:\n  a: {image: x, ports: ['80:1']}\n  b: {image: x, ports: ['80:2']}\n"
    told = "compose.yaml:3:25: services.b.ports[0]: port 80 is published by service a at"
    assert faults(text) == [f"{told} compose.yaml:2:25 as well"]
    assert not faults(
        text.replace("'80:1'", "'127.0.0.1:80:1'").replace("'80:2'", "'10.0.0.1:80:2'")
    )
    assert not faults(text.replace("'80:2'", "'80:2/udp'"))


def test_an_optional_dependency_that_does_not_exist_is_left_out() -> None:
    lines = "depends_on: {c: {condition: service_started, required: false}}"
    assert service_of(lines).depends_on == ()


def test_a_service_without_a_check_is_never_healthy() -> None:
    text = (
        "services:\n"
        "  a: {image: x, depends_on: {b: {condition: service_healthy}}}\n"
        "  b: {image: x, healthcheck: {disable: true}}\n"
    )
    (fault,) = faults(text)
    assert fault.startswith("compose.yaml:2:33: services.a.depends_on.b.condition: b has no health")


def test_braces_are_templates_of_stacks_alone() -> None:
    lines = "environment: {F: '{{.Node.ID}} {'}"
    stack = service_of(lines, is_stack=True, files=("compose.yaml",))
    assert stack.task_template.container_spec.env == ("F={{.Node.ID}} {",)
    found = service_of(lines).task_template.container_spec.env
    assert found == ('F={{"{{"}}.Node.ID}} {',)


def test_a_build_has_all_that_a_builder_needs() -> None:
    lines = (
        "build: {context: ./web, dockerfile: Df, args: {A: '1'}, target: t, labels: [l=m],"
        " tags: [x:2], platforms: [linux/amd64], cache_from: [c], cache_to: [d], network: host,"
        " no_cache: true, pull: true, privileged: true, extra_hosts: [h=10.0.0.1], shm_size: 1m,"
        " ulimits: {nofile: 4}}"
    )
    found = mapped(file_of(lines)).builds["a"]
    assert (found.image, found.context, found.dockerfile) == ("x", "/project/web", "Df")
    assert (found.args, found.labels, found.tags) == ({"A": "1"}, {"l": "m"}, ("x:2",))
    empty = Build(image="x", context="/project/web")
    for name in Build.__struct_fields__:
        is_set = name not in ("image", "context", "dockerfile_inline")
        assert (getattr(found, name) != getattr(empty, name)) == is_set, name


def test_a_service_that_is_only_built() -> None:
    text = "services: {a: {build: .}}\n"
    assert mapped(text).images == {"a": "shop-a"}
    assert mapped(text).builds["a"].dockerfile == "Dockerfile"
    (fault,) = faults(text, builds=False)
    assert fault.endswith("services.a.build: the service has no image: expected one, or --build")
    unused = "services: {a: {image: x, build: {context: ., ssh: [default]}}}\n"
    assert not faults(unused, builds=False)
    assert [text for text in notices(unused, builds=False) if "is not built" in text]
    assert faults(unused)


def test_what_the_command_line_does() -> None:
    lines = "pull_policy: daily\nattach: false\ncontainer_name: one\nprofiles: [p]"
    found: Mapped = mapped(file_of(lines), profiles=("p",))
    assert found.pull_policies == {"a": "daily"}
    assert found.unattached == ("a",)
    assert found.container_names == {"a": "one"}
    assert found.profiles == ("p",)
