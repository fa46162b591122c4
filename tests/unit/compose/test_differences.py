"""What pyswarm makes of files on purpose otherwise than docker compose, or where that fails."""

from typing import Any

import pytest

from compose.dump import as_yaml
from compose.report import Refused
from tests.fixtures.composing import loaded, model, service


@pytest.mark.parametrize(
    ("lines", "later", "key", "left"),
    [
        ("cap_add: [A, B]", "cap_add: [!reset A]", "cap_add", ["B"]),
        ("environment: {A: 1, B: 2}", "environment: [!reset A, C=3]", "environment",
         {"B": "2", "C": "3"}),
        ("environment: [A=1, B=2]", "environment: {A: !reset null}", "environment", {"B": "2"}),
        ("labels: [A=1, B=2]", "labels: [!reset A=1]", "labels", {"B": "2"}),
        ("tmpfs: /a", "tmpfs: ['/a:size=1m', /b]", "tmpfs", ["/a:size=1m", "/b"]),
        ("tmpfs: [/a, /b]", "tmpfs: [!reset /a]", "tmpfs", ["/b"]),
    ],
)  # fmt: skip
def test_entries_of_lists_are_reset_by_what_they_name(
    lines: str, later: str, key: str, left: Any
) -> None:
    assert service(lines, later)[key] == left


def test_a_port_or_mount_is_reset_by_what_identifies_it() -> None:
    found = service('ports: ["80:80", "81:81"]', 'ports: [!reset "80:80"]')["ports"]
    assert [port["published"] for port in found] == ["81"]
    text = "volumes: [aa:/a, ./b:/b]"
    files = {
        "0.yaml": f"services:\n  a:\n    image: x\n    {text}\nvolumes: {{aa: , cc: }}\n",
        "1.yaml": "services: {a: {volumes: [!reset 'cc:/a']}}\n",
    }
    found = model(files, files=tuple(files))["services"]["a"]["volumes"]
    assert [mount["target"] for mount in found] == ["/b"]


def test_subnets_of_a_network_merge_one_by_one() -> None:
    blocks = "ipam: {config: [{subnet: 10.0.0.0/8, gateway: 10.0.0.1}, {subnet: 'fd00::/64'}]}"
    files = {
        "0.yaml": f"services: {{a: {{image: x, networks: [n]}}}}\nnetworks: {{n: {{{blocks}}}}}\n",
        "1.yaml": "networks:\n"
        "  n: {ipam: {config: [{subnet: 10.0.0.0/8, ip_range: 10.1.0.0/16}]}}\n",
    }
    assert model(files, files=tuple(files))["networks"]["n"]["ipam"]["config"] == [
        {"subnet": "10.0.0.0/8", "ip_range": "10.1.0.0/16"},
        {"subnet": "fd00::/64"},
    ]


def test_a_key_that_no_file_gives_a_value_is_refused_and_named() -> None:
    with pytest.raises(Refused) as caught:
        service("ports:\nhostname:\nlabels:\nbuild: {args: }\ndeploy: {resources: {limits: }}")
    keys = ("ports", "hostname", "labels", "build.args", "deploy.resources.limits")
    assert [fault.path for fault in caught.value.faults] == [f"services.a.{key}" for key in keys]
    assert {fault.text for fault in caught.value.faults} == {
        "the key has no value: write one, or remove the key"
    }
    assert service("ports: ['80']\nhostname: h", "ports:\nhostname:")["hostname"] == "h"
    assert service("ports:\nhostname:", "ports: ['80']\nhostname: h")["hostname"] == "h"


def test_a_key_that_may_be_absent_has_no_value() -> None:
    lines = "command:\nentrypoint:\ndeploy:\ndevelop:\nenvironment: {A: }\nlabels: {b: }"
    found = service(lines)
    assert found["environment"] == {"A": None}
    assert found["labels"] == {"b": ""}
    text = "services: {a: {image: x, networks: {n: }, volumes: ['vv:/v']}}\n"
    assert model(f"{text}networks: {{n: }}\nvolumes: {{vv: }}\n")["networks"] == {
        "n": {"name": "project_n"}
    }


