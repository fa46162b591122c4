"""`pyswarm compose ls`."""

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from cli import session
from cli.compose.names import PROJECT_LABEL
from cli.compose.verb import ProjectVerb
from cli.render.listing import Layout
from pyswarm_core.errors import invalid

if TYPE_CHECKING:
    from cli.render.listing import Row
    from pyswarm_core.docker.containers.views import ContainerView

FILES_LABEL = f"{PROJECT_LABEL}.config_files"
LAYOUT = Layout(
    headings={"Name": "NAME", "Status": "STATUS", "ConfigFiles": "CONFIG FILES"},
    columns=("Name", "Status", "ConfigFiles"),
    quiet="Name",
)


@click.command(
    "ls",
    cls=ProjectVerb,
    help="List running compose projects: the stacks of the fleet\n\n"
    "Example: pyswarm compose ls --all",
)
@click.option("-a", "--all", "every", is_flag=True, help="Show all stopped Compose projects")
@click.option(
    "--filter", "filters", multiple=True, metavar="name=NAME",
    help="Filter output based on conditions provided",
)  # fmt: skip
@click.option(
    "--format", "form", default="table", metavar="FORMAT",
    help="Format the output. Values: [table | json] or a template (default table)",
)  # fmt: skip
@click.option("-q", "--quiet", is_flag=True, help="Only display project names")
def ls_(*, every: bool, filters: tuple[str, ...], form: str, quiet: bool) -> None:
    from cli.container import calls
    from cli.render.output import echo_lines

    parts = [_filter(text) for text in filters]
    client = session.connect()
    label = f"label={PROJECT_LABEL}"
    services = [summary.service.spec.labels[PROJECT_LABEL] for summary in client.services((label,))]
    views = calls.containers(client, every=True, filters=(label,))
    found = rows(services, views, every=every)
    found = [one for one in found if not parts or any(part in one["Name"] for part in parts)]
    echo_lines(shown(LAYOUT, found, form, quiet=quiet))


def rows(services: Iterable[str], views: "Iterable[ContainerView]", *, every: bool) -> "list[Row]":
    """A row per project, by name; without `every` of those that have a running container. An ended
    task counts unless its slot has another one.
    """
    states: dict[str, Counter[str]] = {name: Counter() for name in services}
    files = dict.fromkeys(states, "")
    seen: set[tuple[str, str]] = set()
    for view in sorted(views, key=lambda view: (not view.state.is_shown, -view.created_at)):
        name = view.labels[PROJECT_LABEL]
        slot = (view.service_id, view.name.rpartition(".")[0] if view.service_name else "")
        if slot not in seen:
            seen.add(slot)
            states.setdefault(name, Counter())[view.state.value] += 1
        files[name] = files.get(name) or view.labels.get(FILES_LABEL, "")
    return [
        {"Name": name, "Status": _status(states[name]), "ConfigFiles": files.get(name, "")}
        for name in sorted(states)
        if every or states[name]["running"] or states[name]["paused"]
    ]


def shown(layout: Layout, found: "list[Row]", form: str, *, quiet: bool) -> list[str]:
    """The lines; with json one array, as Compose prints it."""
    import msgspec

    from cli.render import listing

    if form == "json" and not quiet:
        return [msgspec.json.encode([dict(one) for one in found]).decode()]
    return listing.show(layout, found, form, quiet=quiet)


def _status(states: "Counter[str]") -> str:
    """`exited(1), running(2)`."""
    return ", ".join(f"{state}({count})" for state, count in sorted(states.items())) or "created(0)"


def _filter(text: str) -> str:
    key, _, value = text.partition("=")
    if key != "name":
        raise invalid("--filter", text, "expected name=NAME")
    return value
