"""A struct that is one of several travels as the field named like its tag."""

import pytest
from msgspec.structs import replace

from pyswarm_core.api.v1 import objects_pb2, specs_pb2
from pyswarm_core.codec import from_proto, from_proto_sparse, to_proto, to_proto_sparse
from pyswarm_core.ids import NetworkId
from pyswarm_core.objects import NO_DETAIL, HealthState, TaskAddress, TaskDetail
from pyswarm_core.specs import (
    SERVICE_MODES,
    ContainerMode,
    GlobalMode,
    NodeSpec,
    PortConfig,
    ReplicatedMode,
    ServiceMode,
    ServiceSpec,
    UpdateConfig,
)
from tests.fixtures import build

SPEC = build.service("web").spec


@pytest.mark.parametrize(
    "mode",
    [
        ReplicatedMode(replicas=0),
        ReplicatedMode(),
        GlobalMode(),
        ContainerMode(),
        ContainerMode(auto_remove=True, unless_stopped=True),
    ],
)
def test_a_mode_comes_back_as_it_was(mode: ServiceMode) -> None:
    message = to_proto(replace(SPEC, mode=mode), specs_pb2.ServiceSpec())
    assert message.mode.WhichOneof("mode") == mode.word
    assert from_proto(ServiceSpec, message).mode == mode


def test_every_mode_has_a_field_of_its_name() -> None:
    fields = specs_pb2.ServiceMode.DESCRIPTOR.fields_by_name
    assert list(fields) == list(SERVICE_MODES) == [cls().word for cls in SERVICE_MODES.values()]


def test_without_a_mode_a_service_is_replicated() -> None:
    message = to_proto(SPEC, specs_pb2.ServiceSpec())
    message.ClearField("mode")
    assert from_proto(ServiceSpec, message).mode == ReplicatedMode()


def test_a_mode_that_is_none_of_them_is_refused() -> None:
    message = to_proto(SPEC, specs_pb2.ServiceSpec())
    message.mode.Clear()
    message.mode.SetInParent()
    with pytest.raises(ValueError, match="expected one of replicated, global, container"):
        from_proto(ServiceSpec, message)


def test_an_unknown_word_of_an_enum_is_answered_with_field_and_valid_words() -> None:
    message = to_proto(SPEC, specs_pb2.ServiceSpec())
    port = message.endpoint_spec.ports.add(target_port=80, protocol="tcp", publish_mode="ingress")
    cases = {
        "RestartPolicy.condition": (message.task_template.restart_policy, "none, on-failure, any"),
        "EndpointSpec.mode": (message.endpoint_spec, "vip, dnsrr"),
        "PortConfig.protocol": (port, "tcp, udp, sctp"),
        "PortConfig.publish_mode": (port, "ingress, host"),
    }
    for name, (part, words) in cases.items():
        field = name.partition(".")[2]
        valid = getattr(part, field)
        for wrong, shown in {"": '""', "x" * 5000: f'"{"x" * 80}..."'}.items():
            setattr(part, field, wrong)
            with pytest.raises(ValueError) as refused:  # noqa: PT011
                from_proto(ServiceSpec, message)
            text = f"{name}: value {shown} is not valid: expected one of {words}"
            assert str(refused.value) == text
        setattr(part, field, valid)
    assert from_proto(ServiceSpec, message).endpoint_spec.ports[0].publish_mode == "ingress"


def test_a_long_availability_is_cut() -> None:
    with pytest.raises(
        ValueError, match=r'value "x{80}\.\.\." is not valid: expected one of active'
    ):
        from_proto(NodeSpec, specs_pb2.NodeSpec(role="worker", availability="x" * 5000))


FULL = TaskDetail(
    message="m",
    error="e",
    exit_code=-1,
    oom=True,
    pid=7,
    addresses=(TaskAddress(network_id=NetworkId("net"), address="10.0.0.2"),),
    serving=True,
    ports=(PortConfig(target_port=80, published_port=8080),),
    health=HealthState.HEALTHY,
    ran=1 << 40,
    in_place_version=3,
    in_place_error="no",
    told_to_end=True,
    command="sh -c true",
)


@pytest.mark.parametrize(
    "detail",
    [
        NO_DETAIL,
        FULL,
        *[TaskDetail(**{name: getattr(FULL, name)}) for name in TaskDetail.__struct_fields__],
    ],
)
def test_sparse_details_travel_as_all_others(detail: TaskDetail) -> None:
    message = to_proto_sparse(detail, objects_pb2.TaskDetail())
    assert message == to_proto(detail, objects_pb2.TaskDetail())
    assert from_proto_sparse(TaskDetail, message) == detail == from_proto(TaskDetail, message)


def test_an_unknown_word_in_sparse_details_is_refused() -> None:
    message = objects_pb2.TaskDetail(health="well")
    with pytest.raises(ValueError, match=r'TaskDetail\.health: value "well" is not valid'):
        from_proto_sparse(TaskDetail, message)


def test_an_empty_struct_is_present_in_the_message_that_has_it() -> None:
    spec = specs_pb2.ServiceSpec()
    to_proto(ContainerMode(), spec.mode.container)
    assert spec.HasField("mode")
    assert spec.mode.HasField("container")


def test_zero_comes_back_where_it_is_not_the_default() -> None:
    config = UpdateConfig(parallelism=0, monitor=0)
    spec = replace(SPEC, name="", update_config=config)
    assert from_proto(ServiceSpec, to_proto(spec, specs_pb2.ServiceSpec())) == spec


def test_no_two_structs_share_a_dict() -> None:
    message = to_proto(replace(SPEC, labels={}), specs_pb2.ServiceSpec())
    first, second = from_proto(ServiceSpec, message), from_proto(ServiceSpec, message)
    assert first == second
    assert first.labels is not second.labels
