"""What every `inspect` does: several refs, one JSON array, and an error for those not found.

What was found is shown even if something else was not, as Docker does.
"""

from collections.abc import Callable, Sequence
from typing import Any

import click

from cli.render import documents
from pyswarm_core.errors import NotFound


def inspect_all(refs: Sequence[str], form: str, read: Callable[[str], dict[str, Any]]) -> None:
    """Print the documents that `read` gives. Raises NotFound, naming all that were missing."""
    found, missing = [], []
    for ref in refs:
        try:
            found.append(read(ref))
        except NotFound as error:
            missing.append(str(error))
    if found or not form:
        for line in documents.show(found, form):
            click.echo(line)
    if missing:
        raise NotFound("; ".join(missing))
