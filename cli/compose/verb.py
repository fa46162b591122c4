"""The class of the verbs of `compose`: each takes the flags of the project, too.

Docker has them before the verb. Behind it `--help` does not list them, and a letter that the verb
itself uses (`logs -f`) is the verb's.
"""

from collections.abc import Iterable
from typing import Any

import click

from cli.compose import flags, refused
from cli.lazy import Verb

_META = "cli.compose.project"


class ProjectVerb(Verb):
    """A verb whose project is found by `cli.compose.project`."""

    def __init__(self, name: str | None, *arguments: Any, **more: Any) -> None:
        super().__init__(name, *arguments, **more)
        used = {word for param in self.params for word in param.opts}
        self.params += [*_project_options(used), *refused.options(name or "")]

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """As of every verb; a context for completion knows the services of the project."""
        if extra.get("resilient_parsing"):
            from cli.compose.completing import complete_services

            complete_services(self)
        return super().make_context(info_name, args, parent, **extra)


def given() -> dict[str, Any]:
    """The flags of the project behind the verb of this invocation."""
    found: dict[str, Any] = click.get_current_context().meta.get(_META, {})
    return dict(found)


def _project_options(used: Iterable[str]) -> list[click.Option]:
    known = frozenset(used)

    def keep(ctx: click.Context, param: click.Parameter, value: Any) -> None:
        ctx.meta.setdefault(_META, {})[param.name] = value

    return [
        click.Option(
            [option.name or "", *(word for word in option.opts if word not in known)],
            multiple=option.multiple,
            default=() if option.multiple else "",
            metavar=option.metavar,
            hidden=True,
            expose_value=False,
            callback=keep,
        )
        for option in flags.project_options()
    ]
