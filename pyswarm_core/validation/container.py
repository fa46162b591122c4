"""Validation of container specs and resources. PURE.

Bounds are those of Docker and the kernel: the runtime accepts what passes here.
"""

import re
from collections.abc import Iterable, Sequence

from pyswarm_core.docker.reference import parse_reference
from pyswarm_core.docker.units import NANO_CPUS, format_cpus, human_size
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.limits import NODE_CPUS_MAX, NODE_MEMORY_MAX
from pyswarm_core.specs import ContainerSpec, Resources, Ulimit
from pyswarm_core.validation import text
from pyswarm_core.validation.durations import duration_problems
from pyswarm_core.validation.endpoint import dns_problems, hosts_problems
from pyswarm_core.validation.problem import Problem, within

LIMIT_CPUS_MIN = NANO_CPUS // 100
"""The kernel's smallest quota: 1 ms of every 100 ms."""
RESERVE_CPUS_MIN = NANO_CPUS // 1000
CPUS_MAX = NODE_CPUS_MAX * NANO_CPUS
LIMIT_MEMORY_MIN = 6 << 20
"""Docker's minimum: with less, a runtime cannot start the process."""
RESERVE_MEMORY_MIN = 4 << 20
"""Swarm's minimum."""
PIDS_MAX = 4_194_304
"""The kernel's PID_MAX_LIMIT."""

SIGNALS = frozenset(
    "HUP INT QUIT ILL TRAP ABRT IOT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT "
    "STOP TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO POLL PWR SYS RTMIN RTMAX".split()
)
CAPABILITIES = frozenset(
    "AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND BPF CHECKPOINT_RESTORE CHOWN DAC_OVERRIDE "
    "DAC_READ_SEARCH FOWNER FSETID IPC_LOCK IPC_OWNER KILL LEASE LINUX_IMMUTABLE MAC_ADMIN "
    "MAC_OVERRIDE MKNOD NET_ADMIN NET_BIND_SERVICE NET_BROADCAST NET_RAW PERFMON SETFCAP SETGID "
    "SETPCAP SETUID SYS_ADMIN SYS_BOOT SYS_CHROOT SYS_MODULE SYS_NICE SYS_PACCT SYS_PTRACE "
    "SYS_RAWIO SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG SYSLOG WAKE_ALARM".split()
)
ULIMITS = frozenset(
    "as core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending "
    "stack".split()
)
_REALTIME_SIGNAL = re.compile(r"RTM(?:IN\+|AX-)(?:[0-9]|[12][0-9])", re.ASCII)
_NUMBERED_SIGNAL = re.compile(r"[1-9]|[1-5][0-9]|6[0-4]", re.ASCII)
_SYSCTL = re.compile(r"(?:net|fs\.mqueue)(?:\.[A-Za-z0-9_*-]+)+")
_KERNEL_SYSCTL = re.compile(
    r"kernel\.(?:msgmax|msgmnb|msgmni|sem|shmall|shmmax|shmmni|shm_rmid_forced|domainname)"
)


def container_problems(spec: ContainerSpec) -> Iterable[Problem]:
    """The problems of a container spec."""
    yield from _image_problems(spec.image)
    yield from text.label_problems("--container-label", spec.labels)
    yield from text.argument_problems("--entrypoint", spec.command)
    yield from text.argument_problems("args", spec.args)
    yield from text.env_problems(spec.env)
    yield from text.directory_problems("--workdir", spec.dir)
    yield from text.user_problems(spec.user, spec.groups)
    yield from text.hostname_problems("--hostname", spec.hostname)
    yield from _signal_problems(spec.stop_signal)
    yield from duration_problems("--stop-grace-period", spec.stop_grace_period)
    yield from _capability_problems("--cap-add", spec.capability_add)
    yield from _capability_problems("--cap-drop", spec.capability_drop)
    for key, value in spec.sysctls.items():
        yield from _sysctl_problems(key, value)
    yield from _ulimit_problems(spec.ulimits)
    yield from within("--oom-score-adj", spec.oom_score_adj, -1000, 1000)
    yield from hosts_problems(spec.hosts)
    yield from dns_problems(spec.dns_config)


