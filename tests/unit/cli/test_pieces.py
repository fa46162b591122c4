"""The pure pieces behind the verbs: progress, edits, destinations, units."""

import re
import shlex
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from cli.context import store
from cli.context.model import Context
from cli.main import COMMANDS, root
from cli.registry.opening import Endpoint
from cli.render.listing import ellipsis, table
from cli.render.pretty import node_lines
from cli.render.progress import Places, changes, lines, reasons
from cli.render.screen import Screen
from cli.service.spec.edits import merged
from cli.swarm.host import Host, unit_text
from pyswarm_core.docker.building.recipe import tag
from pyswarm_core.docker.entries import Entry, env_lines, environment
from pyswarm_core.docker.reference import parse_reference
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.ids import NodeId
from pyswarm_core.objects import Node, NodeDescription, NodeResources
from pyswarm_core.states import TaskState
from pyswarm_core.views import NodeView, ServiceProgress, SlotProgress
from tests.unit.cli.conftest import Pyswarm

NOUNS = [
    name
    for name in COMMANDS
    if isinstance(root.get_command(click.Context(root), name), click.Group)
]


def slot(number: int, state: TaskState, error: str = "") -> SlotProgress:
    return SlotProgress(number, "host1", state, "", error)


def test_few_slots_have_a_line_each() -> None:
    progress = ServiceProgress(
        running=1,
        desired=2,
        updated=1,
        slots=(slot(2, TaskState.PREPARING), slot(1, TaskState.RUNNING)),
        alive=2,
    )
    assert lines(progress) == [
        "overall progress: 1 out of 2 tasks",
        f"1/2: running   [{'=' * 49}>]",
        f"2/2: preparing [{'=' * 30}>{' ' * 19}]",
    ]


def _places(places: Places, desired: int, *numbers: int) -> list[str]:
    """What names the slots of these numbers in their lines."""
    slots = tuple(slot(number, TaskState.RUNNING) for number in numbers)
    found = lines(ServiceProgress(desired=desired, slots=slots), places=places)
    return [line.split(":")[0] for line in found[1:]]


def test_slots_are_counted_from_one_and_keep_their_place() -> None:
    places = Places()
    assert _places(places, 2, 7, 3) == ["1/2", "2/2"]
    assert places.of(ServiceProgress(desired=2, slots=(slot(7, TaskState.RUNNING),)))[0][0] == 2
    assert _places(places, 4, 1, 3, 7, 2) == ["1/4", "2/4", "3/4", "4/4"]
    grown = ServiceProgress(desired=4, slots=(slot(1, TaskState.RUNNING),))
    assert places.of(grown)[0][0] == 3, "new slots follow those that were there"


def test_surplus_slots_have_no_line_and_leave_no_gap() -> None:
    places = Places()
    assert _places(places, 2, 1, 2, 3) == ["1/2", "2/2"]
    assert _places(places, 2, 2, 3) == ["1/2", "2/2"]
    assert _places(places, 0, 2, 3) == []


def test_slots_of_a_global_service_are_named_by_their_nodes() -> None:
    slots = tuple(
        SlotProgress(number, node, TaskState.RUNNING, "", "")
        for number, node in ((4, "web-10"), (9, "db"), (12, ""))
    )
    progress = ServiceProgress(desired=3, updated=3, alive=3, slots=slots, per_node=True)
    bar = f"running   [{'=' * 49}>]"
    assert lines(progress)[1:] == [f"12    : {bar}", f"db    : {bar}", f"web-10: {bar}"]


def test_a_task_that_waits_says_for_what_and_not_how_its_predecessor_ended() -> None:
    waits = SlotProgress(1, "", TaskState.PENDING, "1 of 1 nodes lack memory", "exit code 1")
    assert reasons([waits]) == ["1 task: 1 of 1 nodes lack memory"]


def test_many_slots_have_a_sum_and_the_reasons() -> None:
    slots = tuple(slot(number, TaskState.PENDING, "no room") for number in range(1, 51))
    progress = ServiceProgress(desired=50, slots=slots, alive=50)
    assert lines(progress) == [
        "overall progress: 0 out of 50 tasks",
        f"[{' ' * 50}]",
        "50 tasks: no room",
    ]
    half = replace(progress, updated=20, completed=5)
    assert lines(half)[1] == f"[{'=' * 24}>{' ' * 25}]"


