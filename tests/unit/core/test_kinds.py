"""The table of kinds is sound: names, messages, sensitive fields, and the order of the kinds."""

from typing import Any

import pytest
from msgspec.structs import fields, replace

from pyswarm_core.identity.certificates import EncryptionKey
from pyswarm_core.kinds import CLUSTER, KINDS, SERVICE, Kind, default_of, kind_of, split_name
from pyswarm_core.objects import Cluster, PreviousSpec
from pyswarm_core.specs import RegistryLogin
from tests.fixtures import build

ALL = [*KINDS.values(), CLUSTER]
TAKEN = {"cluster", "leader", "controller", "chunk", "unreadable", "task", "events"}
"""Other keys of the store, and other types of events."""


def test_each_kind_is_found_by_its_name() -> None:
    assert [kind.name for kind in KINDS.values()] == list(KINDS)
    assert not TAKEN & KINDS.keys()


def test_what_is_referred_to_comes_before_what_refers_to_it() -> None:
    assert list(KINDS) == [
        "node",
        "network",
        "volume",
        "secret",
        "config",
        "stack",
        "service",
        "user",
    ]


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.name)
def test_a_kind_s_message_has_the_fields_of_its_struct(kind: Kind[Any, Any]) -> None:
    names = [field.name for field in fields(kind.struct)]
    assert sorted(names) == sorted(field.name for field in kind.message.DESCRIPTOR.fields)


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.name)
def test_what_is_sensitive_has_a_default_to_be_shown_instead(kind: Kind[Any, Any]) -> None:
    for path in kind.sensitive:
        default_of(kind.struct, path.partition(".")[0])


def test_what_is_shown_lacks_what_is_sensitive_and_nothing_else() -> None:
    login = RegistryLogin(registry="docker.io", username="me", password="secret")
    web = build.service("web")
    assert SERVICE.shown(replace(web, registry_login=login)) == web
    key = EncryptionKey(number=1, secret=b"secret")
    cluster = Cluster(id="c", next_vni=5000)
    secret = replace(cluster, encryption_keys=(key,), worker_token="token", unlock_key=b"k")
    assert CLUSTER.shown(secret) == cluster


def test_a_sensitive_field_may_be_inside_of_another() -> None:
    kind = replace(SERVICE, sensitive=("spec.labels",))
    web = build.service("web")
    told = kind.shown(replace(web, spec=replace(web.spec, labels={"token": "x"})))
    assert told == replace(web, spec=replace(web.spec, labels={}))


def test_a_field_without_a_default_cannot_be_sensitive() -> None:
    with pytest.raises(ValueError, match=r"PreviousSpec\.spec has no default"):
        default_of(PreviousSpec, "spec")


def test_objects_are_named_by_their_kind() -> None:
    web = build.service("web")
    assert kind_of(web) is SERVICE
    assert split_name(SERVICE.object_name(web.id)) == ("service", "web")
    assert split_name("chunk/web/00000001") == ("service", "web")
    assert split_name("cluster") == ("cluster", "")