def resources_problems(resources: Resources) -> Iterable[Problem]:
    """The problems of limits and reservations."""
    limits, reservations = resources.limits, resources.reservations
    yield from _cpus_problems("--limit-cpu", limits.nano_cpus, LIMIT_CPUS_MIN)
    yield from _cpus_problems("--reserve-cpu", reservations.nano_cpus, RESERVE_CPUS_MIN)
    yield from _memory_problems("--limit-memory", limits.memory_bytes, LIMIT_MEMORY_MIN)
    yield from _memory_problems("--reserve-memory", reservations.memory_bytes, RESERVE_MEMORY_MIN)
    yield from within("--limit-pids", limits.pids, 0, PIDS_MAX)
    if not -1 <= resources.swap_bytes <= NODE_MEMORY_MAX:
        expected = f"expected at most {human_size(NODE_MEMORY_MAX)}, or -1 for unlimited"
        yield Problem("--memory-swap", resources.swap_bytes, expected)
    elif resources.swap_bytes and not limits.memory_bytes:
        yield Problem("--memory-swap", resources.swap_bytes, "expected --limit-memory as well")
    yield from within("--memory-swappiness", resources.memory_swappiness, -1, 100)


def _image_problems(image: str) -> Iterable[Problem]:
    try:
        parse_reference(image)
    except InvalidArgument as error:
        yield Problem("image", image, error.reason)


def is_signal(name: str) -> bool:
    """Whether it is the name of a signal (SIGHUP, hup, RTMIN+3) or its number."""
    word = name.upper().removeprefix("SIG")
    return bool(
        word in SIGNALS or _REALTIME_SIGNAL.fullmatch(word) or _NUMBERED_SIGNAL.fullmatch(name)
    )


def _signal_problems(name: str) -> Iterable[Problem]:
    if name and not is_signal(name):
        yield Problem("--stop-signal", name, "expected a signal such as SIGTERM, or its number")


def _capability_problems(field: str, names: Sequence[str]) -> Iterable[Problem]:
    for name in names:
        word = name.upper().removeprefix("CAP_")
        if word not in CAPABILITIES and word != "ALL":
            yield Problem(field, name, "expected a capability such as NET_ADMIN, or ALL")


def _sysctl_problems(key: str, value: str) -> Iterable[Problem]:
    if not (_SYSCTL.fullmatch(key) or _KERNEL_SYSCTL.fullmatch(key)):
        yield Problem(
            "--sysctl",
            key,
            "expected a namespaced one: net.*, fs.mqueue.*, kernel.sem…",
        )
    if not value or not value.replace("\t", " ").isprintable():
        yield Problem("--sysctl", f"{key}={value}", "expected a value on one line")


def _ulimit_problems(ulimits: Sequence[Ulimit]) -> Iterable[Problem]:
    for ulimit in ulimits:
        entry = f"{ulimit.name}={ulimit.soft}:{ulimit.hard}"
        if ulimit.name not in ULIMITS:
            yield Problem("--ulimit", entry, f"expected one of {', '.join(sorted(ULIMITS))}")
        elif ulimit.soft < -1 or ulimit.hard < -1:
            yield Problem("--ulimit", entry, "expected numbers, or -1 for unlimited")
        elif ulimit.hard != -1 and not -1 < ulimit.soft <= ulimit.hard:
            yield Problem("--ulimit", entry, "expected a soft limit of at most the hard one")


def _cpus_problems(field: str, nano_cpus: int, least: int) -> Iterable[Problem]:
    if nano_cpus != 0 and not least <= nano_cpus <= CPUS_MAX:
        expected = f"expected 0, or {format_cpus(least)} to {format_cpus(CPUS_MAX)}"
        yield Problem(field, format_cpus(nano_cpus), expected)


def _memory_problems(field: str, size: int, least: int) -> Iterable[Problem]:
    if size != 0 and not least <= size <= NODE_MEMORY_MAX:
        expected = f"expected 0, or {human_size(least)} to {human_size(NODE_MEMORY_MAX)}"
        yield Problem(field, size, expected)