def test_a_rollback_and_the_time_until_tasks_are_stable_are_told() -> None:
    message = "update rolled back due to failure or early termination of task t1"
    progress = ServiceProgress(
        desired=3, updated=1, alive=3, update_state="rollback_started", update_message=message
    )
    told = [f"rollback: {message}", "overall progress: rolling back update: 1 out of 3 tasks"]
    assert changes(progress) == lines(progress) == told
    for stable_in, waiting in ((5_000_000_000, "5 seconds"), (1, "1 second")):
        stable = ServiceProgress(desired=3, updated=3, alive=3, stable_in=stable_in)
        verify = f"verify: Waiting {waiting} to verify that tasks are stable..."
        assert changes(stable) == ["overall progress: 3 out of 3 tasks", verify]


def test_a_running_task_that_is_not_ready_says_why() -> None:
    waits = SlotProgress(1, "host1", TaskState.RUNNING, "not ready: connection refused", "")
    assert reasons([waits, slot(2, TaskState.RUNNING)]) == ["1 task: not ready: connection refused"]


def test_old_tasks_that_still_end_are_told() -> None:
    progress = ServiceProgress(running=2, desired=2, updated=2, alive=3)
    assert changes(progress) == ["overall progress: 2 out of 2 tasks (1 more to end)"]


def test_screen_draws_over_what_it_drew() -> None:
    screen = Screen(width=10)
    assert screen.draw(["a", "b" * 20]) == "\r\x1b[2Ka\n\r\x1b[2Kbbbbbbbbb…\n\x1b[J"
    assert screen.draw(["c"]).startswith("\x1b[2A\r\x1b[2Kc\n")


def test_columns_are_as_wide_as_dockers() -> None:
    assert table([["ID", "NAME"], ["1", "a-long-name"]]) == [
        "ID        NAME",
        "1         a-long-name",
    ]


@given(st.text(max_size=20), st.integers(1, 30))
def test_prop_ellipsis_never_is_longer(text: str, length: int) -> None:
    assert len(ellipsis(text, length)) <= length


def test_env_files_are_read_as_docker_reads_them() -> None:
    read = env_lines("f", "\ufeffA=1\n # no\n\n  B= 2 \nC".encode())
    assert [entry.text for entry in read] == ["A=1", "B= 2 ", "C"]
    assert read[-1].source == "f line 5"


def test_later_environment_wins() -> None:
    entries = [Entry("--env", text) for text in ("A=1", "C=3", "A=2", "B", "D")]
    assert environment(entries, {"B": "own"}) == ("A=2", "C=3", "B=own")


def test_merging_replaces_in_place_and_appends() -> None:
    assert merged(("a", "b", "c"), ("d", "b"), ("a",), str) == ("b", "c", "d")


def test_the_registry_has_images_by_their_whole_names() -> None:
    registry = Endpoint("127.0.0.1:4711", Path("/x/auth.json"), "secret")
    assert registry.reference(parse_reference("web")) == (
        "127.0.0.1:4711/docker.io/library/web:latest"
    )
    pinned = "registry:5000/a@sha256:" + "a" * 64
    assert registry.reference(parse_reference(pinned)) == (
        "127.0.0.1:4711/registry__5000/a@sha256:" + "a" * 64
    )
    assert "secret" not in repr(registry)


def test_a_name_that_cannot_be_built_is_refused() -> None:
    with pytest.raises(InvalidArgument):
        tag("web@sha256:" + "a" * 64)


def test_units_leave_containers_alone_and_arguments_as_they_are() -> None:
    text = unit_text(Host().daemon("agent", ["--hostname=50%", "--label=a=$b c"]))
    assert "KillMode=process" in text
    assert "-m agent --hostname=50%% '--label=a=$$b c'" in text


def test_a_controller_goes_before_other_processes_of_its_host() -> None:
    assert "Nice=-10" in unit_text(Host().daemon("controller", []))
    assert "Nice=0" in unit_text(Host().daemon("agent", []))


