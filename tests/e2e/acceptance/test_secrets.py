"""Secrets and configs on a real fleet: files in containers, versions, and what hosts have."""

import gzip
import json
import subprocess
import zlib
from base64 import b64encode
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path
from uuid import uuid4

import pytest

from pyswarm_core.limits import AGENT_METRICS_PORT, CONTROLLER_METRICS_PORT
from tests.e2e.acceptance.fleet import IMAGE, PATIENT, Fleet
from tests.fixtures import netns

ENVIRONMENT = PATIENT
_numbers = count(1)


@pytest.fixture(scope="module")
def fleet(own_fleet: Fleet) -> Fleet:
    return own_fleet


@pytest.fixture
def name(fleet: Fleet) -> Iterator[str]:
    """The name of a secret and a config, removed after the services that use them."""
    made = f"payload{next(_numbers)}"
    yield made
    for kind in ("secret", "config"):
        if made in fleet(kind, "ls", "--format", "{{.Name}}").split():
            fleet.until(partial(_is_removed, fleet, kind, made), "nothing uses it")


def _is_removed(fleet: Fleet, kind: str, name: str) -> bool:
    return fleet.run(kind, "rm", name).code == 0


def put(fleet: Fleet, kind: str, verb: str, name: str, data: str, *flags: str) -> str:
    file = Path(fleet.home) / "data"
    file.write_text(data)
    return fleet(kind, verb, *flags, name, str(file))


def created(fleet: Fleet, service: str, *flags: str) -> None:
    shell = ("--entrypoint", "sleep", *flags, IMAGE, "1000")
    fleet("service", "create", "--name", service, "--stop-grace-period", "0s", *shell)


def inside(fleet: Fleet, service: str, *command: str) -> str:
    (task, *_) = fleet.running(service)
    done = fleet.contained(task["ID"], *command)
    assert done.code == 0, done
    return done.out


def held(fleet: Fleet) -> dict[str, list[str]]:
    """The versions that each host has."""
    found = {}
    for host in fleet("node", "ls", "--format", "{{.Hostname}}").split():
        listed = fleet.on(host, "ls", f"{fleet.run_dir}/{host}/secrets/payloads")
        found[host] = listed.out.split()
    return found


def test_secrets_and_configs_are_files_with_owners_and_modes(
    fleet: Fleet, name: str, service: str
) -> None:
    put(fleet, "secret", "create", name, "hunter2", "-l", "team=db")
    put(fleet, "config", "create", name, "listen 80;\n")
    created(
        fleet,
        service,
        "--secret",
        name,
        "--secret",
        f"source={name},target=sub/other,uid=54321,gid=54322,mode=0400",
        "--secret",
        f"source={name},target=/etc/absolute",
        "--config",
        name,
        "--config",
        f"source={name},target=/etc/web/web.conf,mode=0440",
    )
    assert inside(fleet, service, "cat", f"/run/secrets/{name}") == "hunter2"
    assert inside(fleet, service, "cat", "/etc/absolute") == "hunter2"
    assert inside(fleet, service, "cat", f"/{name}") == "listen 80;\n"
    assert inside(fleet, service, "cat", "/etc/web/web.conf") == "listen 80;\n"
    stat = ("stat", "-c", "%a-%u-%g")
    assert inside(fleet, service, *stat, "/run/secrets/sub/other") == "400-54321-54322\n"
    assert inside(fleet, service, *stat, f"/run/secrets/{name}") == "444-0-0\n"
    assert inside(fleet, service, *stat, "/etc/web/web.conf") == "440-0-0\n"
    (task, *_) = fleet.running(service)
    refused = fleet.contained(task["ID"], "sh", "-c", f"echo x >/run/secrets/{name}")
    assert "Read-only file system" in refused.err
    assert f"secret '{name}' is in use by the following service: {service}" in fleet.refused(
        "secret", "rm", name
    )
    document = json.loads(fleet("secret", "inspect", name))[0]
    assert document["Spec"] == {"Name": name, "Labels": {"team": "db"}}
    assert [len(ids) for ids in held(fleet).values()].count(2) == 1
    fleet("service", "rm", service)
    fleet.until(lambda: not any(held(fleet).values()), "the host has none of them any more")


def test_an_update_of_a_secret_rolls_its_services_and_a_rollback_returns_to_the_version(
    fleet: Fleet, name: str, service: str
) -> None:
    put(fleet, "secret", "create", name, "one")
    pinned = f"{service}-pinned"
    created(fleet, service, "--secret", name, "--replicas", "2")
    created(fleet, pinned, "--secret", f"source={name}@1,target=x")
    assert put(fleet, "secret", "update", name, "two", "--keep-versions", "2") == f"{name}@2"
    assert inside(fleet, service, "cat", f"/run/secrets/{name}") == "two"
    assert inside(fleet, pinned, "cat", "/run/secrets/x") == "one"
    fleet("service", "rollback", service)
    assert inside(fleet, service, "cat", f"/run/secrets/{name}") == "one"
    fleet("service", "rm", service, pinned)


def test_a_restarted_agent_without_a_controller_keeps_the_files(
    fleet: Fleet, name: str, service: str
) -> None:
    put(fleet, "secret", "create", name, "kept")
    created(fleet, service, "--secret", name)
    (task, *_) = fleet.running(service)
    host = task["Node"]
    fleet.kill(host)
    fleet.until(lambda: fleet.daemon(host), "the agent is back")
    assert inside(fleet, service, "cat", f"/run/secrets/{name}") == "kept"
    fleet("service", "rm", service)


