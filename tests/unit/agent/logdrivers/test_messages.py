"""What journald and syslog servers receive."""

import pytest
from msgspec.structs import replace

from agent.images.base import ImageConfig
from agent.logdrivers.messages import rendering
from agent.logdrivers.plan import Forwarding, forwarding, log_limits
from agent.logdrivers.splitting import Message
from agent.runtime.base import LogLimits
from agent.tasks.record import Record
from pyswarm_core.docker.logdrivers import Address, LogSettings
from pyswarm_core.ids import NodeId, ServiceId, TaskId
from pyswarm_core.specs import ContainerSpec, LogDriver, TaskSpec

OUT = Message(b"2026-01-02T03:04:05.123456789+01:00", b"stdout", b"hello world", False, 0, 0)
ERR = OUT._replace(stream=b"stderr")
ID = "0123456789abcdefghijklmno"
TO_SYSLOG = Forwarding(
    settings=LogSettings(driver="syslog", address=Address("udp", "a", 514)),
    tag="my tag",
    full_id=ID,
    name=f"web.1.{ID}",
    image="web:1",
    attributes={"com.example.team": "blue\ngreen", "_a": "1"},
)


def rendered(message: Message = OUT, **settings: object) -> bytes:
    changed = replace(TO_SYSLOG, settings=replace(TO_SYSLOG.settings, **settings))
    return rendering(changed, "host1", 42)(message)


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("", b"<30>Jan  2 03:04:05 my_tag[42]: hello world"),
        ("rfc3164", b"<30>Jan  2 03:04:05 host1 my_tag[42]: hello world"),
        ("rfc5424", b"<30>1 2026-01-02T03:04:05+01:00 host1 my_tag 42 my_tag - hello world"),
        (
            "rfc5424micro",
            b"<30>1 2026-01-02T03:04:05.123456+01:00 host1 my_tag 42 my_tag - hello world",
        ),
    ],
)
def test_syslog_has_docker_s_formats(form: str, expected: bytes) -> None:
    assert rendered(format=form) == expected
    assert rendered(format=form, address=Address("tcp", "a", 514)) == expected + b"\n"


def test_the_stream_is_the_severity_and_the_facility_is_the_option() -> None:
    assert rendered(ERR).startswith(b"<27>")
    assert rendered(facility=19).startswith(b"<158>")
    assert rendered(ERR, facility=19).startswith(b"<155>")


def test_the_journal_has_docker_s_fields() -> None:
    got = rendered(ERR._replace(partial=True), driver="journald")
    expected = [
        b"MESSAGE=hello world",
        b"PRIORITY=3",
        b"SYSLOG_TIMESTAMP=2026-01-02T03:04:05.123456789+01:00",
        b"CONTAINER_PARTIAL_MESSAGE=true",
        b"COM_EXAMPLE_TEAM",
        (10).to_bytes(8, "little") + b"blue",
        b"green",
        b"A=1",
        b"CONTAINER_ID=0123456789ab",
        b"CONTAINER_ID_FULL=" + ID.encode(),
        b"CONTAINER_NAME=web.1." + ID.encode(),
        b"CONTAINER_TAG=my tag",
        b"IMAGE_NAME=web:1",
        b"SYSLOG_IDENTIFIER=my tag",
        b"",
    ]
    assert got == b"\n".join(expected)
    assert b"PARTIAL" not in rendered(driver="journald")


def test_a_time_that_is_none_breaks_nothing() -> None:
    assert rendered(OUT._replace(time=b"x"), format="rfc3164").endswith(b"hello world")


DRIVER = LogDriver(
    name="syslog", options={"labels": "stage,com.docker.swarm.service.name", "env": "A"}
)
RECORD = Record(
    task_id=TaskId(ID),
    service_id=ServiceId("s"),
    service_name="web",
    slot=3,
    node_id=NodeId("n"),
    spec=TaskSpec(
        container_spec=ContainerSpec(
            image="web:1@sha256:" + "0" * 64, labels={"stage": "test"}, env=("A=spec",)
        ),
        log_driver=DRIVER,
    ),
)
IMAGE = ImageConfig(cmd=("run", "it"), labels={"stage": "image"}, env=("A=image", "B=1"))


def test_a_task_s_lines_name_its_container() -> None:
    found = forwarding(RECORD, "ab" * 32, IMAGE)
    assert found is not None
    assert (found.tag, found.name, found.image) == (ID[:12], f"web.3.{ID}", "web:1")
    assert found.attributes == {
        "stage": "test",
        "com.docker.swarm.service.name": "web",
        "A": "spec",
    }
    container = forwarding(replace(RECORD, layer="l"), "ab" * 32, IMAGE)
    assert container is not None
    assert container.name == "web"
    assert "com.docker.swarm.service.name" not in container.attributes


def test_attributes_that_no_datagram_holds_are_left_out() -> None:
    labels = {"a": "x" * 20_000, "b": "ä" * 10_000, "c": "kept"}
    spec = replace(
        RECORD.spec,
        container_spec=replace(RECORD.spec.container_spec, labels=labels),
        log_driver=LogDriver(name="journald", options={"labels": "a,b,c"}),
    )
    found = forwarding(replace(RECORD, spec=spec), "", IMAGE)
    assert found is not None
    assert found.attributes == {"a": "x" * 20_000, "c": "kept"}


def test_files_alone_are_forwarded_nowhere() -> None:
    local = replace(RECORD, spec=replace(RECORD.spec, log_driver=LogDriver(name="local")))
    assert forwarding(local, "", IMAGE) is None


@pytest.mark.parametrize(
    ("driver", "expected"),
    [
        (LogDriver(), LogLimits(max_size=100, max_file=3)),
        (LogDriver(options={"max-file": "5"}), LogLimits(max_size=100, max_file=5)),
        (LogDriver(options={"max-size": "1k"}), LogLimits(max_size=1024, max_file=1)),
        (LogDriver(name="local"), LogLimits(max_size=20 << 20, max_file=5)),
        (LogDriver(name="syslog"), LogLimits(max_size=20 << 20, max_file=5)),
        (LogDriver(name="none"), LogLimits(max_size=100, max_file=3, stored=False)),
    ],
)
def test_the_agent_s_limits_are_the_default(driver: LogDriver, expected: LogLimits) -> None:
    assert log_limits(driver, LogLimits(max_size=100, max_file=3)) == expected
