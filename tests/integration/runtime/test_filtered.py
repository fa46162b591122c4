"""System calls of real containers: each that Docker denies is tried, also with each capability.

The container runs this machine's Python, mounted from the host, because the calls need exact
arguments: ones that the kernel, if asked, answers with another error than the filter's.
"""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest

from agent.tasks.isolation import seccomp_rules as rules
from tests.fixtures.runtime_contract import exit_of
from tests.integration.runtime.conftest import RealWorld
from tests.integration.runtime.test_containers import lines

FILTERED = (errno.EPERM, errno.ENOSYS)
BAD = -1
NEWUSER, SIGCHLD = 0x10000000, 17
HIGH = 1 << 32

Calls = dict[str, tuple[int, int, tuple[int, ...]]]
# name: (x86_64's number, aarch64's number, arguments). Since Linux 5.1 all machines share numbers.
CALLS: Calls = {
    "mount": (165, 40, (0, 0, 0, 0, 0)),
    "umount2": (166, 39, (0, BAD)),
    "unshare": (272, 97, (0,)),
    "setns": (308, 268, (BAD, 0)),
    "clone3": (435, 435, (0, 0)),
    "open_tree": (428, 428, (BAD, 0, 0)),
    "mount_setattr": (442, 442, (BAD, 0, BAD, 0, 0)),
    "fsconfig": (431, 431, (BAD, BAD, 0, 0, 0)),
    "clone": (56, 220, (NEWUSER | SIGCHLD, 0, 0, 0, 0)),
    "pidfd_getfd": (438, 438, (BAD, BAD, BAD)),
    "kcmp": (312, 272, (BAD, BAD, 99, 0, 0)),
    "process_madvise": (440, 440, (BAD, 0, 0, 0, BAD)),
    "get_mempolicy": (239, 236, (0, 0, 0, 0, BAD)),
    "mbind": (237, 235, (1, 1, 99, 0, 0, BAD)),
    "set_mempolicy": (238, 237, (99, 0, 0)),
    "perf_event_open": (298, 241, (0, 0, 0, 0, 0)),
    "bpf": (321, 280, (BAD, 0, 0)),
    "syslog": (103, 116, (99, 0, 0)),
    "open_by_handle_at": (304, 265, (BAD, 0, 0)),
    "reboot": (169, 142, (0, 0, 0, 0)),
    "chroot": (161, 51, (0,)),
    "delete_module": (176, 106, (0, 0)),
    "acct": (163, 89, (1,)),
    "settimeofday": (164, 170, (1, 0)),
    "vhangup": (153, 58, ()),
    "keyctl": (250, 219, (BAD, 0, 0, 0, 0)),
    "add_key": (248, 217, (0, 0, 0, 0, 0)),
    "userfaultfd": (323, 282, (BAD,)),
    "io_uring_setup": (425, 425, (0, 0)),
    "pivot_root": (155, 41, (0, 0)),
    "swapon": (167, 224, (0, 0)),
    "vsock": (41, 198, (40, 1, 0)),
    "vsock in high bits": (41, 198, (HIGH | 40, 1, 0)),
    "alg": (41, 198, (38, 5, 0)),
}
ONLY_X86: Calls = {"iopl": (172, 0, (99,))}
GOOD: Calls = {
    "getpid": (39, 172, ()),
    "inet socket": (41, 198, (2, 1, 0)),
    "personality": (135, 92, (0xFFFFFFFF,)),
    "clone": (56, 220, (SIGCHLD, 0, 0, 0, 0)),
    "unknown to everybody": (9999, 9999, ()),
}

PROGRAM = """
import ctypes, json, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
found = {}
for name, number, arguments in json.loads(sys.argv[1]):
    ctypes.set_errno(0)
    parent = os.getpid()
    made = libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, arguments))
    if os.getpid() != parent or name == "clone" and made == 0:
        os._exit(0)
    found[name] = ctypes.get_errno() if made == -1 else 0
print(json.dumps(found))
"""


def _host_python() -> tuple[str, tuple[dict[str, Any], ...]]:
    """The interpreter's path, and mounts that bring it and its libraries into a container."""
    program = os.path.realpath(sys.executable)
    paths = ("/usr", "/lib", "/lib64", str(Path(program).parent.parent))
    places = [place for place in dict.fromkeys(paths) if Path(place).is_dir()]
    kept = [place for place in places if place == "/usr" or not place.startswith("/usr/")]
    return program, tuple(
        {"destination": place, "type": "bind", "source": place, "options": ["rbind", "ro"]}
        for place in kept
    )


def _words(world: RealWorld, program: str, calls: Calls) -> tuple[str, ...]:
    which = 0 if world.host.facts.machine == "x86_64" else 1
    called = [(name, call[which], call[2]) for name, call in calls.items()]
    return (program, "-S", "-E", "-c", PROGRAM, json.dumps(called))


def unfiltered(world: RealWorld, calls: Calls) -> dict[str, int]:
    """What the kernel itself answers root; a session of its own has no terminal to hang up."""
    words = _words(world, sys.executable, calls)
    done = subprocess.run(words, stdout=subprocess.PIPE, start_new_session=True, check=True)
    return dict(json.loads(done.stdout))


async def errors(world: RealWorld, calls: Calls, **spec: Any) -> dict[str, int]:
    """What each call answered in a container: an error number, or 0."""
    program, mounts = _host_python()
    words = _words(world, program, calls)
    config = world.custom("a1", words, **spec)
    cast("list[dict[str, Any]]", config.oci["mounts"]).extend(mounts)
    await world.runtime.create(config)
    await world.runtime.start("a1")
    await exit_of(world.runtime, "a1")
    said = [line.text.decode() for line in await lines(world, "a1")]
    await world.runtime.remove("a1", keep_logs=False)
    return dict(json.loads(said[-1]))


def _calls(world: RealWorld) -> Calls:
    return {**CALLS, **(ONLY_X86 if world.host.facts.machine == "x86_64" else {})}


async def test_a_default_container_is_denied_what_dockers_is(world: RealWorld) -> None:
    found = await errors(world, _calls(world))
    allowed = {name for name, error in found.items() if error not in FILTERED}
    assert allowed == {"chroot"}  # CAP_SYS_CHROOT is one of Docker's defaults
    assert found["clone3"] == errno.ENOSYS


async def test_the_rest_works(world: RealWorld) -> None:
    found = await errors(world, GOOD)
    assert found == {**dict.fromkeys(GOOD, 0), "unknown to everybody": errno.ENOSYS}


@pytest.mark.parametrize("capability", rules.WITH_CAPABILITY)
async def test_a_capability_opens_its_calls_and_no_others(
    world: RealWorld, capability: str
) -> None:
    calls = _calls(world)
    kernels = unfiltered(world, calls)
    # Where the kernel has no such call, or root may not either, its answer is the filter's.
    calls = {name: call for name, call in calls.items() if kernels[name] not in FILTERED}
    if capability == "CAP_SYS_ADMIN":
        del calls["syslog"]  # the filter lets it pass, the kernel wants CAP_SYSLOG
    opened = (rules.WITH_CAPABILITY[capability] | {"chroot"}) & calls.keys()
    found = await errors(world, calls, capability_add=(capability,))
    assert {name for name, error in found.items() if error not in FILTERED} == opened
