"""What each choice in the values changes: etcd, the join token, privileges, what passes through."""

from tests.helm.rendering import TOKEN, Rendered, rendered, variables

ETCD_KINDS = ("StatefulSet", "PodDisruptionBudget")


def test_external_etcd_turns_etcd_off() -> None:
    found = rendered("external etcd")
    assert set(found.workloads) == {"agent", "controller"}
    assert not any(found.of_kind(kind) for kind in ETCD_KINDS)
    assert set(found.of_kind("Secret")) == {"demo-pyswarm-encryption-key"}
    assert "--etcd-endpoints=etcd-0.db:2379,etcd-1.db:2379" in found.arguments("controller")
    assert not any("--etcd-cafile" in word for word in found.arguments("controller"))


def test_external_etcd_gets_certificate_user_and_prefix_from_secrets() -> None:
    found = rendered("external etcd, secured")
    words = found.arguments("controller")
    assert "--etcd-prefix=/fleet-a" in words
    assert "--etcd-certfile=/etc/pyswarm/etcd/tls.crt" in words
    assert found.volume("controller", "etcd-tls")["secret"]["secretName"] == "etcd-client"
    user = variables(found.container("controller"))["PYSWARM_ETCD_USER"]
    assert user["valueFrom"]["secretKeyRef"] == {"name": "etcd-user", "key": "user"}


def test_external_etcd_may_ask_for_no_client_certificate() -> None:
    tls = {"existingSecret": "ca", "clientCertificate": False}
    found = Rendered({"externalEtcd": {"endpoints": ["etcd:2379"], "tls": tls}})
    words = found.arguments("controller")
    assert "--etcd-cafile=/etc/pyswarm/etcd/ca.crt" in words
    assert not any(word.startswith("--etcd-keyfile") for word in words)


def test_the_controller_knows_every_member_of_the_charts_etcd() -> None:
    found = rendered("everything")
    domain = "demo-pyswarm-etcd.fleet.svc.cluster.local"
    members = [f"demo-pyswarm-etcd-{number}.{domain}" for number in range(3)]
    endpoints = ",".join(f"{member}:2379" for member in members)
    assert f"--etcd-endpoints={endpoints}" in found.arguments("controller")
    peers = ",".join(f"{member.partition('.')[0]}=https://{member}:2380" for member in members)
    assert f"--initial-cluster={peers}" in found.arguments("etcd")
    assert found.one("StatefulSet", "etcd")["spec"]["serviceName"] == "demo-pyswarm-etcd"


def test_a_majority_of_etcd_survives_a_drain_and_one_member_does_not_block_it() -> None:
    budget = rendered("everything").one("PodDisruptionBudget", "etcd")
    assert budget["spec"]["maxUnavailable"] == 1
    assert not rendered().of_kind("PodDisruptionBudget")


def test_given_certificates_are_used_and_none_are_made() -> None:
    found = Rendered({"etcd": {"tls": {"existingSecret": "mine"}}})
    assert "demo-pyswarm-etcd-tls" not in found.of_kind("Secret")
    assert found.volume("etcd", "tls")["secret"]["secretName"] == "mine"
    assert found.volume("controller", "etcd-tls")["secret"]["secretName"] == "mine"


def test_etcds_image_is_the_controllers_unless_named() -> None:
    same = rendered()
    assert same.container("etcd")["image"] == same.container("controller")["image"]
    other = Rendered({"etcd": {"image": {"repository": "quay.example/etcd", "tag": "v3.6"}}})
    assert other.container("etcd")["image"] == "quay.example/etcd:v3.6"


def test_agents_read_their_token_from_a_secret_that_may_come_later() -> None:
    found = rendered()
    secret = found.volume("agent", "join-token")["secret"]
    assert secret["secretName"] == "demo-pyswarm-join-token"
    assert secret["items"] == [{"key": "token", "path": "token"}]
    assert secret["defaultMode"] == 0o400
    assert "optional" not in secret
    assert secret["secretName"] not in found.of_kind("Secret")
    assert f"create secret generic {secret['secretName']}" in found.notes


