"""docs/security.md has the policy's table, row by row."""

import re

import pytest

from controller.api.permissions import authorize_request
from controller.brain.slices import finish
from controller.identity.caller import Caller, CallerKind, Role
from controller.identity.policy import (
    NETWORK_CONDITIONS,
    RULES,
    SAFE_SYSCTLS,
    SERVICE_CONDITIONS,
    Named,
)
from pyswarm_core.errors import PermissionDenied, PyswarmError
from tests.fixtures import build
from tests.fixtures.source import ROOT
from tests.integration.controller.matrix import COLUMNS, Row, methods, request_of, rows

DESCRIPTORS = dict(methods())
ROWS = rows()
CALLERS = {
    "guest": [Caller(CallerKind.ANONYMOUS)],
    "agent": [Caller(CallerKind.AGENT, "n1", "host1")],
    "controller": [Caller(CallerKind.CONTROLLER)],
    "viewer": [Caller(CallerKind.USER, "u", "ann", Role.VIEWER)],
    "operator": [Caller(CallerKind.USER, "u", "ann", Role.OPERATOR)],
    "admin, root": [
        Caller(CallerKind.USER, "u", "ann", Role.ADMIN),
        Caller(CallerKind.ROOT, role=Role.ADMIN),
    ],
}
STACKS = {Named.NOTHING: "yes", Named.USER: "yes", Named.FLEET: "no"}


def _may(caller: Caller, row: Row) -> str:
    request = request_of(DESCRIPTORS[row.method], row.kind)
    try:
        finish(authorize_request(caller, row.method, request, build.state()))
    except PermissionDenied:
        return "no"
    except PyswarmError:
        pass  # an empty request names nothing
    return "yes"


def test_every_call_has_a_row() -> None:
    assert {row.method for row in ROWS} == set(RULES)
    names = [(row.method, row.kind) for row in ROWS]
    assert len(names) == len(set(names))


def test_every_kind_that_needs_another_role_has_a_row() -> None:
    special = {(method, kind) for method, rule in RULES.items() for kind in rule.of_kind}
    assert special <= {(row.method, row.kind) for row in ROWS}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.method} {row.kind}")
def test_the_document_and_the_policy_agree(row: Row) -> None:
    policy = {
        column: " or ".join(sorted({_may(caller, row) for caller in CALLERS[column]}))
        for column in COLUMNS[:-1]
    }
    rule = RULES[row.method]
    stacks = "no" if row.kind else STACKS.get(rule.named, "theirs")
    if CallerKind.USER not in rule.callers:
        stacks = "no"
    assert policy | {"of a stack": stacks} == row.cells


def test_the_document_names_the_options_that_need_an_admin() -> None:
    text = (ROOT / "docs/security.md").read_text(encoding="utf-8")
    table = text.partition("These options of services")[2].partition("An operator may")[0]
    options = re.findall(r"^\| `(--[\w-]+)` \|", table, re.MULTILINE)
    conditions = [each.option for each in SERVICE_CONDITIONS]
    assert options == conditions + [each.option for each in NETWORK_CONDITIONS]
    assert set(re.findall(r"`((?:kernel|net)\.[\w.]+)`", table)) == SAFE_SYSCTLS
