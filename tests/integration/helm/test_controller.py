"""A controller with the chart's own arguments, key and etcd: the notes' commands, metrics, a lost
volume.
"""

import base64
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest
import yaml

from tests.fixtures.ports import free_port
from tests.fixtures.source import ROOT
from tests.helm.rendering import NAMESPACE, Object, Rendered, rendered, variables

PYSWARM = (sys.executable, "-c", "from cli.main import main; main()")
SERVICE = "demo-pyswarm-controller.fleet.svc.cluster.local"


class Pod:
    """The controller's pod, whose directories are below a folder of this machine."""

    def __init__(self, folder: Path, etcd: str, factor: float) -> None:
        self.folder = folder
        self.ports = {port: free_port() for port in (2377, 9323, 9325)}
        self._etcd = etcd
        self._deadline_s = 60.0 * factor
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def mount_key(self, found: Rendered) -> None:
        """The Secret as the kubelet mounts it: links to files for root and the fsGroup."""
        data = found.one("Secret", "encryption-key")["data"]
        folder = self.folder / "encryption"
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "..data").mkdir(parents=True)
        file = folder / "..data" / "encryption.key"
        file.write_bytes(base64.b64decode(data["encryption.key"]))
        file.chmod(0o440)
        (folder / "encryption.key").symlink_to("..data/encryption.key")

    def start(self) -> None:
        words = [
            sys.executable,
            "-m",
            "controller",
            *map(self._here, rendered().arguments("controller")),
        ]
        (self.folder / "run").mkdir(exist_ok=True)
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(words, stdout=log, stderr=log, env=self._environment())

    def end(self) -> int:
        """The exit code; of one that runs after SIGTERM."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.terminate()
        return self._process.wait(60)

    def wait_until_ready(self) -> None:
        """As the readiness probe does."""
        probe = rendered().container("controller")["readinessProbe"]["httpGet"]
        assert probe["port"] == "health"
        self.wait(lambda: self._status(probe["path"]) == 200)

    def wait_for_log(self, text: str) -> None:
        self.wait(lambda: text in self.log)

    def run(self, command: str) -> bytes:
        """The output of a `pyswarm` command in the pod, as `kubectl exec` runs it."""
        host = {"PYSWARM_HOST": f"unix://{self.folder}/run/pyswarm.sock"}
        return _output([*PYSWARM, *shlex.split(command)], self._environment() | host)

    def _environment(self) -> dict[str, str]:
        given = variables(rendered().container("controller"))
        config = given["XDG_CONFIG_HOME"]["value"].replace("/tmp", f"{self.folder}/tmp")
        return os.environ | {
            "XDG_CONFIG_HOME": config,
            "PYSWARM_NAME": "pod",
            "PYTHONPATH": str(ROOT),
        }

    def _here(self, word: str) -> str:
        if word.startswith("--etcd-endpoints="):
            return f"--etcd-endpoints={self._etcd}"
        for mounted, folder in (
            ("/etc/pyswarm/etcd", "tls"),
            ("/etc/pyswarm/encryption", "encryption"),
            ("/var/lib/pyswarm", "state"),
            ("/run/pyswarm", "run"),
        ):
            word = word.replace(mounted, f"{self.folder}/{folder}")
        for port, own in self.ports.items():
            word = word.replace(f"0.0.0.0:{port}", f"127.0.0.1:{own}")
        # Metrics with TLS and a token, as on every address but loopback.
        return word.replace("--metrics-addr=127.0.0.1:", "--metrics-addr=0.0.0.0:")

    def _status(self, path: str) -> int:
        try:
            with urlopen(f"http://127.0.0.1:{self.ports[9325]}{path}", timeout=5) as answer:
                return int(answer.status)
        except (URLError, OSError):
            return 0

    def wait(self, is_so: Callable[[], bool]) -> None:
        deadline = time.monotonic() + self._deadline_s
        while not is_so():
            assert time.monotonic() < deadline, self.log[-3000:]
            time.sleep(0.1)


def _output(words: list[str], environment: dict[str, str]) -> bytes:
    done = subprocess.run(words, capture_output=True, env=environment, cwd=ROOT, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@pytest.fixture
def pod(tmp_path: Path, endpoint: str, timeout_factor: float) -> Iterator[Pod]:
    made = Pod(tmp_path, endpoint, timeout_factor)
    made.mount_key(rendered())
    made.start()
    yield made
    made.end()


def test_the_notes_create_a_user_who_reaches_the_controller(pod: Pod, tmp_path: Path) -> None:
    pod.wait_until_ready()
    address = f"127.0.0.1:{pod.ports[2377]}"
    commands = re.findall(r"\$inside pyswarm ([^\n>]+)", rendered().notes)
    assert len(commands) == 4
    printed = {}
    for command in commands:
        noun, verb, rest = command.split(maxsplit=2)
        if (noun, verb) == ("context", "create"):
            pod.run("context create --user ann named")
            assert SERVICE in pod.run("context inspect named").decode()
            rest = f"--pyswarm host={address} {rest}"
        printed[verb] = pod.run(f"{noun} {verb} {rest}")
    assert b"ann" not in pod.run("context ls -q").split()
    archive = tmp_path / "ann.pyswarmcontext"
    archive.write_bytes(printed["export"])
    # On the user's machine.
    own = {**os.environ, "XDG_CONFIG_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
    _output([*PYSWARM, "context", "import", "ann", str(archive)], own)
    assert b"ann" in _output([*PYSWARM, "--context", "ann", "user", "ls"], own)


def test_a_lost_volume_costs_no_credentials_and_another_key_opens_none(pod: Pod) -> None:
    pod.wait_until_ready()
    token = pod.run("swarm join-token -q worker")
    assert token.startswith(b"PYSWM-1-")
    assert pod.end() == 0
    shutil.rmtree(pod.folder / "state")
    pod.start()
    pod.wait_until_ready()
    assert pod.run("swarm join-token -q worker") == token
    assert pod.end() == 0
    pod.mount_key(Rendered({}))
    pod.start()
    pod.wait_for_log("is sealed with encryption key")


def _discovered(port: int) -> list[Object]:
    """The targets that Kubernetes' discovery finds for the chart's Services, with its labels.
    Debian's Prometheus is built without that discovery. Nothing listens at the agents' port; the
    API's port has no metrics.
    """
    ports = {"demo-pyswarm-controller-metrics": port, "demo-pyswarm-agent-metrics": 1}
    found = []
    for name, service in rendered().of_kind("Service").items():
        labels = {
            f"__meta_kubernetes_service_label_{re.sub('[^a-zA-Z0-9]', '_', key)}": value
            for key, value in service["metadata"]["labels"].items()
        }
        labels["__meta_kubernetes_pod_name"] = f"{name}-0"
        labels["__meta_kubernetes_pod_node_name"] = "n1"
        found.append({"targets": [f"127.0.0.1:{ports.get(name, 2)}"], "labels": labels})
    return found


@contextmanager
def prometheus(folder: Path, text: str) -> Iterator[str]:
    """A real one with this configuration."""
    (folder / "prometheus.yml").write_text(text)
    address = f"127.0.0.1:{free_port()}"
    words = [
        "prometheus",
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/db",
    ]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [*words, f"--web.listen-address={address}"], stdout=log, stderr=log
        )
    try:
        yield f"http://{address}/api/v1/targets?state=active"
    finally:
        process.terminate()
        process.wait(120)


def _targets(url: str) -> list[dict[str, Any]]:
    """What it scrapes, by the name of the job; empty while it does not answer."""
    try:
        with urlopen(url, timeout=60) as answer:
            found = json.load(answer)["data"]["activeTargets"]
    except (URLError, OSError):
        return []
    return sorted(found, key=lambda each: str(each["scrapePool"]))


def test_prometheus_scrapes_with_the_pages_configuration(pod: Pod, tmp_path: Path) -> None:
    pod.wait_until_ready()
    (text,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/kubernetes.md").read_text(), re.DOTALL)
    (tmp_path / "ca.crt").write_bytes(pod.run("swarm ca"))
    (tmp_path / "token").write_bytes(pod.run("swarm scrape-token"))
    config = yaml.safe_load(text.replace("/etc/prometheus/pyswarm/", f"{tmp_path}/"))
    for job in config["scrape_configs"]:
        assert job.pop("kubernetes_sd_configs") == [
            {"role": "endpointslice", "namespaces": {"names": [NAMESPACE]}}
        ]
        job["static_configs"] = _discovered(pod.ports[9323])
    config["global"] = {"scrape_interval": "1s"}
    with prometheus(tmp_path, yaml.safe_dump(config)) as url:
        pod.wait(lambda: [each["health"] for each in _targets(url)] == ["down", "up"])
        agents, controllers = _targets(url)
    assert controllers["scrapePool"] == "pyswarm-controllers"
    assert controllers["labels"]["pod"] == "demo-pyswarm-controller-metrics-0"
    assert agents["labels"]["node"] == "n1"
    assert agents["scrapeUrl"] == "https://127.0.0.1:1/metrics"
