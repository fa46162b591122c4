"""Every limit is held by a rule of the simulator or by a test: see tests/sim/limits.toml."""

import ast
import re
import tomllib
from functools import cache

import pytest

from compose import limits as compose_limits
from pyswarm_core import limits
from pyswarm_core.aio.archives import limits as archive_limits
from pyswarm_core.identity import limits as audit_limits
from pyswarm_core.images import limits as image_limits
from pyswarm_core.logs import limits as log_limits
from pyswarm_core.payloads import limits as payload_limits
from pyswarm_core.registry import limits as registry_limits
from pyswarm_core.stacks import limits as stack_limits
from pyswarm_core.streams import limits as stream_limits
from pyswarm_core.volumes import limits as volume_limits
from tests.fixtures.source import PACKAGES, ROOT, sources
from tests.sim.rules import Rule

TABLE = tomllib.loads((ROOT / "tests/sim/limits.toml").read_text(encoding="utf-8"))
RULES: dict[str, str] = TABLE["rules"]
TESTS: dict[str, str] = TABLE["tests"]
NOT_HELD: list[str] = TABLE["not_held"]
UNITS = ("HOUR", "MINUTE", "SECOND", "MILLISECOND")
NAMES = [
    name
    for module in (
        *(limits, audit_limits, stream_limits, archive_limits, log_limits),
        *(payload_limits, volume_limits, image_limits, registry_limits),
        *(compose_limits, stack_limits),
    )
    for name in vars(module)
    if name.isupper() and name not in UNITS
]


def test_every_limit_has_a_check() -> None:
    known = [*RULES, *TESTS, *NOT_HELD]
    unknown = [name for name in NAMES if name not in known]
    assert unknown == [], "say in tests/sim/limits.toml which rule or test holds it"
    assert sorted(known) == sorted(NAMES)


def test_every_limit_is_used() -> None:
    text = "\n".join(source.text for source in sources(*PACKAGES) if source.path.stem != "limits")
    words = set(re.findall(r"\w+", text))
    assert [name for name in NAMES if name not in words] == []


def test_the_rules_that_hold_limits_exist() -> None:
    assert [name for name, rule in RULES.items() if rule not in Rule.__members__] == []


@pytest.mark.parametrize("name", TESTS)
def test_the_test_that_holds_a_limit_exists(name: str) -> None:
    path, _, function = TESTS[name].partition("::")
    assert function in _functions(path)


@cache
def _functions(path: str) -> set[str]:
    tree = ast.parse((ROOT / "tests" / path).read_text(encoding="utf-8"))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(tree) if isinstance(node, functions)}
