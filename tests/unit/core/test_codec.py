"""A struct that is one of several travels as the field named like its tag."""

import pytest
from msgspec.structs import replace

from pyswarm_core.api.v1 import specs_pb2
from pyswarm_core.codec import from_proto, to_proto
from pyswarm_core.specs import (
    SERVICE_MODES,
    GlobalMode,
    ReplicatedMode,
    ServiceMode,
    ServiceSpec,
)
from tests.fixtures import build

SPEC = build.service("web").spec


@pytest.mark.parametrize("mode", [ReplicatedMode(replicas=0), ReplicatedMode(), GlobalMode()])
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
    with pytest.raises(ValueError, match="mode is not valid: expected one of replicated, global"):
        from_proto(ServiceSpec, message)
