"""Logs of several services as one."""

from collections.abc import Iterator

from cli.logs import several
from cli.render.loglines import Form, Renderer
from pyswarm_core.errors import Conflict
from pyswarm_core.logs.lines import LogLines
from pyswarm_core.views import Logs, LogSource, LogsQuery


class Client:
    """Answers from what each service has written."""

    def __init__(self, **written: list[Logs] | Exception) -> None:
        self._written = written

    def logs(self, query: LogsQuery) -> Iterator[Logs]:
        found = self._written[query.ref]
        if isinstance(found, Exception):
            raise found
        yield Logs(of_service=True)
        yield from found


def part(service: str, *lines: tuple[int, str]) -> Logs:
    source = LogSource(f"task-{service}", f"{service}.1.task-{service}", "host1")
    columns = LogLines(
        at=tuple(at for at, _ in lines),
        marks=bytes(len(lines)),
        texts=tuple(text.encode() for _, text in lines),
    )
    return Logs(sources=(source,), lines=columns)


def shown(client: Client, *refs: str, follow: bool = False) -> tuple[list[str], list[str]]:
    """The lines, and the warnings."""
    warnings: list[str] = []
    queries = [LogsQuery(ref, follow=follow) for ref in refs]
    form = Form(time_first=False)
    renderer = Renderer(form, naming=lambda source: (f"{source.task_name[:3]} | ", "x"))
    text = b""
    for one in several.parts(client, queries, warnings.append):  # type: ignore[arg-type]
        warnings += [one.warning] if one.warning else []
        text += b"".join(data for _, data in renderer.rendered(one))
    return text.decode().split("\n")[:-1], warnings


def test_lines_of_several_services_are_in_the_order_of_their_times() -> None:
    client = Client(
        app=[part("app", (1, "a1"), (4, "a4")), part("app", (6, "a6"))],
        web=[part("web", (2, "w2"), (3, "w3"), (5, "w5"))],
    )
    lines, warnings = shown(client, "web", "app")
    assert lines == [f"{text[0]} | {text}".replace("a |", "app |").replace("w |", "web |")
                     for text in ("a1", "w2", "w3", "a4", "w5", "a6")]  # fmt: skip
    assert warnings == []


def test_a_service_without_stored_lines_is_a_warning_among_others() -> None:
    client = Client(app=[part("app", (1, "a1"))], web=Conflict("no lines are stored"))
    lines, warnings = shown(client, "app", "web")
    assert lines == ["app | a1"]
    assert warnings == ["web: no lines are stored"]


def test_lines_that_are_followed_come_from_all_services() -> None:
    client = Client(
        app=[part("app", (1, "a1"), (2, "a2"))],
        web=[part("web", (1, "w1"))],
        db=Conflict("no lines are stored"),
    )
    lines, warnings = shown(client, "app", "web", "db", follow=True)
    assert sorted(lines) == ["app | a1", "app | a2", "web | w1"]
    assert warnings == ["db: no lines are stored"]


def test_many_lines_come_in_several_parts() -> None:
    many = [(number, f"line {number}") for number in range(several._BATCH * 2 + 1)]
    client = Client(app=[part("app", *many[::2])], web=[part("web", *many[1::2])])
    lines, _ = shown(client, "app", "web")
    assert [line.partition("| ")[2] for line in lines] == [text for _, text in many]
