"""A sample of `make mutants`, and that every mutation which is written down still has its place."""

import pytest

from tests.mutants.generate import drawn
from tests.mutants.mutation import Mutation, mutated, path_of
from tests.mutants.named import NAMED
from tests.mutants.run import equivalents, judge_all

SAMPLE = (
    "a whole update at once",
    "host-port filter off",
    "leader's lease thirty times longer",
    "fence on a key that nobody writes",
)
SEEDS = range(1, 41)
WRITTEN = [mutation for mutation, _ in NAMED.values()] + [e.mutation for e in equivalents()]


@pytest.mark.parametrize("mutation", WRITTEN, ids=lambda mutation: mutation.name)
def test_a_mutation_that_is_written_down_still_has_its_place(mutation: Mutation) -> None:
    source = path_of(mutation.module).read_text(encoding="utf-8")
    compile(mutated(source, mutation), mutation.module, "exec")


def test_named_bugs_break_the_rule_that_was_made_for_them() -> None:
    tried = judge_all([NAMED[name][0] for name in SAMPLE], SEEDS, unit=False)
    broken = [one.verdict.rule for one in tried]
    assert broken == [NAMED[name][1].name for name in SAMPLE]


def test_bugs_made_mechanically_do_not_live() -> None:
    known = [entry.mutation for entry in equivalents()]
    chosen = [mutation for mutation in drawn(1) if mutation not in known]
    tried = judge_all(chosen, range(1, 13), unit=True)
    assert [one.mutation.name for one in tried if not one.verdict.by] == []
