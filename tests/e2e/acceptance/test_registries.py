"""Registries that hang or require a login, under a fleet."""

import json
import shutil
import sys
from base64 import b64encode
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import pytest

from cli.client import Client
from cli.registry.opening import opened
from pyswarm_core.docker.reference import parse_reference
from tests.e2e.acceptance.fleet import IMAGE, Fleet, playground

pytestmark = pytest.mark.slow

UNDERLAY = "10.99.0.250"
PORT = 5001
PASSWORD = "open-sesame-7"
# bcrypt, the only kind docker-registry takes.
HTPASSWD = "ann:$2b$04$nv7cJTZAPpHKJqIQcE1HUuRLpQ.vZB6uFZyaYJ6TXdut3iQVBFh7O\n"
IMAGE_OF = "{{.Spec.TaskTemplate.ContainerSpec.Image}}"
PATIENT = ("--restart-delay", "1s")

HUNG = """
import socket, sys
server = socket.create_server((sys.argv[1], int(sys.argv[2])), backlog=64)
held = []
while True:
    held.append(server.accept())
"""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Three hosts that give up a silent registry soon, and read one user's logins."""
    home = tmp_path_factory.mktemp("home")
    own = {"PYSWARM_AGENT_PULL_STALL": "3s", "DOCKER_CONFIG": str(home)}
    log_out(home)
    with playground(home, 3, **own) as found:
        yield found


def registry(fleet: Fleet, folder: Path, *, login: bool = False) -> AbstractContextManager[object]:
    """A second registry beside the fleet's own; with `login` only ann may come."""
    folder.mkdir(exist_ok=True)
    config = {
        "version": "0.1",
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
        "http": {"addr": f"{UNDERLAY}:{PORT}"},
    }
    if login:
        (folder / "htpasswd").write_text(HTPASSWD)
        config["auth"] = {"htpasswd": {"realm": "test", "path": str(folder / "htpasswd")}}
    (folder / "config.json").write_text(json.dumps(config))
    binary = shutil.which("docker-registry") or shutil.which("registry") or "docker-registry"
    quiet = ("env", "OTEL_TRACES_EXPORTER=none")
    return fleet.serving(*quiet, binary, "serve", str(folder / "config.json"))


def offer(fleet: Fleet, name: str, convert: str = "") -> str:
    """Copy web:1 to the second registry under that name; its reference.

    `convert`: as a manifest of that kind, with another digest.
    """
    reference = f"{UNDERLAY}:{PORT}/{name}"
    folder = fleet.home / "offered"
    if not folder.exists():
        _copied(fleet, folder)
    enter = f"--net=/run/netns/{fleet.name}-lan"
    copy = ["nsenter", enter, "skopeo", "--insecure-policy", "copy", "--quiet"]
    copy += ["--format", convert] if convert else []
    plain = ["--dest-tls-verify=false", "--dest-creds", f"ann:{PASSWORD}"]
    target = f"docker://{reference}"
    fleet.until(
        lambda: fleet.on_machine([*copy, *plain, f"dir:{folder}", target]).code == 0,
        f"{reference} is offered",
    )
    return reference


def _copied(fleet: Fleet, folder: Path) -> None:
    """Copy web:1 from the fleet's registry into a folder."""
    with (
        Client(f"unix://{fleet.run_dir}/pyswarm.sock") as client,
        opened(client, write=False) as registry,
    ):
        copy = ["skopeo", "--insecure-policy", "copy", "--quiet", "--src-tls-verify=false"]
        source = f"docker://{registry.reference(parse_reference(IMAGE))}"
        login = ["--src-authfile", str(registry.authfile)]
        done = fleet.on_machine([*copy, *login, source, f"dir:{folder}"])
        assert done.code == 0, done.err


def log_in(home: Path, password: str) -> None:
    """As `docker login` would."""
    pair = b64encode(f"ann:{password}".encode()).decode()
    auths = {f"{UNDERLAY}:{PORT}": {"auth": pair}}
    (home / "config.json").write_text(json.dumps({"auths": auths}))


def log_out(home: Path) -> None:
    """As `docker logout` would."""
    (home / "config.json").write_text("{}")


def test_a_registry_that_hangs_holds_up_nobody_else_and_is_forgiven(
    fleet: Fleet, service: str, tmp_path: Path
) -> None:
    image = f"{UNDERLAY}:{PORT}/hung:1"
    fleet("service", "create", "--name", f"{service}w", "--mode", "global", IMAGE)
    with fleet.serving(sys.executable, "-c", HUNG, UNDERLAY, str(PORT)):
        fleet("service", "create", "-d", "--name", service, "--replicas", "18", *PATIENT, image)
        fleet.until(
            lambda: any("connecting to the registry" in line for line in why(fleet, service)),
            "it is said who is waited for",
        )
        # Its image is here: it starts although many tasks of each host wait for the registry.
        fleet("service", "create", "--name", f"{service}n", "--replicas", "6", IMAGE)
        assert len(fleet.running(f"{service}n")) == 6
        fleet.until(
            lambda: f"registry {UNDERLAY}:{PORT} did not answer" in fleet.error_of(service),
            "the task's error names the registry",
        )
        assert len(fleet.running(f"{service}w")) == 3
    with registry(fleet, tmp_path / "registry"):
        offer(fleet, "hung:1")
        fleet.until(lambda: len(fleet.running(service)) == 18, "it runs once the registry answers")
    for name in (f"{service}w", f"{service}n"):
        fleet("service", "rm", name)


