"""`pyswarm context rm`."""

import click

from cli.context import store
from cli.context.model import DEFAULT
from cli.failures import for_each
from cli.lazy import Verb
from pyswarm_core.errors import Conflict, NotFound, quoted


@click.command(
    cls=Verb, help="Remove one or more contexts\n\nExample: pyswarm context rm --force production"
)
@click.option("-f", "--force", is_flag=True, help="Force the removal of a context in use")
@click.argument("contexts", nargs=-1, required=True, metavar="CONTEXT...")
def rm(*, force: bool, contexts: tuple[str, ...]) -> None:
    for_each(contexts, lambda ref: _remove(ref, force=force))


def _remove(name: str, *, force: bool) -> None:
    if name == DEFAULT:
        raise Conflict('context "default" cannot be removed')
    if not store.exists(name):
        if force:
            return
        raise NotFound(f"context {quoted(name)} does not exist: `pyswarm context ls`")
    if store.current_name() == name and not force:
        raise Conflict(f"context {quoted(name)} is in use: set -f flag to force remove")
    store.remove(name)
