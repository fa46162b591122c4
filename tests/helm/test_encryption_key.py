"""The key of encryption at rest: made once, mounted for the controller alone, in no argument."""

import base64
from pathlib import Path

import pytest

from controller.identity.keyfile import load_keys
from tests.helm.cluster import cluster
from tests.helm.rendering import SETS, Rendered, rendered

SECRET = "demo-pyswarm-encryption-key"
MOUNT = "/etc/pyswarm/encryption"


def test_the_controller_accepts_the_key_that_the_chart_makes(tmp_path: Path) -> None:
    data = rendered().of_kind("Secret")[SECRET]["data"]
    # As the kubelet writes it for the pod's fsGroup.
    file = tmp_path / "encryption.key"
    file.write_bytes(base64.b64decode(data["encryption.key"]))
    file.chmod(0o440)
    (key,) = load_keys(file)
    assert isinstance(key, bytes)
    other = Rendered({}).of_kind("Secret")[SECRET]["data"]
    assert other != data


def test_a_key_survives_the_release_and_cannot_be_changed() -> None:
    secret = rendered().of_kind("Secret")[SECRET]
    assert secret["immutable"] is True
    assert secret["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


def test_upgrades_keep_the_key_and_the_certificates() -> None:
    installed = rendered().of_kind("Secret")
    assert set(installed) == {SECRET, "demo-pyswarm-etcd-tls"}
    with cluster(*installed.values()) as kubeconfig:
        upgraded = Rendered({}, kubeconfig).of_kind("Secret")
    assert upgraded == installed


def test_a_cluster_without_the_secrets_gets_them() -> None:
    with cluster() as kubeconfig:
        found = Rendered({}, kubeconfig).of_kind("Secret")
    assert found.keys() == rendered().of_kind("Secret").keys()
    assert found != rendered().of_kind("Secret")


@pytest.mark.parametrize("name", SETS)
def test_the_controller_reads_the_key_from_a_mounted_secret(name: str) -> None:
    found = rendered(name)
    assert f"--encryption-key={MOUNT}/encryption.key" in found.arguments("controller")
    mounts = {each["name"]: each for each in found.container("controller")["volumeMounts"]}
    mount = mounts["encryption-key"]
    assert (mount["mountPath"], mount["readOnly"]) == (MOUNT, True)
    secret = found.volume("controller", "encryption-key")["secret"]
    key = SETS[name].get("encryptionKey", {}).get("key", "encryption.key")
    assert secret["items"] == [{"key": key, "path": "encryption.key"}]
    assert secret["defaultMode"] == 0o400
    made = found.of_kind("Secret").get(secret["secretName"])
    assert (made is not None and key in made["data"]) or secret["secretName"] == "fleet-key"


def test_only_the_controller_has_the_key() -> None:
    found = rendered("everything")
    owners = [
        part
        for part in found.workloads
        for volume in found.pod(part)["volumes"]
        if volume.get("secret", {}).get("secretName") == SECRET
    ]
    assert owners == ["controller"]


def test_a_given_secret_is_used_and_none_is_made() -> None:
    found = rendered("external etcd, secured")
    assert SECRET not in found.of_kind("Secret")
    assert found.volume("controller", "encryption-key")["secret"]["secretName"] == "fleet-key"


@pytest.mark.parametrize("name", SETS)
def test_the_notes_say_what_to_back_up(name: str) -> None:
    found = rendered(name)
    secret = found.volume("controller", "encryption-key")["secret"]["secretName"]
    assert f"get secret {secret} -o yaml" in found.notes
