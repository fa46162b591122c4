"""When `up` without --detach ends, and with which exit code."""

from collections.abc import Iterable, Iterator
from threading import Event
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
from msgspec.structs import replace

from cli import session
from cli.compose import project
from cli.compose.control.prefixes import Prefixes
from cli.compose.deploying import attached
from cli.compose.deploying.attached import Attached, End, end_of, follow
from cli.compose.lifecycle import ending
from cli.compose.mapping import Files
from cli.compose.members import Held, Member
from cli.compose.project import Project
from cli.errors import ConvergenceFailed, Interrupted
from cli.exits import ExitCode
from pyswarm_core.clock import Instant
from pyswarm_core.docker.containers.views import ContainerState
from pyswarm_core.views import LogSource
from tests.unit.cli.compose import made

if TYPE_CHECKING:
    from cli.client import Client

APP, DB = made.held("app", 1), made.held("db", 1)


def ended(name: str, code: int, since: int = 1) -> Held:
    return made.held(name, 1, made.EXITED, exit_code=code, since=Instant(since))


def asked(**more: object) -> Attached:
    return Attached(shown=("app", "db"), watched=("app", "db"), **more)  # type: ignore[arg-type]


def test_it_goes_on_while_a_container_runs() -> None:
    assert end_of([APP, DB], asked()) is None
    assert end_of([APP, ended("db", 1)], asked()) is None
    assert end_of([], asked()) is None


def test_it_ends_once_all_have_ended() -> None:
    assert end_of([ended("app", 3), ended("db", 0)], asked()) == End(0)


def test_the_first_container_that_ends_stops_all() -> None:
    found = [ended("app", 3, since=2), ended("db", 4, since=1)]
    assert end_of(found, asked(aborts=True)) == End(4, "shop-db-1")
    assert end_of([APP, ended("db", 0)], asked(aborts=True)) == End(0, "shop-db-1")


def test_with_abort_on_failure_only_one_that_failed_does() -> None:
    assert end_of([APP, ended("db", 0)], asked(aborts_on_failure=True)) is None
    assert end_of([APP, ended("db", 7)], asked(aborts_on_failure=True)) == End(7, "shop-db-1")


@pytest.mark.parametrize(("app", "code"), [(APP, 137), (ended("app", 5), 5)])
def test_the_code_is_that_of_the_service_that_is_asked_for(app: Held, code: int) -> None:
    found = end_of([app, ended("db", 1, since=0)], asked(aborts=True, exit_code_from="app"))
    assert found == End(code, "shop-db-1")


def test_other_services_do_not_count() -> None:
    others = [made.held("x", 1, made.EXITED, exit_code=1)]
    assert end_of([APP, *others], asked(aborts=True)) is None


def test_lines_have_the_service_and_the_number_of_the_container() -> None:
    names = {"shop_web": "web", "shop_edge": "edge", "shop-web-run-1": "web"}
    prefix = Prefixes(names, [made.held("web", 10)])
    assert prefix(LogSource("t1", "shop_web.1.t1", "host1")) == ("web-1   | ", "web")
    assert prefix(LogSource("t2", "shop_edge.nodeb.t2", "h")) == ("edge-1  | ", "edge")
    assert prefix(LogSource("t3", "shop_edge.nodea.t3", "h")) == ("edge-2  | ", "edge")
    assert prefix(LogSource("t4", "shop_edge.nodeb.t4", "h")) == ("edge-1  | ", "edge")
    assert prefix(LogSource("t5", "shop_app.1.t5", "h")) == ("shop_app-1  | ", "shop_app")
    assert prefix(LogSource("t6", "shop-web-run-1.t6", "h"))[1] == "web"


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt(), Interrupted("no longer waiting")])
def test_the_second_interrupt_kills_wherever_the_wait_is(
    monkeypatch: pytest.MonkeyPatch, interrupt: BaseException
) -> None:
    killed: list[str] = []

    def stop(*_: object, **__: object) -> None:
        raise interrupt

    def kill(own: Project, members: Iterable[Member], signal: str, _: object) -> None:
        killed.extend(f"{own.client} {signal} {one.name}" for one in members)

    def interrupted(*_: object) -> End:
        raise KeyboardInterrupt

    both = (made.member("app"), made.member("db"))
    opened = Project("shop", None, cast("Client", None), both)
    clients = [cast("Client", name) for name in ("second", "first")]
    files = cast("Files", SimpleNamespace(name="shop", loaded=None))
    monkeypatch.setattr(session, "connect", clients.pop)
    monkeypatch.setattr(project, "of", lambda client, *_: replace(opened, client=client))
    monkeypatch.setattr(attached, "_print_in_background", lambda *_: Event())
    monkeypatch.setattr(attached, "_until_ended", interrupted)
    monkeypatch.setattr(ending, "stopped", stop)
    monkeypatch.setattr(ending, "killed", kill)
    followed = Attached(shown=(), watched=("app",))
    code = follow(opened.client, files, followed, Instant(0))
    assert (code, killed) == (ExitCode.INTERRUPTED, ["second SIGKILL app"])


class _Fleet:
    """One service with one container; whoever watches it is told that it failed."""

    def __init__(self, then: Held) -> None:
        self.then = then
        self.client = self

    def containers(self, *, every: bool) -> list[Held]:
        """As it is a moment later."""
        assert every
        return [self.then]

    def watch_service(self, _: str) -> Iterator[object]:
        """The progress of the service."""
        return iter([SimpleNamespace(failure="non-zero exit (7)")])


def test_a_container_that_fails_while_it_is_looked_at_has_an_exit_code() -> None:
    created = made.held("app", 1, ContainerState.CREATED)
    attached._require_hope(cast(Project, _Fleet(ended("app", 7))), [created], asked())
    with pytest.raises(ConvergenceFailed, match="service app cannot start: non-zero exit"):
        attached._require_hope(cast(Project, _Fleet(created)), [created], asked())
