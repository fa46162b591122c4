"""`pyswarm builder prune`: the build cache of this machine."""

import subprocess

import click

from cli.image.building.storage import Storage
from cli.lazy import Verb
from cli.verbs import pruning
from pyswarm_core.docker.units import decimal_size


@click.command(
    cls=Verb,
    help="Remove build cache of this machine\n\nExample: pyswarm builder prune --force",
)
@click.option("-a", "--all", "everything", is_flag=True,
              help="Remove all images of the build storage, not only cached steps")  # fmt: skip
@pruning.force
def prune(*, everything: bool, force: bool) -> None:
    what = "all images of this machine's build storage" if everything else "all cached build steps"
    if not force and not pruning.confirmed(f"This will remove {what}."):
        return
    storage = Storage()
    before = _size(storage)
    with storage.in_use():
        storage.run("rmi", "--all" if everything else "--prune", "--force")
    click.echo(f"Total reclaimed space: {decimal_size(max(before - _size(storage), 0))}")


def _size(storage: Storage) -> int:
    """Bytes of the storage on disk."""
    command = ["du", "--summarize", "--one-file-system", "--block-size=1", str(storage.folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return int(done.stdout.split()[0]) if done.stdout else 0
