"""`python -m tests.mutants`: puts bugs into the brain and the task machine; something must object.

The named ones must break the rule that was made for them in the simulator; those made mechanically
must fail a seed or a unit test. Survivors that are listed in equivalent.toml are no failure.
"""

import argparse
import sys

from tests.mutants.generate import OF_EACH_KIND, drawn
from tests.mutants.named import NAMED
from tests.mutants.run import Tried, equivalents, judge_all

SEEDS_NAMED = range(1, 121)
SEEDS_DRAWN = range(1, 13)


def main() -> int:
    """Exit code 1 if a mutant lives that should not."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--about", default="", help="only mutants whose name has this in it")
    parser.add_argument("--each", type=int, default=OF_EACH_KIND, help="how many of each kind")
    arguments = parser.parse_args()
    living = _named(arguments.about) + _drawn(arguments.about, arguments.each)
    print(f"{len(living)} live that should not" if living else "no mutant lives that should not")
    for name in living:
        print(" ", name)
    return 1 if living else 0


def _named(about: str) -> list[str]:
    chosen = {name: entry for name, entry in NAMED.items() if about in name}
    by_mutation = {mutation: (name, rule) for name, (mutation, rule) in chosen.items()}
    living: list[str] = []

    def tell(tried: Tried) -> None:
        name, rule = by_mutation[tried.mutation]
        if tried.verdict.rule != rule.name:
            living.append(f"{name}: expected {rule.name}")
        _print(tried, name)

    judge_all(by_mutation, SEEDS_NAMED, unit=False, tell=tell)
    return living


def _drawn(about: str, each: int) -> list[str]:
    chosen = [mutation for mutation in drawn(each) if about in mutation.name]
    known = {entry.mutation: entry.why for entry in equivalents()}
    living: list[str] = []

    def tell(tried: Tried) -> None:
        if not tried.verdict.by and tried.mutation not in known:
            living.append(tried.mutation.name)
        _print(tried, tried.mutation.name, known.get(tried.mutation, ""))

    judge_all(chosen, SEEDS_DRAWN, unit=True, tell=tell)
    return living


def _print(tried: Tried, name: str, why: str = "") -> None:
    verdict = tried.verdict
    by = f"{verdict.by} {verdict.rule}" if verdict.by else f"LIVES {why and 'as it should: '}{why}"
    print(f"{tried.seconds:6.1f} s  {by:<40}  {name}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