def test_a_size_with_an_exponent_is_read() -> None:
    found = service("mem_limit: 1e9\nshm_size: 1.5e6\nmemswap_limit: 2_000")
    sizes = [found[key] for key in ("mem_limit", "shm_size", "memswap_limit")]
    assert sizes == ["1000000000", "1500000", "2000"]


def test_tags_that_mean_nothing_are_left_out() -> None:
    text = (
        "x-a: !Ref foo\nx-b: !!set {a}\nx-c: !!omap [a: 1]\nservices:\n  a:\n    image: x\n"
        "    labels: !map {a: !!binary aGk=, b: !date 2024-01-02, c: !!timestamp 2024-01-02}\n"
        "    ports: !seq [!port 81]\n    environment: {A: !!null '', B: !!str 1}\n"
    )
    found = loaded(text)
    one = found.model["services"]["a"]
    assert one["labels"] == {"a": "hi", "b": "2024-01-02", "c": "2024-01-02"}
    assert one["environment"] == {"A": None, "B": "1"}
    assert one["ports"] == [{"mode": "ingress", "protocol": "tcp", "target": 81}]
    assert [found.model[key] for key in ("x-a", "x-b", "x-c")] == ["foo", {"a": None}, [{"a": 1}]]
    assert [remark.path for remark in found.notices] == [
        "x-a", "services.a.labels", "services.a.labels.b", "services.a.ports",
        "services.a.ports[0]",
    ]  # fmt: skip


def test_a_protocol_in_capitals_is_that_protocol() -> None:
    lines = "ports: [{target: 80, published: 80, protocol: TCP}, '81:81/UDP']"
    found = service(lines, "ports: ['80:80/tcp', {target: 81, published: 81, protocol: Udp}]")
    ports = [(port["target"], port["protocol"]) for port in found["ports"]]
    assert ports == [(80, "tcp"), (81, "Udp")]
    assert service(lines)["ports"][0]["protocol"] == "TCP"


def test_a_device_without_capabilities_is_printed_as_one() -> None:
    request = "{driver: cdi, device_ids: [a/b=c], capabilities: []}"
    text = f"deploy: {{resources: {{reservations: {{devices: [{request}]}}}}}}"
    found = model(f"services: {{a: {{image: x, {text}}}}}\n")
    [device] = found["services"]["a"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == []
    assert model(as_yaml(found)) == found


def test_a_service_that_is_optional_may_be_absent() -> None:
    need = "{condition: service_started, required: false}"
    found = loaded(f"services: {{a: {{image: x, depends_on: {{b: {need}}}}}}}\n")
    [notice] = found.notices
    assert notice.path == "services.a.depends_on.b"
    assert notice.text == "there is no service b here: it is not waited for"


def test_a_date_stays_the_text_that_is_written() -> None:
    assert service("labels: {a: 2024-01-02}")["labels"] == {"a": "2024-01-02"}


def test_two_slashes_at_the_begin_of_a_target_are_one() -> None:
    found = service("volumes: ['/a://x', '/b:/x/', '//y/']")["volumes"]
    assert [mount["target"] for mount in found] == ["/x", "/y"]
    with pytest.raises(Refused, match="a tmpfs is mounted at /x already"):
        service("volumes: ['/a:/x']\ntmpfs: //x")


def test_a_name_of_one_letter_is_a_volume() -> None:
    text = "services: {a: {image: x, volumes: ['v:/x', 'v:/y:ro']}}\nvolumes: {v: }\n"
    mount = {"type": "volume", "source": "v"}
    assert model(text)["services"]["a"]["volumes"] == [
        {**mount, "target": "/x"},
        {**mount, "target": "/y", "read_only": True},
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("services: {a: {image: x, volumes: ['/a:/b:rx']}}\n",
         'services.a.volumes[0]: "rx" is not valid: expected options of ro, rw'),
        ("services: {a: {image: x, restart: sometimes}}\n",
         '"sometimes" is not valid: expected one of no, always, on-failure'),
        ("services: {a: {image: x, deploy: {restart_policy: {condition: always}}}}\n",
         '"always" is not valid: expected one of none, on-failure, any'),
        ("services: {a: {image: x, deploy: {mode: many}}}\n",
         '"many" is not valid: expected one of replicated, global, replicated-job, global-job'),
    ],
)  # fmt: skip
def test_what_the_reference_drops_is_refused(text: str, reason: str) -> None:
    with pytest.raises(Refused) as caught:
        loaded(text)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("section", "entry", "told"),
    [
        ("networks", "{external: true, driver: x, attachable: true}", "driver, attachable"),
        ("secrets", "{external: true, file: ./x}", "file"),
        ("configs", "{external: true, content: x, name: y}", "content"),
    ],
)
def test_other_keys_of_what_is_external_have_a_notice(section: str, entry: str, told: str) -> None:
    found = loaded(f"services: {{a: {{image: x}}}}\n{section}: {{n: {entry}}}\n")
    [notice] = found.notices
    assert str(notice).endswith(f"{section}.n: {told}: an external object takes only name")


