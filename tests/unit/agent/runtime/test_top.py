"""The output of ps as a table of one container's processes."""

import os

import pytest

from agent.runtime.base import ProcessTable
from agent.runtime.running.top import parse, top
from pyswarm_core.errors import InvalidArgument

OUTPUT = """UID          PID    PPID  C STIME TTY          TIME CMD
root           1       0  0 10:00 ?        00:00:01 /sbin/init splash
root          12       1  0 10:00 ?        00:00:00 nginx: master  process
www          120      12  0 10:00 ?        00:00:00 nginx: worker
"""


def test_only_processes_of_the_container_are_listed() -> None:
    found = parse(OUTPUT, {12, 120, 121})
    assert found.titles == ("UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD")
    assert [row[1] for row in found.rows] == ["12", "120"]
    assert found.rows[0][-1] == "nginx: master  process"


def test_a_table_without_pids_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="column PID"):
        parse("COMMAND\nsh\n", {1})


@pytest.mark.parametrize(
    "options",
    [
        ("-o", "pid=x,args"),
        ("-opid=x",),
        ("-o", "ignored=PID,args"),
        ("-o", "args,pid ="),
        ("-o", "%p %a"),
        ("-o",),
        ("--format=user=PID",),
        ("axo", "environ"),
    ],
)
def test_columns_have_no_headers_of_the_callers(options: tuple[str, ...]) -> None:
    with pytest.raises(InvalidArgument, match=r"PS_OPTIONS.*names of columns"):
        top({1}, options)


@pytest.mark.parametrize(
    "options",
    [
        *(("-ef", word, "1") for word in ("-p", "-q", "-C", "-G", "-U", "-g", "-s", "-t", "-u")),
        *((word,) for word in ("1", "-N", "--deselect", "--pid=1", "-p1", "axp1", "r", "T", "-")),
        *((word,) for word in ("auxe", "h", "--no-headers", "--ppid=1", "--", "", "-aux", "q1")),
    ],
)
def test_no_option_selects_processes(options: tuple[str, ...]) -> None:
    with pytest.raises(InvalidArgument, match=r"PS_OPTIONS.*options of the format"):
        top({1}, options)


def test_the_words_of_other_columns_are_not_taken_for_pids() -> None:
    # Two of three words of `lstart` are numbers, and any of them may be a pid of the container.
    with pytest.raises(InvalidArgument, match="column PID"):
        parse("STARTED USER PID COMMAND\nSun Nov 29 21:03:33 2026 root 77 secret\n", {29})
    other = os.getppid()
    found = top({os.getpid()}, ("-A", "-o", "lstart,user,pid,args"))
    assert len(found.rows) == 1
    assert found.titles == ("STARTED", "USER", "PID", "COMMAND")
    assert str(other) not in [word for row in found.rows for word in row]


def test_the_options_are_those_of_ps() -> None:
    pid, parent = str(os.getpid()), str(os.getppid())
    for options in (("-o", "pid,ppid"), ("-eopid,ppid",), ("axo", "pid,ppid", "--sort=-pid")):
        found = top({os.getpid()}, options)
        assert found == ProcessTable(titles=("PID", "PPID"), rows=((pid, parent),))
    assert top({os.getpid()}, ("-o", "ppid")).rows == ((parent,),)
    for words in ((), ("-ef",), ("aux",), ("auxww",), ("-e", "-l"), ("axjf",), ("u", "--forest")):
        rows = top({os.getpid()}, words).rows
        assert len(rows) == 1
        assert pid in rows[0]


def test_what_ps_refuses_is_the_users_error() -> None:
    with pytest.raises(InvalidArgument, match=r"PS_OPTIONS.*ps: ") as refused:
        top({1}, ("-o", "nonsense"))
    assert "Usage" not in str(refused.value)
