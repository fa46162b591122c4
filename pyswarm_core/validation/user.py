"""Validation of users and their tokens. PURE."""

from collections.abc import Iterable

from pyswarm_core.docker.units import format_lifetime
from pyswarm_core.identity.limits import STACKS_PER_USER, TOKEN_LIFETIME_MAX
from pyswarm_core.identity.users import Role, UserSpec
from pyswarm_core.validation import text
from pyswarm_core.validation.problem import Problem, at_most

RESERVED = ("root", "anonymous", "controller")
"""Names of callers that are no users, in events and in the audit log."""
DESCRIPTION_MAX = 200


def user_problems(spec: UserSpec) -> list[Problem]:
    """The problems of a user's spec."""
    return [
        *text.name_problems("name", spec.name),
        *_reserved_problems(spec.name),
        *_stack_problems(spec),
        *text.label_problems("--label", spec.labels),
    ]


def token_problems(lifetime: int, description: str) -> list[Problem]:
    """The problems of a new token."""
    problems = []
    if not 0 <= lifetime <= TOKEN_LIFETIME_MAX:
        most = format_lifetime(TOKEN_LIFETIME_MAX)
        expected = f"expected at most {most}" if lifetime > 0 else "expected 0 or more"
        problems.append(Problem("--expires", format_lifetime(lifetime), expected))
    if len(description) > DESCRIPTION_MAX or not description.replace(" ", "a").isprintable():
        expected = f"expected at most {DESCRIPTION_MAX} printable characters"
        problems.append(Problem("--description", description, expected))
    return problems


def _reserved_problems(name: str) -> Iterable[Problem]:
    if name.lower() in RESERVED:
        yield Problem("name", name, f"expected another name than {', '.join(RESERVED)}")


def _stack_problems(spec: UserSpec) -> Iterable[Problem]:
    yield from at_most("--stack", spec.stacks, STACKS_PER_USER)
    for stack in spec.stacks:
        yield from text.name_problems("--stack", stack)
    if spec.stacks and spec.role is Role.ADMIN:
        expected = "expected viewer or operator: nodes, users and the swarm belong to no stack"
        yield Problem("--role", "admin", f"{expected}, which --stack limits a user to")