def test_both_sides_of_an_include_are_merged_with_a_notice() -> None:
    files = {
        "compose.yaml": "include: [i.yaml]\nservices: {a: {image: x}}\n",
        "i.yaml": "services: {a: {image: y, hostname: h}}\n",
    }
    found = loaded(files)
    assert found.model["services"]["a"]["image"] == "x"
    assert found.model["services"]["a"]["hostname"] == "h"
    [notice] = found.notices
    assert str(notice).startswith("compose.yaml:2:15: services.a: also defined in i.yaml:1:15")


def test_a_stack_s_variables_are_told_where_docker_s_differ() -> None:
    text = "services: {a: {image: 'x$T', environment: [A=, B=, C]}}\n"
    files = {"s.yaml": text, ".env": "T=1\n"}
    environ = {"A": "shell", "C": "c"}
    found = loaded(files, files=("s.yaml",), is_stack=True, environ=environ)
    assert found.model["services"]["a"]["environment"] == {"A": "", "B": "", "C": "c"}
    assert [str(one) for one in found.warnings] == [
        ".env: variables come from here; docker stack deploy reads no .env,"
        " --no-env-file leaves it out"
    ]
    [notice] = found.notices
    assert notice.path == "services.a.environment.A"
    found = loaded(files, files=("s.yaml",), environ=environ)
    assert (found.warnings, found.notices) == ((), ())


def test_stacks_of_version_3_merge_as_docker_s() -> None:
    first = (
        'version: "3.8"\nservices:\n  a:\n    image: x\n    ports: [80, 81, "90:1"]\n'
        "    networks: {n: {aliases: [one]}}\n    secrets: [s]\n"
        "networks: {n: }\nsecrets: {s: {file: s}, t: {file: t}}\n"
    )
    second = (
        'version: "3.8"\nservices:\n  a:\n    ports: [82, "90:2"]\n'
        "    networks: {n: {aliases: [two]}}\n    secrets: [{source: s, target: q}]\n"
    )
    files = {"1.yaml": first, "2.yaml": second}
    one = model(files, files=tuple(files), is_stack=True, project_name="st")["services"]["a"]
    ports = [(port["target"], port.get("published")) for port in one["ports"]]
    assert ports == [(80, None), (81, None), (2, "90"), (82, None)]
    assert one["networks"] == {"n": {"aliases": ["two"]}}
    assert one["secrets"] == [{"source": "s", "target": "q"}]
    newer = {name: text.replace('version: "3.8"\n', "") for name, text in files.items()}
    two = model(newer, files=tuple(files), is_stack=True, project_name="st")["services"]["a"]
    assert [(p["target"], p.get("published")) for p in two["ports"]] == [
        (80, None), (81, None), (1, "90"), (82, None), (2, "90"),
    ]  # fmt: skip
    assert two["networks"] == {"n": {"aliases": ["one", "two"]}}
    assert [entry["target"] for entry in two["secrets"]] == ["/run/secrets/s", "q"]
