"""The chart as a real Helm renders it: objects by kind and name, and the words of their pods."""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import helm_python
import yaml

from tests.fixtures.source import ROOT

CHART = ROOT / "helm" / "pyswarm"
RELEASE = "demo"
NAMESPACE = "fleet"

Values = Mapping[str, Any]
Object = dict[str, Any]

TOKEN = "PYSWM-1-cluster-secret"
EXTERNAL: Values = {"externalEtcd": {"endpoints": ["etcd-0.db:2379", "etcd-1.db:2379"]}}
EVERYTHING: Values = {
    "imagePullSecrets": [{"name": "registry"}],
    "commonLabels": {"team": "platform"},
    "network": {"addressPools": ["10.160.0.0/12", "10.176.0.0/12"], "subnetSize": 20},
    "fleet": {"heartbeatPeriod": "2s", "agentGrace": "20s", "taskHistoryLimit": 0},
    "joinToken": {"value": TOKEN},
    "encryptionKey": {"key": "fleet.key"},
    "controller": {
        "service": {"type": "LoadBalancer", "port": 12377, "annotations": {"lb": "internal"}},
        "persistence": {"storageClass": "fast", "size": "2Gi"},
        "extraArgs": ["--etcd-prefix=/other"],
        "registry": {"enabled": True},
        "extraEnv": [{"name": "TZ", "value": "UTC"}],
        "podAnnotations": {"note": "a"},
        "podLabels": {"tier": "control"},
        "priorityClassName": "system-cluster-critical",
    },
    "etcd": {"replicas": 3, "persistence": {"storageClass": ""}},
    "agent": {
        "offer": {"cpus": "1.5", "memory": "2G"},
        "labels": {"disk": "ssd", "zone": "a b"},
        "registryMirrors": ["http://mirror:5000"],
        "insecureRegistries": ["mirror:5000"],
        "availability": "pause",
        "tolerations": [{"operator": "Exists"}],
        "resources": {"limits": {"memory": "256Mi"}},
        "extraVolumes": [{"name": "ca", "configMap": {"name": "ca"}}],
        "extraVolumeMounts": [{"name": "ca", "mountPath": "/etc/ssl/extra"}],
    },
    "metrics": {
        "agentPort": 19324,
        "serviceMonitor": {"enabled": True, "labels": {"release": "p"}},
    },
}
EXTERNAL_SECURED: Values = {
    "encryptionKey": {"existingSecret": "fleet-key", "key": "k"},
    "externalEtcd": {
        "endpoints": ["https://etcd.db:2379"],
        "prefix": "/fleet-a",
        "tls": {"existingSecret": "etcd-client"},
        "auth": {"existingSecret": "etcd-user"},
    },
}
BARE: Values = {
    "agent": {"enabled": False},
    "metrics": {"enabled": False},
    "serviceAccount": {"create": False},
    "controller": {"persistence": {"enabled": False}, "resources": {}},
    "etcd": {"persistence": {"enabled": False}},
}
SETS: Mapping[str, Values] = {
    "defaults": {},
    "everything": EVERYTHING,
    "external etcd": EXTERNAL,
    "external etcd, secured": EXTERNAL_SECURED,
    "bare": BARE,
}


class Rendered:
    """All objects of one release."""

    def __init__(self, values: Values, kubeconfig: str = "") -> None:
        """With a kubeconfig the chart's `lookup` asks that cluster, as an upgrade does."""
        with helm_python.Chart.load(CHART) as chart:
            if kubeconfig:
                with helm_python.Config(kubeconfig_content=kubeconfig) as config:
                    files = config.render(
                        chart, dict(values), name=RELEASE, namespace=NAMESPACE, is_upgrade=True
                    )
            else:
                files = chart.render(dict(values), name=RELEASE, namespace=NAMESPACE)
        self.notes = next(text for path, text in files.items() if path.endswith("NOTES.txt"))
        self.objects = tuple(
            found
            for path, text in files.items()
            if path.endswith(".yaml")
            for found in yaml.safe_load_all(text)
            if found
        )

    def of_kind(self, kind: str) -> dict[str, Object]:
        """The objects of a kind by their names."""
        found = (each for each in self.objects if each["kind"] == kind)
        return {each["metadata"]["name"]: each for each in found}

    def one(self, kind: str, name: str) -> Object:
        """The object so called; fails with the names that exist."""
        found = self.of_kind(kind)
        assert f"{RELEASE}-pyswarm-{name}" in found, f"{kind}: only {sorted(found)}"
        return found[f"{RELEASE}-pyswarm-{name}"]

    @property
    def workloads(self) -> dict[str, Object]:
        """Whatever makes pods, by component."""
        return {
            each["metadata"]["labels"]["app.kubernetes.io/component"]: each
            for each in self.objects
            if each["kind"] in ("Deployment", "DaemonSet", "StatefulSet")
        }

    def pod(self, component: str) -> Object:
        """The pod's spec of a component."""
        spec: Object = self.workloads[component]["spec"]["template"]["spec"]
        return spec

    def container(self, component: str) -> Object:
        """The only container of a component's pod."""
        (container,) = self.pod(component)["containers"]
        found: Object = container
        return found

    def volume(self, component: str, name: str) -> Object:
        """A volume of a component's pod."""
        (found,) = (each for each in self.pod(component)["volumes"] if each["name"] == name)
        volume: Object = found
        return volume

    def arguments(self, component: str) -> tuple[str, ...]:
        """The words that a component's program gets, each one string."""
        words = self.container(component)["args"]
        assert all(isinstance(word, str) for word in words), words
        return tuple(words)

    def services_of(self, component: str) -> Iterator[Object]:
        """The Services that select the pods of a component."""
        for service in self.of_kind("Service").values():
            labels = self.workloads[component]["spec"]["template"]["metadata"]["labels"]
            if service["spec"]["selector"].items() <= labels.items():
                yield service


@cache
def _rendered(name: str) -> Rendered:
    return Rendered(SETS[name])


def rendered(name: str = "defaults") -> Rendered:
    """One of the named sets of values, rendered once."""
    return _rendered(name)


def variables(container: Object) -> dict[str, Object]:
    """A container's environment by name."""
    return {each["name"]: each for each in container["env"]}
