"""`python -m bench [NAMES] [--quick]`: run the benchmarks and print one table. SHELL.

NAMES are modules of this folder or prefixes of their names (`control`, `control_agents`). With
`--peer` they are modules of the folder `peer`, which need Docker: `scripts/setup peer`. Each
benchmark runs in its own process, so that none inherits another's memory.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import click

from bench.report import Figure, line, table


@click.command()
@click.argument("names", nargs=-1)
@click.option(
    "--quick", is_flag=True, help="Use small sizes, which show only that the benchmarks run"
)
@click.option("--peer", is_flag=True, help="Measure Docker Swarm and pyswarm in turns")
@click.option("--alone", hidden=True, is_flag=True)
def main(names: tuple[str, ...], quick: bool, peer: bool, alone: bool) -> None:
    """Run the benchmarks of these names, or all"""
    if alone:
        for figure in import_module(names[0]).measure(quick):
            print(json.dumps(figure), flush=True)
        return
    if peer and shutil.which("dockerd") is None:
        raise click.ClickException(
            "docker.io is not installed: `scripts/setup peer` does it, and keeps the package from "
            "starting a daemon of its own"
        )
    known = benchmarks("bench.peer" if peer else "bench")
    chosen = [name for name in known if not names or name.startswith(names)]
    if not chosen:
        raise click.UsageError(
            f"NAMES: no benchmark matches: expected prefixes of {', '.join(known)}"
        )
    figures: list[Figure] = []
    failed: list[str] = []
    for name in chosen:
        click.echo(f"{name} ...", err=True)
        try:
            for figure in run(known[name], quick):
                click.echo(f"  {line(figure)}", err=True)
                figures.append(figure)
        except subprocess.CalledProcessError:
            failed.append(name)
    click.echo(table(figures))
    if failed:
        raise click.ClickException(f"failed: {', '.join(failed)}")


def benchmarks(package: str) -> dict[str, str]:
    """The modules of a package that have a function `measure`."""
    (folder,) = import_module(package).__path__
    files = sorted(Path(folder).glob("*.py"))
    return {f.stem: f"{package}.{f.stem}" for f in files if "\ndef measure(" in f.read_text()}


def run(module: str, quick: bool) -> Iterator[Figure]:
    """Run one benchmark; yields its figures. Raises CalledProcessError."""
    words = [sys.executable, "-m", "bench", module, "--alone", *(["--quick"] if quick else [])]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for text in process.stdout:
            yield Figure(*json.loads(text))
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, words)


if __name__ == "__main__":
    main()
