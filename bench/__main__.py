"""`python -m bench [NAMES] [--quick]`: run the benchmarks and print one table. SHELL.

NAMES are modules of this folder or the beginnings of their names (`control`, `control_agents`).
Each benchmark runs in a process of its own, so that none inherits another's memory.
"""

import json
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import click

import bench
from bench.report import Figure, line, table


@click.command()
@click.argument("names", nargs=-1)
@click.option("--quick", is_flag=True, help="Small sizes: shows that it runs, measures nothing")
@click.option("--alone", hidden=True, is_flag=True)
def main(names: tuple[str, ...], quick: bool, alone: bool) -> None:
    """Measure what is named, or everything."""
    if alone:
        for figure in import_module(f"bench.{names[0]}").measure(quick):
            print(json.dumps(figure), flush=True)
        return
    chosen = [name for name in benchmarks() if not names or name.startswith(names)]
    if not chosen:
        raise click.UsageError(f"no benchmark of {', '.join(benchmarks())} begins like that")
    figures: list[Figure] = []
    failed: list[str] = []
    for name in chosen:
        click.echo(f"{name} ...", err=True)
        try:
            for figure in run(name, quick):
                click.echo(f"  {line(figure)}", err=True)
                figures.append(figure)
        except subprocess.CalledProcessError:
            failed.append(name)
    click.echo(table(figures))
    if failed:
        raise click.ClickException(f"failed: {', '.join(failed)}")


def benchmarks() -> list[str]:
    """The modules that measure something, by the one function they have in common."""
    names = sorted(module.name for module in pkgutil.iter_modules(bench.__path__))
    folder = Path(bench.__path__[0])
    return [n for n in names if "\ndef measure(" in (folder / f"{n}.py").read_text()]


def run(name: str, quick: bool) -> Iterator[Figure]:
    """The figures of one benchmark as they come. Raises CalledProcessError if it fails."""
    words = [sys.executable, "-m", "bench", name, "--alone", *(["--quick"] if quick else [])]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for text in process.stdout:
            yield Figure(*json.loads(text))
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, words)


if __name__ == "__main__":
    main()
