"""`python -m tests.sim --seed 42 [--seconds N] [--trace]`: run seeds and say what they broke."""

import argparse
import sys
import time

import msgspec
from msgspec.structs import asdict, replace

from tests.sim.options import options_of
from tests.sim.rand import Seed
from tests.sim.result import Result
from tests.sim.world import simulate


def main() -> int:
    """Exit code 1 if any law was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--count", type=int, default=1, help="how many seeds from there on")
    parser.add_argument("--seconds", type=int, help="virtual seconds of unrest")
    parser.add_argument("--trace", action="store_true", help="print every event as it happens")
    parser.add_argument("--about", default="", help="of a failure, show only lines with this word")
    parser.add_argument("--json", action="store_true", help="print results for programs")
    arguments = parser.parse_args()
    failed = 0
    for number in range(arguments.seed, arguments.seed + arguments.count):
        options = options_of(Seed(number).stream("options"))
        if arguments.seconds:
            options = replace(options, seconds=arguments.seconds)
        began = time.perf_counter()
        result = simulate(number, options=options, trace=arguments.trace)
        took = time.perf_counter() - began
        failed += bool(result.violations)
        if arguments.json:
            print(msgspec.json.encode(result).decode(), flush=True)
            continue
        print(
            f"seed {number:5d}  {'FAILED' if result.violations else 'ok':6}  {took:5.2f} s"
            f"  {result.events:7d} events  {result.seconds:5.0f} s  {result.digest}"
        )
        if result.violations:
            report(result, arguments.about)
    return 1 if failed else 0


def report(result: Result, about: str = "") -> None:
    """What was broken, the story before it, and how to see it again."""
    for line in result.story:
        if about in line:
            print("   ", line)
    for violation in result.violations:
        print(f"  broken: {violation.rule.name}: {violation.text}")
    quiet = {name: value for name, value in asdict(result.options).items() if value}
    print("  options:", " ".join(f"{name}={value}" for name, value in quiet.items()))
    print(f"  again: python -m tests.sim --seed {result.seed}")


if __name__ == "__main__":
    sys.exit(main())
