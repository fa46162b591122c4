"""Mounts, binds of this host, volumes, secrets and configs."""

import json

import pytest

from compose.mapping.mapped import LocalBind, Upload
from compose.tree import Place
from pyswarm_core.payloads.references import ConfigReference, FileTarget, SecretReference
from pyswarm_core.specs import ContainerSpec
from pyswarm_core.volumes.mounts import (
    BindOptions,
    ImageOptions,
    Mount,
    MountType,
    TmpfsOptions,
    VolumeOptions,
)
from tests.fixtures.mapping import faults, file_of, mapped, notices, service_of

TOP = "volumes: {v: , far: {external: true}, old: {external: {name: legacy}}}\n"


def container(lines: str, files: dict[str, str | bytes] | None = None) -> ContainerSpec:
    texts = {"compose.yaml": file_of(lines, TOP), **(files or {})}
    found = mapped(texts, files=("compose.yaml",)).spec.services[0]
    return found.task_template.container_spec


@pytest.mark.parametrize(
    ("entry", "mount"),
    [
        ("v:/data", Mount(source="shop_v", target="/data")),
        ("v:/data:ro", Mount(source="shop_v", target="/data", read_only=True)),
        ("far:/data", Mount(source="far", target="/data")),
        ("old:/data", Mount(source="legacy", target="/data")),
        ("/data", Mount(target="/data")),
        (
            "v:/data:nocopy",
            Mount(source="shop_v", target="/data", volume_options=VolumeOptions(no_copy=True)),
        ),
        (
            "{type: volume, source: v, target: /d, volume: {subpath: s, labels: [a=b]}}",
            Mount(
                source="shop_v",
                target="/d",
                volume_options=VolumeOptions(subpath="s", labels={"a": "b"}),
            ),
        ),
        ("/srv/x:/x", Mount(type=MountType.BIND, source="/srv/x", target="/x")),
        (
            "/srv/x:/x:rslave",
            Mount(
                type=MountType.BIND,
                source="/srv/x",
                target="/x",
                bind_options=BindOptions(propagation="rslave"),
            ),
        ),
        (
            "{type: bind, source: /s, target: /x, read_only: true, bind: {recursive: writable}}",
            Mount(
                type=MountType.BIND,
                source="/s",
                target="/x",
                read_only=True,
                bind_options=BindOptions(read_only_non_recursive=True),
            ),
        ),
        (
            "{type: tmpfs, target: /t, tmpfs: {size: 1m, mode: 0700}}",
            Mount(
                type=MountType.TMPFS,
                target="/t",
                tmpfs_options=TmpfsOptions(size_bytes=1 << 20, mode=0o700),
            ),
        ),
        (
            "{type: image, source: web:1, target: /i, image: {subpath: p}}",
            Mount(
                type=MountType.IMAGE,
                source="web:1",
                target="/i",
                image_options=ImageOptions(subpath="p"),
            ),
        ),
    ],
)
def test_an_entry_is_a_mount(entry: str, mount: Mount) -> None:
    assert container(f"volumes: [{entry}]").mounts == (mount,)


def test_external_volumes_are_of_others() -> None:
    found = mapped(file_of("volumes: [v:/a, far:/b, old:/c]", TOP))
    assert [one.name for one in found.spec.volumes] == ["shop_v"]
    declared = {name: one.path for name, one in found.externals.items()}
    assert declared == {
        ("volume", "far"): "volumes.far",
        ("volume", "legacy"): "volumes.old",
    }
    assert all(one.place for one in found.externals.values())


def test_a_volume_without_a_name_is_told_of() -> None:
    (told,) = notices(file_of("volumes: [/data]"))
    assert told.startswith("compose.yaml:4:15: services.a.volumes[0]: the volume has no name")
    assert not notices(file_of("volumes: [/data]"), is_stack=True, files=("compose.yaml",))


