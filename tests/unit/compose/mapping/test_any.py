"""Any model is mapped or refused by key; the order and the way of writing change nothing."""

import json
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from compose.dump import as_yaml
from compose.keys.service import SERVICE
from compose.keys.toplevel import TOP
from compose.mapping.mapped import Mapped
from compose.report import Refused
from pyswarm_core.api.v1 import specs_pb2
from pyswarm_core.codec import from_proto, to_proto
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.specs import ServiceSpec
from pyswarm_core.validation import (
    network_problems,
    payload_problems,
    require,
    service_problems,
    volume_problems,
)
from tests.fixtures.composing import loaded
from tests.fixtures.mapping import file_of, mapped
from tests.unit.compose.mapping.test_keys import CASES
from tests.unit.compose.mapping.test_keys import TOP as SECTIONS
from tests.unit.compose.test_any import _VALUES

_ENVIRON = {"S": "v"}


def attempt(text: str, **given_: Any) -> Mapped | None:
    try:
        return mapped(text, environ=_ENVIRON, **given_)
    except Refused as error:
        for fault in error.faults:
            assert fault.place is not None
        return None
    except InvalidArgument:
        return None  # the name of the project


def look_at(found: Mapped) -> None:
    """What is mapped can be stored."""
    for service in found.spec.services:
        require(service_problems(service))
        message = to_proto(service, specs_pb2.ServiceSpec())
        assert from_proto(ServiceSpec, message) == service
    for network in found.spec.networks:
        require(network_problems(network))
    for volume in found.spec.volumes:
        require(volume_problems(volume))
    for kind, payloads in (("secret", found.spec.secrets), ("config", found.spec.configs)):
        for one in payloads:
            require(payload_problems(kind, one.spec, len(one.data)))
    msgspec.json.encode(found)


@given(st.sampled_from(sorted(SERVICE.keys)), _VALUES, st.booleans())
def test_any_value_of_a_key_of_a_service(key: str, value: Any, is_stack: bool) -> None:
    text = json.dumps({"services": {"a": {"image": "x", key: value}, "b": {"image": "y"}}})
    found = attempt(text, is_stack=is_stack, files=("compose.yaml",))
    if found is not None:
        look_at(found)


@given(st.sampled_from(sorted(TOP.keys)), _VALUES)
def test_any_value_of_a_key_of_the_top_level(key: str, value: Any) -> None:
    service = {"image": "x", "volumes": ["a:/a"], "networks": ["a"], "secrets": ["a"]}
    document = {"services": {"a": service}, "volumes": {"a": {}}, "networks": {"a": {}}, key: value}
    for text in (document, {"services": {"a": {"image": "x"}}, key: value}):
        found = attempt(json.dumps(text))
        if found is not None:
            look_at(found)


_KEYS = sorted(set(CASES) - {"image", "network_mode", "networks"})


@given(st.lists(st.sampled_from(_KEYS), unique=True, max_size=8), st.booleans())
def test_what_is_printed_is_mapped_alike(keys: list[str], is_stack: bool) -> None:
    lines: dict[str, str] = {}
    for key in keys:
        for line in CASES[key][0].splitlines():
            name = line.partition(":")[0]
            lines.setdefault(name, line)
    text = file_of("\n".join(lines.values()), SECTIONS)
    given_ = {"is_stack": is_stack, "files": ("compose.yaml",)}
    found = attempt(text, **given_)
    if found is None:
        return
    printed = as_yaml(loaded(text, environ=_ENVIRON, project_name="shop", **given_).model)
    again = attempt(printed, **given_)
    assert again is not None
    look_at(found)
    assert again.spec == found.spec
    assert again.builds == found.builds
