"""Every verb about a container, on one that does not exist: one error, one exit code."""

import pytest

from tests.e2e.acceptance.fleet import Fleet

VERBS = (
    ("attach", "{}"),
    ("container", "inspect", "{}"),
    ("cp", "{}:/etc/hosts", "-"),
    ("cp", "/etc/hostname", "{}:/tmp"),
    ("diff", "{}"),
    ("exec", "{}", "true"),
    ("export", "-o", "/dev/null", "{}"),
    ("inspect", "--type", "container", "{}"),
    ("kill", "{}"),
    ("logs", "{}"),
    ("pause", "{}"),
    ("port", "{}"),
    ("port-forward", "{}", "0:80"),
    ("rename", "{}", "other"),
    ("restart", "{}"),
    ("rm", "{}"),
    ("start", "{}"),
    ("start", "-a", "{}"),
    ("stats", "--no-stream", "{}"),
    ("stats", "{}"),
    ("stop", "{}"),
    ("top", "{}"),
    ("unpause", "{}"),
    ("update", "--memory", "64m", "{}"),
    ("wait", "{}"),
)


@pytest.mark.parametrize("words", VERBS, ids=" ".join)
def test_a_missing_container_is_named_as_docker_does(fleet: Fleet, words: tuple[str, ...]) -> None:
    for ref, shown in (("nosuch", "nosuch"), ("no\nsuch", '"no\\nsuch"')):
        done = fleet.run(*(word.format(ref) for word in words))
        expected = f"Error: No such container: {shown}: `pyswarm ps --all` lists all containers\n"
        out = "[]\n" if "inspect" in words else ""  # as Docker prints
        assert (done.code, done.out, done.err) == (1, out, expected)


def test_the_removal_of_a_missing_container_may_be_forced(fleet: Fleet) -> None:
    done = fleet.run("rm", "-f", "nosuch")
    assert (done.code, done.out) == (0, "")
    assert done.err.startswith("Error: No such container: nosuch: ")
