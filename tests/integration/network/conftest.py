"""Selects the tests for the kernel that they run on: tests for another kind of kernel are not
applicable, and listed.

A kernel with IPsec's ESP proves that packets are encrypted; one without, that encrypted networks
are refused.
"""

import ctypes
import threading
from functools import cache

import pytest

from agent.network.encryption.kernel import Encryption
from agent.network.names import Names
from tests.fixtures import left_out

_CLONE_NEWNET = 0x40000000


@cache
def lacks_esp() -> str:
    """Why the kernel cannot encrypt; "" if it can. Tried in a namespace of its own."""
    answers: list[str] = []

    def work() -> None:
        assert ctypes.CDLL(None).unshare(_CLONE_NEWNET) == 0, "root is required"
        answers.append(Encryption(Names("tst")).lacks_esp())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return answers[0]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the tests for a kernel of the other kind."""
    others = []
    for item in items:
        marker = item.get_closest_marker("esp")
        if marker is not None and marker.args[0] is bool(lacks_esp()):
            why = lacks_esp() or "this host's kernel has IPsec ESP"
            left_out.note(item.nodeid, f"not applicable here: {why}")
            others.append(item)
    if others:
        items[:] = [item for item in items if item not in others]
        config.hook.pytest_deselected(items=others)
