"""Bad values are refused before anything is rendered, and the message names the value."""

from typing import Any

import helm_python
import pytest

from tests.helm.rendering import CHART, NAMESPACE, RELEASE

BAD: list[tuple[str, dict[str, Any], str]] = [
    ("no etcd at all", {"etcd": {"enabled": False}}, "/externalEtcd/endpoints"),
    ("an even etcd", {"etcd": {"replicas": 2}}, "one of 1, 3, 5"),
    ("a typo", {"controller": {"resorces": {}}}, "'resorces' not allowed"),
    ("a stranger", {"replicas": 3}, "'replicas' not allowed"),
    ("a privileged port", {"network": {"dataPathPort": 80}}, "/network/dataPathPort"),
    ("a number as text", {"metrics": {"agentPort": "9324"}}, "/metrics/agentPort"),
    ("an endpoint without port", {"externalEtcd": {"endpoints": ["etcd"]}}, "/endpoints/0"),
    ("an IPv6 bridge", {"network": {"bridgeSubnet": "fd00::/8"}}, "/network/bridgeSubnet"),
    ("a stolen label", {"commonLabels": {"app.kubernetes.io/name": "x"}}, "kubernetes.io/name"),
    ("no image", {"agent": {"image": {"repository": ""}}}, "/agent/image/repository"),
    ("a tag in the name", {"agent": {"image": {"repository": "a/b:1"}}}, "/image/repository"),
    ("a relative folder", {"agent": {"stateDir": "var"}}, "/agent/stateDir"),
    ("an odd availability", {"agent": {"availability": "on"}}, "active"),
    ("memory in Kubernetes' words", {"agent": {"offer": {"memory": "2Gi"}}}, "/offer/memory"),
    ("a bare word as argument", {"agent": {"extraArgs": ["debug"]}}, "/agent/extraArgs/0"),
    ("no token", {"joinToken": {"value": "hunter2"}}, "/joinToken/value"),
    ("a path as key", {"encryptionKey": {"key": "a/b"}}, "/encryptionKey/key"),
    ("a period without unit", {"fleet": {"heartbeatPeriod": "5"}}, "/fleet/heartbeatPeriod"),
    ("an odd size", {"etcd": {"persistence": {"size": "8 GB"}}}, "/etcd/persistence/size"),
]


@pytest.mark.parametrize(("values", "named"), [pytest.param(v, n, id=i) for i, v, n in BAD])
def test_a_bad_value_is_refused_by_its_name(values: dict[str, Any], named: str) -> None:
    with helm_python.Chart.load(CHART) as chart, pytest.raises(helm_python.HelmValuesError) as bad:
        chart.render(values, name=RELEASE, namespace=NAMESPACE)
    assert named in str(bad.value)


def test_every_value_is_in_the_schema_and_the_schema_knows_no_other() -> None:
    with helm_python.Chart.load(CHART) as chart:
        schema = chart.schema
        values = chart.values
    assert schema is not None
    properties = {name: each for name, each in schema["properties"].items() if name != "global"}
    assert _unlike(values, properties, "") == []


def _unlike(values: dict[str, Any], properties: dict[str, Any], where: str) -> list[str]:
    found = [f"{where}{name}" for name in sorted(values.keys() ^ properties.keys())]
    for name in values.keys() & properties.keys():
        if inner := properties[name].get("properties"):
            found += _unlike(values[name], inner, f"{where}{name}.")
    return found