def test_a_file_of_the_project_becomes_a_config() -> None:
    texts = {
        "compose.yaml": file_of("volumes: [./web/nginx.conf:/etc/nginx.conf, ./run.sh:/run.sh]"),
        "web/nginx.conf": "listen 80;",
        "run.sh": "#!/bin/sh\n",
    }
    found = mapped(texts, files=("compose.yaml",))
    conf, run = found.spec.configs
    assert conf.spec.name.startswith("shop_nginx.conf-")
    assert [one.data for one in found.spec.configs] == [b"listen 80;", b"#!/bin/sh\n"]
    container = found.spec.services[0].task_template.container_spec
    assert not container.mounts
    assert [(one.config_name, one.file) for one in container.configs] == [
        (conf.spec.name, FileTarget(name="/etc/nginx.conf")),
        (run.spec.name, FileTarget(name="/run.sh", mode=0o555)),
    ]
    assert not found.local_binds
    assert [str(one) for one in found.notices] == [
        f"compose.yaml:4:15: services.a.volumes[0]: web/nginx.conf becomes config {conf.spec.name}:"
        " every node has it, and containers cannot write to it",
        f"compose.yaml:4:49: services.a.volumes[1]: run.sh becomes config {run.spec.name}:"
        " every node has it, and containers cannot write to it",
    ]


def test_a_file_is_one_config_for_all_services() -> None:
    text = "services:\n  a: {image: x, volumes: [./f:/f]}\n  b: {image: x, volumes: [./f:/g]}\n"
    found = mapped({"compose.yaml": text, "f": "1"}, files=("compose.yaml",))
    assert len(found.spec.configs) == 1


@pytest.mark.parametrize(
    "name", ["f", "a b", "x" * 90, "..f", "ünïcode", "f-", "f." + "y" * 70 + ".conf"]
)
def test_a_name_of_any_file_is_valid(name: str) -> None:
    texts = {
        "compose.yaml": file_of(f"volumes: ['./{name}:/f']"),
        name: "1",
    }
    assert not faults(texts, files=("compose.yaml",))
    assert len(mapped(texts, files=("compose.yaml",)).spec.configs) == 1


@pytest.mark.parametrize("entry", ["./html:/h", ".:/h", "../html:/h", "~/html:/h"])
def test_tasks_run_where_a_directory_is(entry: str) -> None:
    source = {"./html": "/project/html", ".": "/project", "../html": "/html"}.get(
        entry.partition(":")[0], "/home/tester/html"
    )
    texts = {"compose.yaml": file_of(f"volumes: ['{entry}']"), f"{source}/": ""}
    found = mapped(texts, files=("compose.yaml",))
    (mount,) = found.spec.services[0].task_template.container_spec.mounts
    expected = BindOptions(create_mountpoint=True)
    assert mount == Mount(type=MountType.BIND, source=source, target="/h", bind_options=expected)
    (bind,) = found.local_binds["a"]
    written = entry.partition(":")[0]
    place = Place("compose.yaml", 4, 15)
    assert bind == LocalBind(source, written, place, "services.a.volumes[0]")


def test_a_directory_of_the_nodes_is_not_of_this_host() -> None:
    found = mapped(file_of("volumes: [/srv/html:/h]"))
    assert not found.local_binds
    assert found.spec.services[0].task_template.container_spec.mounts[0].bind_options is None


@pytest.mark.parametrize("data", [b"", b"x" * 1000 * 1024])
def test_a_file_that_is_no_config_stays_a_bind(data: bytes) -> None:
    texts: dict[str, str | bytes] = {"compose.yaml": file_of("volumes: [./f:/f]"), "f": data}
    found = mapped(texts, files=("compose.yaml",))
    assert [one.source for one in found.local_binds["a"]] == ["/project/f"]
    assert not found.spec.configs


def test_a_directory_is_uploaded_into_a_volume() -> None:
    entry = "{type: bind, source: ./html, target: /h, read_only: true, x-pyswarm: {upload: true}}"
    texts = {"compose.yaml": file_of(f"volumes: [{entry}]"), "html/": ""}
    found = mapped(texts, files=("compose.yaml",))
    (volume,) = found.spec.volumes
    assert found.uploads == (Upload(volume.name, "/project/html"),)
    assert volume.name.startswith("shop_html-")
    (mount,) = found.spec.services[0].task_template.container_spec.mounts
    assert mount == Mount(source=volume.name, target="/h", read_only=True)
    assert not found.local_binds
    (fault,) = faults({"compose.yaml": texts["compose.yaml"], "html": "1"}, files=("compose.yaml",))
    assert "/project/html is no directory: upload copies a directory into a volume" in fault