def _forms(secret: str) -> list[bytes]:
    """The secret as it may be written: raw, in hexadecimal, in base64 at any offset."""
    raw = secret.encode()
    shifted = [b64encode(b" " * shift + raw)[4:-4] for shift in range(3)]
    return [raw, raw.hex().encode(), raw.hex().upper().encode(), *shifted]


def _found(content: bytes, forms: list[bytes]) -> bool:
    if content[:2] == b"\x1f\x8b":
        with suppress(OSError, EOFError, zlib.error):
            content += gzip.decompress(content)
    return any(form in content for form in forms)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _on_disk(fleet: Fleet, forms: list[bytes]) -> list[str]:
    """The files of hosts, of etcd, of logs and of the CLI that have the secret; not the tmpfs,
    which other namespaces than the hosts' do not see.
    """
    return [
        str(path)
        for directory in (fleet.state_dir, fleet.run_dir, fleet.home)
        for path in directory.rglob("*")
        if path.is_file() and not path.is_symlink() and _found(_read(path), forms)
    ]


def _in_processes(fleet: Fleet, forms: list[bytes], inside: str) -> list[str]:
    """Processes with the secret in arguments or environment, without those of the container."""
    own = f"/{inside}"
    return [
        str(path)
        for process in Path("/proc").glob("[0-9]*")
        if own not in _read(process / "cgroup").decode()
        for path in (process / "cmdline", process / "environ")
        if _found(_read(path), forms)
    ]


def _metrics(fleet: Fleet) -> list[str]:
    """What the agents and the controller export."""
    places = [(number, AGENT_METRICS_PORT) for number in (1, 2, 3)] + [(1, CONTROLLER_METRICS_PORT)]
    return [
        netns.inside(
            fleet.netns(f"host{number}"),
            partial(fleet.scraper.fetch, f"10.99.0.{number}", port, 10),
        )
        for number, port in places
    ]


def test_the_search_reaches_hosts_the_store_and_processes(fleet: Fleet, name: str) -> None:
    """A config is plain text in etcd: what finds it there would find a secret."""
    known = f"known-{uuid4().hex}"
    forms = _forms(known)
    put(fleet, "config", "create", name, known)
    (Path(fleet.home) / "data").unlink()
    planted = {
        "raw": known.encode(),
        "hex": f"x{known.encode().hex()}".encode(),
        **{f"base64-{n}": b64encode(b"x" * n + known.encode() + b"y") for n in range(3)},
        "gz": gzip.compress(known.encode()),
    }
    for file, content in planted.items():
        (fleet.state_dir / file).write_bytes(content)
    found = _on_disk(fleet, forms)
    assert {str(fleet.state_dir / file) for file in planted} <= set(found)
    assert [path for path in found if "/etcd/" in path and path.endswith(".wal")]
    for file in planted:
        (fleet.state_dir / file).unlink()
    with subprocess.Popen(["sleep", "60"], env={"PASSWORD": known}) as process:
        assert _in_processes(fleet, forms, "none") == [f"/proc/{process.pid}/environ"]
        process.kill()


def test_no_disk_log_answer_or_process_has_a_secret(fleet: Fleet, name: str, service: str) -> None:
    known = f"known-{uuid4().hex}"
    forms = _forms(known)
    put(fleet, "secret", "create", name, known)
    created(fleet, service, "--secret", name, "--replicas", "3")
    put(fleet, "secret", "update", name, known + "2")
    (Path(fleet.home) / "data").unlink()
    assert inside(fleet, service, "cat", f"/run/secrets/{name}") == known + "2"
    said = [
        fleet.run(*words)
        for words in (
            ("secret", "inspect", name),
            ("secret", "ls", "--format", "json"),
            ("service", "inspect", service),
            ("inspect", service),
            ("events", "--since", "10m", "--until", "0s"),
            ("audit", "--format", "json"),
            ("why", service),
            ("logs", service),
            ("info",),
        )
    ]
    assert not [done for done in said if _found(f"{done.out}{done.err}".encode(), forms)]
    assert not [text for text in _metrics(fleet) if _found(text.encode(), forms)]
    ids = [task["ID"] for task in fleet.running(service)]
    assert not _on_disk(fleet, forms)
    assert not [found for task_id in ids for found in _in_processes(fleet, forms, task_id)]
    host = fleet.running(service)[0]["Node"]
    own = fleet.on(host, "grep", "-rl", known, f"{fleet.run_dir}/{host}").out.split()
    assert own, "the search finds what it is to find"
    assert all(path.startswith(f"{fleet.run_dir}/{host}/secrets/") for path in own)
    fleet("service", "rm", service)


def test_a_template_is_expanded_for_each_task(fleet: Fleet, name: str, service: str) -> None:
    put(fleet, "secret", "create", name, "hunter2")
    text = '{{.Service.Name}} {{.Task.Slot}} {{secret "pw"}} {{env "LEVEL"}}'
    put(fleet, "config", "create", name, text, "--template-driver", "golang")
    created(
        fleet, service, "--secret", f"source={name},target=pw", "--config", name, "--env", "LEVEL=7"
    )
    assert inside(fleet, service, "cat", f"/{name}") == f"{service} 1 hunter2 7"
    fleet("service", "rm", service)
