"""What errors say: file, line, column, the path of the key, the value, and what is valid."""

import pytest

from compose.report import Refused
from tests.fixtures.composing import indented, loaded

LINES = [
    ("imagee: x", "4:5: services.a.imagee: no such key: did you mean image?"),
    ("zzzz: x", "4:5: services.a.zzzz: no such key: expected one of profiles, annotations"),
    ("net: host", "4:5: services.a.net: no such key: write network_mode, or networks"),
    ("dockerfile: x", "services.a.dockerfile: no such key: write build: {dockerfile: …}"),
    ("ports: [80.5]", '4:13: services.a.ports[0]: 80.5 is not valid: expected [[IP:][HOST:]]PORT'),
    ("ports: 80", '4:12: services.a.ports: 80 is not valid: expected a list, as in ["8080:80"]'),
    ("ports: {80: 80}", "the key 80 is no text"),
    ("ports: [{published: 1}]", "services.a.ports[0]: the key target is missing"),
    ("ports: [{target: 1, published: x}]", 'ports[0].published: "x" is not valid: expected a port'),
    ("healthcheck: [CMD, x]", 'healthcheck: a list is not valid: expected a map, as in {test:'),
    ("deploy: [a]", "services.a.deploy: a list is not valid: expected a map"),
    ("environment: a", 'environment: "a" is not valid: expected a map or a list of NAME=VALUE'),
    ("environment: [5]", "environment[0]: 5 is not valid: expected text in a list"),
    ("environment: {A: [1]}", "environment.A: a list is not valid: expected text or a number"),
    ("user: 1000", '4:11: services.a.user: 1000 is not valid: expected text, in quotes: "1000"'),
    ("hostname: 0x10", 'services.a.hostname: 0x10 is not valid: expected text, in quotes: "0x10"'),
    ("tty: maybe", 'services.a.tty: "maybe" is not valid: expected true or false'),
    ("scale: many", 'services.a.scale: "many" is not valid: expected an integer of at least 0'),
    ("oom_score_adj: 2000", "2000 is not valid: expected an integer from -1000 to 1000"),
    ("cpus: -1", "services.a.cpus: -1 is not valid: expected a number of at least 0"),
    ("mem_limit: lots", 'mem_limit: "lots" is not valid: expected a number with b, k, m, g'),
    ("stop_grace_period: 10", "10 is not valid: expected text with a unit, as in 1m30s"),
    ("command: a 'b", "expected a command whose quotes are closed"),
    ("command: [a, 1]", 'services.a.command[1]: 1 is not valid: expected text, in quotes: "1"'),
    ("configs: [{source: c, mode: -1}]", "configs[0].mode: -1 is not valid: expected permissions"),
    ("configs: [{source: c, mode: '0888'}]", 'mode: "0888" is not valid: expected permissions'),
    ("volumes: ['C:/x:/y:ro']", "is not valid: expected a source of Linux, [SOURCE:]TARGET"),
    ("volumes: ['c:/x:/y:ro']", "or ./conf:/etc/app:ro: c: is a Windows drive"),
    ("volumes: ['c:\\x:/y']", "or ./conf:/etc/app:ro: c: is a Windows drive"),
    ("volumes: ['a:b:c:d']", 'volumes[0]: "a:b:c:d" is not valid: expected [SOURCE:]TARGET'),
    ("volumes: [{type: disk, target: /x}]", '"disk" is not valid: expected one of volume, bind'),
    ("volumes: [{type: bind, target: /x}]", "a bind has a source: the key source is missing"),
    ("volumes: ['data:/x']", "data is not defined in the top-level volumes; did you mean dat?"),
    ("networks: [fron]", "fron is not defined in the top-level networks; did you mean front?"),
    ("secrets: [token]", "token is not defined in the top-level secrets"),
    ("depends_on: [bb]", "services.a.depends_on.bb: there is no service bb"),
    ("depends_on: {b: }", "depends_on.b: nothing is not valid: expected a map, as in {condition:"),
    ("depends_on: {b: {condition: up}}", '"up" is not valid: expected one of service_started'),
    ("devices: ['a:b:c:d']", "expected SOURCE[:TARGET[:rwm]]"),
    ("extra_hosts: [a]", 'extra_hosts[0]: "a" is not valid: expected HOST=ADDRESS'),
    ("ulimits: {nofile: {soft: 1}}", "services.a.ulimits.nofile: the key hard is missing"),
    ("pull_policy: often", '"often" is not valid: expected one of always, missing, never'),
    ("container_name: a b", "services.a.container_name: \"a b\" is not valid: expected letters"),
    ("gpus: some", 'services.a.gpus: "some" is not valid: expected all, or a list of device'),
    ("env_file: [{paht: x}]", "services.a.env_file[0].paht: no such key: did you mean path?"),
    ("extends: {file: x.yaml}", "services.a.extends: the key service is missing"),
    ("extends: bb", "there is no service bb in compose.yaml"),
    ("extends: {file: none.yaml, service: b}", "none.yaml: no such file or directory"),
    ("platform: a/b\nbuild: {platforms: [c/d]}", "build.platforms lacks a/b"),
    ("image: !reset\nrestart: always", "services.a: the service has neither image nor build"),
    ("networks: {'a b': }", 'networks.a b: "a b" is no name: expected letters, digits, . _ and -'),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "told"), LINES, ids=[lines for lines, _ in LINES])