def test_no_secret_is_an_argument_or_a_variable_of_an_agent() -> None:
    found = rendered("everything")
    assert "--join-token-file=/etc/pyswarm/join/token" in found.arguments("agent")
    assert not [each for each in variables(found.container("agent")) if "TOKEN" in each]
    mount = next(m for m in found.container("agent")["volumeMounts"] if m["name"] == "join-token")
    assert (mount["mountPath"], mount["readOnly"]) == ("/etc/pyswarm/join", True)


def test_a_known_token_becomes_the_secret_and_no_argument() -> None:
    found = rendered("everything")
    assert found.one("Secret", "join-token")["stringData"] == {"token": TOKEN}
    assert not any(TOKEN in word for word in found.arguments("agent"))
    assert "create secret generic demo-pyswarm-join-token" not in found.notes


def test_an_existing_token_secret_is_never_overwritten() -> None:
    token = {"existingSecret": "mine", "key": "t", "value": TOKEN}
    found = Rendered({"joinToken": token})
    assert not [name for name in found.of_kind("Secret") if "token" in name]
    secret = found.volume("agent", "join-token")["secret"]
    assert (secret["secretName"], secret["items"]) == ("mine", [{"key": "t", "path": "token"}])


def test_what_agents_mount_is_seen_by_their_node_and_at_the_same_path() -> None:
    found = Rendered({"agent": {"stateDir": "/data/pyswarm"}})
    mounts = {each["name"]: each for each in found.container("agent")["volumeMounts"]}
    volumes = [each for each in found.pod("agent")["volumes"] if "hostPath" in each]
    paths = {each["name"]: each["hostPath"]["path"] for each in volumes}
    assert {name: mounts[name]["mountPath"] for name in paths} == paths
    assert paths["state"] == "/data/pyswarm"
    assert mounts["state"]["mountPropagation"] == "Bidirectional"
    assert mounts["run"]["mountPropagation"] == "Bidirectional"
    assert mounts["modules"]["readOnly"] is True
    assert "--state-dir=/data/pyswarm/agent" in found.arguments("agent")


def test_agents_live_in_the_network_and_among_the_processes_of_their_node() -> None:
    pod = rendered().pod("agent")
    assert (pod["hostNetwork"], pod["hostPID"]) == (True, True)
    assert pod["dnsPolicy"] == "ClusterFirstWithHostNet"


def test_agents_and_controller_agree_on_address_and_vxlan_port() -> None:
    found = rendered("everything")
    address = "demo-pyswarm-controller.fleet.svc.cluster.local:12377"
    assert f"--controller={address}" in found.arguments("agent")
    assert f"--advertise-addr={address}" in found.arguments("controller")
    ports = {
        word
        for part in ("agent", "controller")
        for word in found.arguments(part)
        if word.startswith("--data-path-port=")
    }
    assert len(ports) == 1


def test_the_controller_is_never_two_at_once() -> None:
    spec = rendered().one("Deployment", "controller")["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})


def test_what_concerns_placement_and_resources_passes_through() -> None:
    found = rendered("everything")
    agent, controller = found.pod("agent"), found.pod("controller")
    assert agent["tolerations"] == [{"operator": "Exists"}]
    assert agent["nodeSelector"] == {"kubernetes.io/os": "linux"}
    assert found.container("agent")["resources"]["limits"] == {"memory": "256Mi"}
    assert controller["priorityClassName"] == "system-cluster-critical"
    assert controller["imagePullSecrets"] == [{"name": "registry"}]
    metadata = found.workloads["controller"]["spec"]["template"]["metadata"]
    assert metadata["annotations"] == {"note": "a"}
    assert metadata["labels"].items() >= {"team": "platform", "tier": "control"}.items()
    assert all(each["metadata"]["labels"]["team"] == "platform" for each in found.objects)


def test_an_empty_storage_class_is_kept_and_none_is_left_out() -> None:
    claims = rendered("everything").one("StatefulSet", "etcd")["spec"]["volumeClaimTemplates"]
    assert claims[0]["spec"]["storageClassName"] == ""
    spec = rendered().one("PersistentVolumeClaim", "controller")["spec"]
    assert "storageClassName" not in spec


def test_state_that_would_be_lost_is_warned_of() -> None:
    assert "etcd.persistence.enabled is false" in rendered("bare").notes
    assert "Warning" not in rendered().notes