@pytest.mark.parametrize(
    ("own", "told"),
    [
        ("{uplaod: true}", "x-pyswarm.uplaod: no such key: expected a map with upload"),
        ("true", "x-pyswarm: expected a map with upload"),
        ("{upload: 1}", "x-pyswarm.upload: is not valid: expected true or false"),
    ],
)
def test_keys_of_pyswarm_are_checked(own: str, told: str) -> None:
    entry = f"{{type: bind, source: /s, target: /h, x-pyswarm: {own}}}"
    (fault,) = faults(file_of(f"volumes: [{entry}]"))
    assert fault.endswith(told)


def test_volumes_from_adds_what_has_a_name() -> None:
    text = (
        "services:\n"
        "  a: {image: x, volumes: [v:/own], volumes_from: ['b:ro']}\n"
        "  b: {image: x, volumes: [v:/v, /srv:/s, 'v:/own'], volumes_from: [c]}\n"
        "  c: {image: x, volumes: ['v:/c', {type: tmpfs, target: /t}]}\n"
    )
    found = mapped(text + TOP).spec.services[0].task_template.container_spec.mounts
    assert [(one.target, one.source, one.read_only) for one in found] == [
        ("/c", "shop_v", True),
        ("/own", "shop_v", False),
        ("/s", "/srv", True),
        ("/v", "shop_v", True),
    ]


def test_volumes_from_shares_no_volume_without_a_name() -> None:
    text = "services:\n  a: {image: x, volumes_from: [b]}\n  b: {image: x, volumes: [/v]}\n"
    told = "compose.yaml:2:32: services.a.volumes_from[0]: b has a volume without a name at /v"
    (fault,) = faults(text)
    assert fault.startswith(told)


def test_references_are_files_or_variables() -> None:
    top = "secrets: {s: {environment: S}, far: {external: true}}\nconfigs: {c: {content: d}}\n"
    lines = (
        "secrets: [s, {source: far, target: /etc/k, uid: '7', mode: 0400},"
        " {source: s, target: e, x-pyswarm: {env: TOKEN}}]\n"
        "configs: [c]"
    )
    found = service_of(lines, top, environ={"S": "v"}).task_template.container_spec
    assert found.secrets == (
        SecretReference(secret_name="shop_s", file=FileTarget(name="s")),
        SecretReference(secret_name="far", file=FileTarget(name="/etc/k", uid="7", mode=0o400)),
        SecretReference(secret_name="shop_s", file=FileTarget(name="", mode=0), env="TOKEN"),
    )
    assert found.configs == (ConfigReference(config_name="shop_c", file=FileTarget(name="c")),)


@pytest.mark.parametrize(
    ("secret", "told"),
    [
        ("{environment: S}", "6:28: secrets.s.environment: the variable S is not set"),
        ("{file: ./none}", "secrets.s.file: /project/none cannot be read: no such file"),
        (
            "{file: ./empty}",
            "secrets.s.file: size 0 is not valid: secret data must be larger than 0",
        ),
        ("{file: ./big}", "secrets.s.file: size 512000 is not valid: secret"),
        ("{file: ./f, template_driver: x}", 'secrets.s.template_driver: "x" is not valid'),
        ("{file: ./bad, template_driver: golang}", "secrets.s: "),
        ("{file: ./f, driver: vault}", "exclude each other"),
        ("{driver: vault}", "secrets.s.driver: a fleet does not have it: there are no plugins"),
        ("{file: ./f, name: a/b}", 'secrets.s.name: "a/b" is not valid'),
    ],
)
def test_a_secret_without_valid_data_is_refused(secret: str, told: str) -> None:
    texts = {
        "compose.yaml": file_of("secrets: [s]", f"secrets: {{s: {secret}}}\n"),
        "empty": "",
        "big": "x" * 512_000,
        "f": "1",
        "bad": "{{",
    }
    found = faults(texts, files=("compose.yaml",))
    assert told in found[-1]
    assert len(found) == 1 or "name" in secret


def test_a_seccomp_profile_is_read_from_its_file() -> None:
    profile = {"defaultAction": "SCMP_ACT_ALLOW"}
    found = container(
        "security_opt: ['seccomp:./p.json']", {"p.json": json.dumps(profile, indent=2)}
    )
    assert found.security_opt == ('seccomp={"defaultAction":"SCMP_ACT_ALLOW"}',)
