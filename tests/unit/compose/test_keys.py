"""What becomes of keys: every key has a row, and docs/compose.md has the same rows."""

import re

import pytest

from compose.forms.base import Form
from compose.forms.lists import Listing
from compose.forms.maps import Table
from compose.keys.deploy import DEPLOY
from compose.keys.fates import SERVICE_FATES, TOP_FATES, Kind, endings
from compose.keys.service import SERVICE
from compose.keys.toplevel import TOP
from tests.fixtures.composing import loaded
from tests.fixtures.source import ROOT

_ROW = re.compile(r"^\| `([\w.*]+)` \| (.*) \| (\w+)( \(some values\))? \| (.+) \|$", re.MULTILINE)


def test_every_key_has_a_row() -> None:
    wanted = [key for key in SERVICE.keys if key != "deploy"]
    wanted += [f"deploy.{key}" for key in DEPLOY.keys]
    assert sorted(key for key in SERVICE_FATES if key in wanted) == sorted(wanted)
    assert sorted(key for key in TOP_FATES if "." not in key) == sorted(TOP.keys)


def test_every_row_is_of_a_key() -> None:
    for table, fates in ((SERVICE, SERVICE_FATES), (TOP, TOP_FATES)):
        for path in fates:
            form: Form | None = table
            for part in path.split("."):
                form = form.form if isinstance(form, Listing) else form
                assert not isinstance(form, Table) or part in form.keys, path
                form = form.child(part) if form is not None else None
                assert form is not None, path


def test_the_document_lists_the_same() -> None:
    text = (ROOT / "docs/compose.md").read_text()
    listed = [(row[0], row[2], bool(row[3]), row[4]) for row in _ROW.findall(text)]
    assert listed == [
        (key, fate.kind.value, fate.when is not None, fate.text)
        for table in (SERVICE_FATES, TOP_FATES)
        for key, fate in table.items()
    ]


def test_the_document_has_the_rules_of_merging() -> None:
    words = {"=": "REPLACE", "{}": "MAP", "+": "APPEND", "+1": "UNIQUE", "K": "KEYED"}
    rows = _ROW.findall((ROOT / "docs/compose.md").read_text())[: len(SERVICE_FATES)]
    for key, rule, *_ in rows:
        if key in SERVICE.keys and rule in words:
            assert SERVICE.keys[key].merge.rule.name == words[rule], key


@pytest.mark.parametrize(
    ("lines", "path", "kind"),
    [
        ("develop: {watch: []}", "develop", Kind.REFUSED),
        ("post_start: [{command: a}]", "post_start", Kind.REFUSED),
        ("network_mode: service:b", "network_mode", Kind.REFUSED),
        ("pid: container:b", "pid", Kind.REFUSED),
        ("volumes_from: ['container:b']", "volumes_from", Kind.REFUSED),
        ("external_links: [b]", "external_links", Kind.REFUSED),
        ("build: {context: ., ssh: [default]}", "build.ssh", Kind.REFUSED),
        ("logging: {driver: gelf}", "logging.driver", Kind.REFUSED),
        ("cgroup: host", "cgroup", Kind.REFUSED),
        ("volumes: [{type: npipe, source: a, target: /b}]", "volumes.0.type", Kind.REFUSED),
        ("ports: [80, {target: 81, name: a}]", "ports.1.name", Kind.NOTICE),
        ("networks: {default: {priority: 5}}", "networks.default.priority", Kind.NOTICE),
        ("runtime: kata", "runtime", Kind.NOTICE),
        ("cgroup_parent: a", "cgroup_parent", Kind.NOTICE),
    ],
)
def test_a_key_that_a_fleet_does_not_honour_is_named(lines: str, path: str, kind: Kind) -> None:
    tree = loaded(f"services:\n  b: {{image: y}}\n  a:\n    image: x\n    {lines}\n").tree
    found = {".".join(map(str, one.path)): one.fate.kind for one in endings(tree)}
    assert found == {f"services.a.{path}": kind}


@pytest.mark.parametrize(
    "lines",
    ["network_mode: host", "pid: host", "cgroup: private", "runtime: crun", "isolation: default",
     "logging: {driver: local}", "volumes_from: [b]", "volumes: ['/a:/b']"],
)  # fmt: skip
def test_values_that_are_mapped_are_not_named(lines: str) -> None:
    tree = loaded(f"services:\n  b: {{image: y}}\n  a:\n    image: x\n    {lines}\n").tree
    assert list(endings(tree)) == []


def test_keys_of_networks_are_named() -> None:
    text = (
        "services: {a: {image: x, networks: [n]}}\n"
        "networks: {n: {driver: bridge, enable_ipv4: false, ipam: {driver: default,"
        " options: {a: b}, config: [{subnet: 10.0.0.0/8, aux_addresses: {a: 10.0.0.1}}]}}}\n"
    )
    named = {".".join(map(str, one.path)): one.fate.kind for one in endings(loaded(text).tree)}
    assert named == {
        "networks.n.driver": Kind.NOTICE,
        "networks.n.enable_ipv4": Kind.REFUSED,
        "networks.n.ipam.options": Kind.NOTICE,
        "networks.n.ipam.config.0.aux_addresses": Kind.REFUSED,
    }
