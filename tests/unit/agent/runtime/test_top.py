"""The output of ps as a table of one container's processes."""

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


@pytest.mark.parametrize("options", [("-o", "pid=x,args"), ("-opid=x",), ("-o", "args,pid =")])
def test_the_column_of_pids_keeps_its_name(options: tuple[str, ...]) -> None:
    with pytest.raises(InvalidArgument, match="PS_OPTIONS"):
        top({1}, options)


def test_the_options_are_those_of_ps() -> None:
    import os

    found = top({os.getpid()}, ("-o", "pid,ppid"))
    assert found == ProcessTable(
        titles=("PID", "PPID"), rows=((str(os.getpid()), str(os.getppid())),)
    )
    assert [row[1] for row in top({os.getpid()}, ()).rows] == [str(os.getpid())]
    assert [row[1] for row in top({os.getpid()}, ("aux",)).rows] == [str(os.getpid())]


def test_what_ps_refuses_is_the_users_error() -> None:
    with pytest.raises(InvalidArgument, match=r"PS_OPTIONS.*ps: "):
        top({1}, ("--nonsense",))