def _verbs(group: click.Group, path: tuple[str, ...]) -> list[tuple[str, ...]]:
    context = click.Context(group)
    found: list[tuple[str, ...]] = []
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            found += _verbs(command, (*path, name))
        else:
            found.append((*path, name))
    return found


def _command(path: tuple[str, ...]) -> click.Command:
    found: click.Command = root
    for word in path:
        assert isinstance(found, click.Group)
        inner = found.get_command(click.Context(found), word)
        assert inner is not None
        found = inner
    return found


def _alone(path: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Docker's verb without a noun that is the same command as one of `container`; of `buildx` that
    of `builder`.
    """
    names = [(name,) for name in COMMANDS]
    others = [("builder", path[1])] if path[0] == "buildx" else []
    return [one for one in (*names, *others) if _command(one) is _command(path)]


@pytest.mark.parametrize("path", _verbs(root, ()), ids=" ".join)
def test_every_verb_explains_itself(path: tuple[str, ...], pyswarm: Pyswarm) -> None:
    ran = pyswarm(*path, "--help")
    assert ran.code == 0
    assert ran.out.startswith(f"Usage: pyswarm {' '.join(path)}")
    assert ran.out.count("Example: pyswarm") == 1
    for option in _command(path).params:
        if isinstance(option, click.Option) and not option.hidden:
            assert option.metavar or option.type is not click.STRING, "say what the value is"
            assert (option.help or "")[:1].isupper() or (option.help or "")[:1] in "'["


@pytest.mark.parametrize(
    ("line", "usage"),
    [
        ("exec", "CONTAINER|TASK|SERVICE[.SLOT] COMMAND [ARG...]"),
        ("compose exec", "SERVICE COMMAND [ARG...]"),
        ("network create", "NETWORK"),
        ("context inspect", "[CONTEXT...]"),
        ("pull", "IMAGE[:TAG|@DIGEST]"),
        ("stats", "[CONTAINER|TASK|SERVICE...]"),
    ],
)
def test_the_usage_has_dockers_form(line: str, usage: str, pyswarm: Pyswarm) -> None:
    first = pyswarm(*line.split(), "--help").out.split("\n\n")[0]
    assert " ".join(first.split()) == f"Usage: pyswarm {line} [OPTIONS] {usage}"


@pytest.mark.parametrize(
    ("line", "waits_for"),
    [
        ("service create", "the service to converge"),
        ("service rm", "the tasks to end"),
        ("stack rm", "the tasks to end"),
        ("stack deploy", "the stack services to converge"),
        ("stack rollback", "the stack services to converge"),
        ("config update", "the services that use it to converge"),
    ],
)
def test_detach_says_what_is_waited_for(line: str, waits_for: str, pyswarm: Pyswarm) -> None:
    shown = " ".join(pyswarm(*line.split(), "--help").out.split())
    assert f"Exit immediately instead of waiting for {waits_for} " in shown


@pytest.mark.parametrize("group", ["image", "builder", "buildx", "system"])
def test_groups_that_docker_users_type_have_an_example(group: str, pyswarm: Pyswarm) -> None:
    assert f"\n  Example: pyswarm {group} " in pyswarm(group, "--help").out


@pytest.mark.parametrize("path", _verbs(root, ()), ids=" ".join)
def test_the_example_of_a_verb_can_be_pasted(path: tuple[str, ...], pyswarm: Pyswarm) -> None:
    paragraphs = pyswarm(*path, "--help").out.split("\n\n")
    examples = [text.strip() for text in paragraphs if text.strip().startswith("Example:")]
    assert len(examples) == 1
    for example in examples:
        assert "\n" not in example, "it is one line"
        words = shlex.split(example)[1:]
        assert any(words[: len(one) + 1] == ["pyswarm", *one] for one in (path, *_alone(path)))


def test_help_lists_every_command_once_in_dockers_sections(pyswarm: Pyswarm) -> None:
    titles = ("Common Commands", "Management Commands", "Swarm Commands", "Commands")
    *_, common, management, swarm, others = pyswarm("--help").out.split("\n\n")
    sections = [
        re.findall(r"^  (\S+) ", text, re.M) for text in (common, management, swarm, others)
    ]
    shown = [text.partition(":\n")[0] for text in (common, management, swarm, others)]
    assert shown == [*titles]
    assert sections[0][:2] == ["run", "exec"]
    assert all(names == sorted(names) for names in sections[1:])
    assert sorted(name for names in sections for name in names) == sorted(COMMANDS)


@pytest.mark.parametrize("words", [(), ("service",), ("service", "create"), ("ps",)])
def test_help_is_a_second_form_of_its_flag(words: tuple[str, ...], pyswarm: Pyswarm) -> None:
    ran = pyswarm("help", *words)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == pyswarm(*words, "--help").out


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("--context default help service create", "service create"),
        ("--host unix:///nowhere help ps", "ps"),
        ("compose help up", "compose up"),
        ("service help", "service"),
        ("help service --help", "service"),
    ],
)
def test_help_needs_no_controller(line: str, command: str, pyswarm: Pyswarm) -> None:
    ran = pyswarm(*line.split())
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == pyswarm(*command.split(), "--help").out


@pytest.mark.parametrize(
    ("line", "topic", "command"),
    [("service create x", "x", "service create"), ("run -d web", "-d web", "run")],
)
def test_what_follows_a_command_is_no_topic_of_help(
    line: str, topic: str, command: str, pyswarm: Pyswarm
) -> None:
    ran = pyswarm("--host", "unix:///nowhere", "help", *line.split())
    assert (ran.code, ran.out) == (2, "")
    told = f"Error: unknown help topic: {topic}\nSee `pyswarm {command} --help`.\n"
    assert ran.err == told


def test_help_of_an_unknown_command_is_an_error(pyswarm: Pyswarm) -> None:
    ran = pyswarm("help", "nosuch")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith('Error: "nosuch" is not a command of pyswarm')


@pytest.mark.parametrize("noun", ["", *NOUNS])
def test_a_noun_alone_is_answered_with_its_help(noun: str, pyswarm: Pyswarm) -> None:
    ran = pyswarm(*noun.split())
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("Usage: pyswarm")
    assert ran.out == pyswarm(*noun.split(), "--help").out


def test_a_playground_is_named_by_flag_environment_or_context(
    pyswarm: Pyswarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.playground.commands._require_root", lambda: None)
    monkeypatch.delenv("PYSWARM_HOST", raising=False)
    monkeypatch.delenv("PYSWARM_PLAYGROUND", raising=False)

    def named(*flags: str) -> set[str]:
        lines = (["down"], ["exec", "h", "true"], ["kill", "h"], ["cut", "h"], ["heal", "h"])
        told = [pyswarm("playground", verb, *flags, *rest).err for verb, *rest in lines]
        return {line.partition(" is up")[0] for line in told}

    assert named() == {'Error: no playground "playground"'}
    store.activate(Context(name="lab", playground="lab"))
    assert named() == {'Error: no playground "lab"'}
    monkeypatch.setenv("PYSWARM_PLAYGROUND", "env")
    assert named() == {'Error: no playground "env"'}
    assert named("--name", "flag") == {'Error: no playground "flag"'}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_call_pyswarm(shell: str, pyswarm: Pyswarm) -> None:
    assert "_PYSWARM_COMPLETE" in pyswarm("completion", shell).out


def test_completion_knows_verbs_and_flags(tmp_path: Path) -> None:
    from click.shell_completion import ShellComplete

    complete = ShellComplete(root, {}, "pyswarm", "_PYSWARM_COMPLETE")
    verbs = [item.value for item in complete.get_completions(["service"], "sc")]
    assert verbs == ["scale"]
    flags = [item.value for item in complete.get_completions(["service", "create"], "--limit")]
    assert flags == ["--limit-cpu", "--limit-memory", "--limit-pids"]


def test_a_node_says_what_its_kernel_lacks() -> None:
    def told(*lacks: str) -> list[str]:
        description = NodeDescription(hostname="host1", lacks=lacks)
        node = Node(id=NodeId("n"), number=1, description=description)
        view = NodeView(node=node, leader=False, tasks=0, reserved=NodeResources())
        return [line for line in node_lines(view) if "lacks" in line]

    assert told() == []
    assert told("esp", "ipv6") == [" Kernel lacks:          esp, ipv6"]