def why(fleet: Fleet, service: str) -> list[str]:
    """What the tasks that are being prepared tell."""
    tasks = fleet.tasks(service, "desired-state=running")[:3]
    return [fleet.task(task["ID"])["Status"]["Message"] for task in tasks]


def test_a_login_travels_with_its_service_and_is_shown_to_nobody(
    fleet: Fleet, service: str, tmp_path: Path
) -> None:
    limits = ("--replicas", "2", "--constraint", "node.hostname!=host3")
    with registry(fleet, tmp_path / "registry", login=True):
        image = offer(fleet, "private:1")
        fleet("service", "create", "-d", "--name", service, *limits, *PATIENT, image)
        fleet.until(lambda: "not allowed to pull" in fleet.error_of(service), "it wants a login")
        log_in(fleet.home, "wrong")
        fleet("service", "rm", service)
        login = ("--with-registry-auth", "--name", service)
        fleet("service", "create", "-d", *login, *limits, *PATIENT, image)
        fleet.until(lambda: "not allowed to pull" in fleet.error_of(service), "it is a wrong one")
        log_in(fleet.home, PASSWORD)
        fleet("service", "update", "--with-registry-auth", service)
        assert {task["Node"] for task in fleet.running(service)} == {"host1", "host2"}
        # A host that never had the image uses the stored login, long after the user has gone.
        log_out(fleet.home)
        fleet("service", "update", "--constraint-rm", "node.hostname!=host3", service)
        fleet("service", "scale", f"{service}=3")
        assert {task["Node"] for task in fleet.running(service)} == {"host1", "host2", "host3"}
        assert places_of(fleet, service, PASSWORD) == []


def places_of(fleet: Fleet, service: str, password: str) -> list[str]:
    """Every place, of those that people or programs look at, where the password can be read."""
    raw = password.encode()
    hidden = [password, raw.hex(), b64encode(f"ann:{password}".encode()).decode()]
    hidden += [b64encode(b" " * shift + raw)[4:-4].decode() for shift in range(3)]
    tasks = [task["ID"] for task in fleet.tasks(service)]
    shown = {
        "service inspect": fleet("service", "inspect", service),
        "service inspect --pretty": fleet("service", "inspect", "--pretty", service),
        "service ps": fleet("service", "ps", "--no-trunc", service),
        "task inspect": fleet("task", "inspect", *tasks),
        "events": fleet("events", "--since", "1h", "--until", "0s"),
        "why": fleet("why", service),
    }
    told = [(name, text.encode()) for name, text in shown.items()]
    words = [word.encode() for word in hidden]
    found = [name for name, text in told if any(word in text for word in words)]
    # Agents' records, etcd's data, command lines.
    files = (*fleet.run_dir.rglob("*.log"), *fleet.state_dir.rglob("*"))
    for path in (*files, *Path("/proc").glob("[0-9]*/cmdline")):
        with suppress(FileNotFoundError, ProcessLookupError):
            text = path.read_bytes() if path.is_file() else b""
            if any(word in text for word in words):
                found.append(str(path))
    return found


def test_a_tag_that_moved_changes_no_service_until_it_is_updated(
    fleet: Fleet, service: str, tmp_path: Path
) -> None:
    def image() -> str:
        return fleet("service", "inspect", service, "--format", IMAGE_OF)

    def ids() -> set[str]:
        return {fleet.task(task["ID"])["Spec"]["ContainerSpec"]["Image"] for task in running()}

    def running() -> list[dict[str, str]]:
        return fleet.running(service)

    with registry(fleet, tmp_path / "registry"):
        tag = offer(fleet, "moving:1")
        only = ("--constraint", "node.hostname==host1")
        fleet("service", "create", "--name", service, *only, tag)
        old = image()
        assert old.startswith(f"{tag}@sha256:")
        assert [row["Image"] for row in fleet.rows("service", "ls")] == [tag]
        offer(fleet, "moving:1", convert="oci")
        # Hosts that never had the image run the same as the first.
        fleet("service", "update", "--constraint-rm", "node.hostname==host1", service)
        fleet("service", "scale", f"{service}=3")
        assert len({task["Node"] for task in running()}) == 3
        fleet("service", "update", "--force", service)
        assert (image(), ids()) == (old, {old})
        fleet("service", "update", "--image", tag, service)
        new = image()
        assert new != old
        assert ids() == {new}
        before = {task["ID"] for task in running()}
        fleet("service", "update", "--image", tag, service)
        assert {task["ID"] for task in running()} == before
    done = fleet.run("service", "update", "--image", tag, "-d", service)
    assert (done.code, image()) == (0, tag)
    assert f"image {tag} could not be accessed on a registry to record its digest" in done.err
