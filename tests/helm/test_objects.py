"""What the chart renders is valid Kubernetes and hangs together, for several sets of values."""

import helm_python
import kubernetes_validate
import pytest

from tests.helm.rendering import CHART, NAMESPACE, RELEASE, SETS, Rendered, rendered

OLDEST, NEWEST = "1.27", kubernetes_validate.latest_version()
# Of the Prometheus operator, not of Kubernetes.
FOREIGN = {"ServiceMonitor"}

each_set = pytest.mark.parametrize("name", SETS)


@each_set
def test_helm_finds_nothing_wrong_with_the_chart(name: str) -> None:
    report = helm_python.lint(CHART, dict(SETS[name]), strict=True, namespace=NAMESPACE)
    # Severity 1 only recommends an icon.
    assert [m for m in report["messages"] if m["severity"] > 1] == []
    assert report["errors"] == []


@each_set
@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_kubernetes_knows_every_field_of_every_object(name: str, version: str) -> None:
    objects = [each for each in rendered(name).objects if each["kind"] not in FOREIGN]
    assert objects
    for each in objects:
        kubernetes_validate.validate(each, version, strict=True)


@each_set
def test_every_object_names_its_namespace_release_and_chart(name: str) -> None:
    for each in rendered(name).objects:
        labels = each["metadata"]["labels"]
        assert each["metadata"]["namespace"] == NAMESPACE
        assert labels["app.kubernetes.io/instance"] == RELEASE
        assert labels["helm.sh/chart"].startswith("pyswarm-")


@each_set
def test_names_are_unique_within_a_kind_and_fit_a_dns_label(name: str) -> None:
    names = [(each["kind"], each["metadata"]["name"]) for each in rendered(name).objects]
    assert len(names) == len(set(names))
    assert max(len(each) for _, each in names) <= 63


def test_a_long_release_name_still_gives_dns_labels() -> None:
    with helm_python.Chart.load(CHART) as chart:
        files = chart.render({"etcd": {"replicas": 3}}, name="r" * 53, namespace=NAMESPACE)
    manifest = "\n".join(text for path, text in files.items() if path.endswith(".yaml"))
    names = [line.split()[1] for line in manifest.splitlines() if line.startswith("  name: ")]
    assert max(map(len, names)) <= 63


@each_set
def test_selectors_match_the_labels_of_their_own_pods_and_no_others(name: str) -> None:
    found = rendered(name)
    for component, workload in found.workloads.items():
        selector = workload["spec"]["selector"]["matchLabels"]
        matching = [
            other
            for other, each in found.workloads.items()
            if selector.items() <= each["spec"]["template"]["metadata"]["labels"].items()
        ]
        assert matching == [component]


@each_set
def test_every_service_leads_to_a_named_port_of_one_component(name: str) -> None:
    found = rendered(name)
    for service in found.of_kind("Service").values():
        owners = [part for part in found.workloads if service in found.services_of(part)]
        assert len(owners) == 1, service["metadata"]["name"]
        names = {port["name"] for port in found.container(owners[0])["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= names


@each_set
def test_pods_mount_only_volumes_that_they_have(name: str) -> None:
    found = rendered(name)
    for part, workload in found.workloads.items():
        claims = workload["spec"].get("volumeClaimTemplates", [])
        volumes = {each["name"] for each in found.pod(part)["volumes"]}
        volumes |= {claim["metadata"]["name"] for claim in claims}
        mounts = {mount["name"] for mount in found.container(part)["volumeMounts"]}
        assert mounts == volumes


@each_set
def test_claims_and_accounts_that_pods_name_are_made(name: str) -> None:
    found = rendered(name)
    for part in found.workloads:
        pod = found.pod(part)
        assert pod["serviceAccountName"] in {*found.of_kind("ServiceAccount"), "default"}
        for volume in pod["volumes"]:
            if claim := volume.get("persistentVolumeClaim"):
                assert claim["claimName"] in found.of_kind("PersistentVolumeClaim")


@each_set
def test_no_pod_gets_rights_in_kubernetes_or_variables_of_its_services(name: str) -> None:
    found = rendered(name)
    for part in found.workloads:
        pod = found.pod(part)
        # A Service called pyswarm-listen would set PYSWARM_LISTEN_PORT and the like.
        assert pod["enableServiceLinks"] is False
        assert pod["automountServiceAccountToken"] is False


def test_only_the_agent_has_power_over_its_node() -> None:
    found = rendered()
    for part in ("controller", "etcd"):
        security = found.container(part)["securityContext"]
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert security["readOnlyRootFilesystem"] is True
        assert security["allowPrivilegeEscalation"] is False
        assert found.pod(part)["securityContext"]["runAsNonRoot"] is True
        assert not {"hostNetwork", "hostPID"} & found.pod(part).keys()
    assert found.container("agent")["securityContext"] == {"privileged": True}


@pytest.mark.parametrize("component", ["agent", "controller"])
def test_a_monitor_finds_the_metrics_of_its_component_only(component: str) -> None:
    found = rendered("everything")
    assert len(found.of_kind("ServiceMonitor")) == 2
    monitor = found.one("ServiceMonitor", component)
    expected = monitor["spec"]["selector"]["matchLabels"]
    services = [
        (name.removeprefix("demo-pyswarm-"), each["spec"]["ports"])
        for name, each in found.of_kind("Service").items()
        if expected.items() <= each["metadata"]["labels"].items()
    ]
    assert [name for name, _ in services] == [f"{component}-metrics"]
    (endpoint,) = monitor["spec"]["endpoints"]
    assert all(port["name"] == endpoint["port"] for _, ports in services for port in ports)
    assert monitor["metadata"]["labels"]["release"] == "p"


def test_without_the_operator_there_is_no_monitor() -> None:
    assert not rendered().of_kind("ServiceMonitor")


def test_same_values_render_the_same_objects_but_for_fresh_keys() -> None:
    def stable(found: Rendered) -> list[object]:
        return [each for each in found.objects if each["kind"] != "Secret"]

    assert stable(Rendered({})) == stable(rendered())