def test_a_fault_is_told_with_what_is_valid(lines: str, told: str) -> None:
    head = "services:\n  a:\n    image: x\n" if "image:" not in lines else "services:\n  a:\n"
    more = "  b:\n    image: y\nvolumes: {dat: }\nnetworks: {front: }\nconfigs: {c: {content: x}}\n"
    with pytest.raises(Refused) as caught:
        loaded(head + indented(lines) + more)
    [fault] = [str(one) for one in caught.value.faults]
    assert told in fault
    assert fault.startswith(("compose.yaml:", "none.yaml:"))


def test_all_faults_of_a_file_are_told_at_once() -> None:
    with pytest.raises(Refused) as caught:
        loaded("services:\n  a: {imagee: x, tty: q}\n  b: {image: x, ports: [0]}\nvolume: {}\n")
    assert [fault.path for fault in caught.value.faults] == [
        "services.a.imagee", "services.a.tty", "services.b.ports[0]", "volume",
    ]  # fmt: skip


def test_all_faults_between_services_are_told_at_once() -> None:
    text = "services:\n  a: {image: x, networks: [n]}\n  b: {volumes: ['v:/v']}\nconfigs: {c: {}}\n"
    with pytest.raises(Refused) as caught:
        loaded(text)
    assert [fault.path for fault in caught.value.faults] == [
        "services.a.networks.n", "services.b", "services.b.volumes[0]", "configs.c",
    ]  # fmt: skip


def test_a_fault_of_a_later_file_names_that_file() -> None:
    files = {"a.yaml": "services: {a: {image: x}}\n", "sub/b.yaml": "services: {a: {tty: 5}}\n"}
    with pytest.raises(Refused, match=r"^sub/b\.yaml:1:21: services\.a\.tty: 5 is not valid"):
        loaded(files, files=tuple(files))


def test_a_fault_in_an_anchor_names_the_place_of_the_value() -> None:
    text = "x-a: &a\n  tty: q\nservices:\n  a:\n    <<: *a\n    image: x\n"
    with pytest.raises(Refused, match=r"^compose\.yaml:2:8: services\.a\.tty"):
        loaded(text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("services: [a]\n", "services: a list is not valid: expected a map, as in {web: {image"),
        ("services: {a: }\n", "services.a: the service has neither image nor build"),
        (
            "services: {a: x}\n",
            'services.a: "x" is not valid: expected a map, as in {image: nginx}',
        ),
        ("networks: [n]\n", "networks: a list is not valid: expected a map, as in {front: {}}"),
        ("include: {a: b}\n", "include: a map is not valid: expected a list of paths"),
        ("include: [none.yaml]\n", "none.yaml: no such file or directory"),
        ("volumes: {v: {drivr: x}}\n", "volumes.v.drivr: no such key: did you mean driver?"),
        ("networks: {n: {external: {nam: x}}}\n", "networks.n.external.nam: no such key: expected"),
        ("x-a: *b\n", "x-a: the anchor of *b is not defined above"),
        ("x-a: !Rest aGk=\n", 'x-a: there is no tag "!Rest"; did you mean !reset?'),
        ("x-a: [!overide b]\n", 'x-a[0]: there is no tag "!overide"; did you mean !override?'),
        ("x-a: !!binary aGk\n", "x-a: expected base64 of a text in UTF-8"),
        ("volumes:\n", "volumes: the key has no value: write one, or remove the key"),
        ("x-a: {<<: 5}\n", "x-a: << takes a map or a list of maps, not the number"),
        ("x-a: {a: 1, a: 2}\n", "x-a.a: the key is already defined at line 1"),
        ("x-a: {? [a] : 1}\n", "the key is a list: expected text"),
        ("x-a: {~: 1}\n", 'the key ~ is no text: quote it, "~"'),
        ("x-a: 'b\n", "not YAML: found unexpected end of stream"),
        ("x-a: ${B\n", 'x-a: "${B": the closing } is missing; $$ is a dollar sign'),
    ],
)
def test_a_fault_of_the_top_level_is_told(text: str, told: str) -> None:
    with pytest.raises(Refused) as caught:
        loaded(text)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("lines", "notice"),
    [
        ("environment: {A: 0545}", "4:22: services.a.environment.A: 0545 is 357 to YAML: quote it"),
        ("labels: {A: 1.10}", "services.a.labels.A: 1.10 is 1.1 to YAML: quote it to keep it"),
        ("configs: [{source: c, mode: 440}]", "440 is decimal, that is 0670 in octal: write 0440"),
        ("volumes: ['/a:/x', '/b:/x']", "services.a.volumes: the same as at line 4: the later one"),
        (
            "user: !me x",
            '4:11: services.a.user: the tag "!me" means nothing here: the value counts',
        ),
    ],
)
def test_a_notice_says_what_its_author_may_not_expect(lines: str, notice: str) -> None:
    found = loaded(
        "services:\n  a:\n    image: x\n" + indented(lines) + "configs: {c: {content: x}}\n"
    )
    [told] = found.notices
    assert notice in str(told)


def test_a_variable_that_is_not_set_is_a_warning_with_its_line() -> None:
    found = loaded("services:\n  a:\n    image: x$V\n    hostname: $2a$10$abc\n")
    first, second = map(str, found.warnings)
    told = "the variable V is not set: nothing takes its place"
    assert first == f"compose.yaml:3:12: services.a.image: {told}"
    told = "the variable abc is not set: nothing takes its place; $$ is a dollar sign"
    assert second == f"compose.yaml:4:15: services.a.hostname: {told}"


def test_below_a_section_x_begins_a_name() -> None:
    with pytest.raises(Refused, match=r"services\.x-a: true is not valid"):
        loaded("services: {a: {image: x}, x-a: true}")
    found = loaded("services: {a: {image: x}, x-a: {image: y, ports: ['80:80']}}").model
    assert found["services"]["x-a"]["ports"][0]["target"] == 80
