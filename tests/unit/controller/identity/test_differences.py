"""What changed between two specs, field by field."""

from typing import Any

from msgspec.structs import replace

from controller.identity.differences import differences
from pyswarm_core.clock import HOUR, MINUTE, SECOND
from pyswarm_core.docker.units import format_duration
from pyswarm_core.specs import (
    ClusterSpec,
    GlobalMode,
    NodeSpec,
    PortConfig,
    ReplicatedMode,
    ServiceSpec,
)
from pyswarm_core.states import Availability
from tests.fixtures import build

WEB = build.service("web", replicas=2).spec


def changed(old: Any, new: Any) -> list[tuple[str, str, str]]:
    return [(one.field, one.before, one.after) for one in differences(old, new)]


def with_container(spec: ServiceSpec, **fields: object) -> ServiceSpec:
    template = spec.task_template
    container = replace(template.container_spec, **fields)
    return replace(spec, task_template=replace(template, container_spec=container))


def test_equal_specs_have_none() -> None:
    assert changed(WEB, WEB) == []
    assert changed(WEB, with_container(WEB)) == []


def test_a_field_has_both_values_and_a_short_path() -> None:
    old = with_container(WEB, image="web:1", stop_grace_period=10 * SECOND)
    new = with_container(old, image="web:2", stop_grace_period=90 * SECOND)
    new = replace(new, mode=ReplicatedMode(replicas=4))
    assert changed(old, new) == [
        ("Image", "web:1", "web:2"),
        ("StopGracePeriod", "10s", "1m30s"),
        ("Replicas", "2", "4"),
    ]


def test_durations_of_settings_have_units() -> None:
    old = ClusterSpec(cert_expiry=720 * HOUR)
    new = replace(old, cert_expiry=5 * SECOND, heartbeat_period=2 * SECOND, agent_grace=MINUTE)
    assert sorted(changed(old, new)) == [
        ("AgentGrace", format_duration(old.agent_grace), "1m0s"),
        ("CertExpiry", "720h0m0s", "5s"),
        ("HeartbeatPeriod", "1s", "2s"),
    ]


def test_an_entry_without_a_value_is_told_from_none() -> None:
    new = replace(WEB, labels={"traced": ""})
    assert changed(WEB, new) == [("Labels.traced", "", '""')]
    assert changed(new, WEB) == [("Labels.traced", '""', "")]


def test_of_a_list_what_was_removed_and_added_is_named() -> None:
    old = with_container(WEB, env=("A=1", "B=2", "DB_PASSWORD=old"))
    new = with_container(WEB, env=("DB_PASSWORD=new", "B=2", "C=3"))
    assert changed(old, new) == [("Env", "A=1, DB_PASSWORD=***", "DB_PASSWORD=***, C=3")]
    turned = with_container(WEB, env=("B=2", "A=1", "DB_PASSWORD=old"))
    assert changed(old, turned) == [("Env", "reordered", "reordered")]


def test_labels_are_fields_and_those_of_secrets_are_masked() -> None:
    old = NodeSpec(labels={"zone": "a", "gone": "1", "token": "x", "db.password.main": "x"})
    new = NodeSpec(labels={"zone": "b", "token": "y"}, availability=Availability.DRAIN)
    assert changed(old, new) == [
        ("Labels.zone", "a", "b"),
        ("Labels.gone", "1", ""),
        ("Labels.token", "***", "***"),
        ("Labels.db.password.main", "***", ""),
        ("Availability", "active", "drain"),
    ]


def test_structs_in_lists_are_json() -> None:
    ports = (PortConfig(target_port=80, published_port=8080),)
    new = replace(WEB, endpoint_spec=replace(WEB.endpoint_spec, ports=ports))
    ((field, before, after),) = changed(WEB, new)
    assert (field, before) == ("EndpointSpec.Ports", "")
    assert '"TargetPort":80' in after
    assert '"PublishedPort":8080' in after


def test_another_mode_is_named() -> None:
    assert changed(WEB, replace(WEB, mode=GlobalMode())) == [("Mode", "replicated", "global")]


def test_of_a_new_object_what_is_not_its_default_is_named() -> None:
    spec = with_container(WEB, image="web:1")
    found = changed(None, spec)
    assert ("Name", "", "web") in found
    assert ("Image", "", "web:1") in found
    assert ("Replicas", "", "2") in found
    assert all(field != "StopGracePeriod" for field, _, _ in found)


def test_arguments_that_follow_a_flag_of_a_secret_are_masked() -> None:
    new = with_container(WEB, args=("serve", "--api-token", "hunter2"))
    assert changed(WEB, new) == [("Args", "", "serve, --api-token, ***")]
