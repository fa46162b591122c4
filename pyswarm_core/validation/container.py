"""Validation of container specs. PURE.

Bounds are those of Docker and the kernel: the runtime accepts what passes here.
"""

import re
from collections.abc import Iterable, Sequence

from pyswarm_core.docker.logdrivers import DRIVERS, driver_of, read_option
from pyswarm_core.docker.reference import parse_reference
from pyswarm_core.docker.units import INT64_MAX
from pyswarm_core.errors import InvalidArgument, similar
from pyswarm_core.specs import ContainerSpec, LogDriver, Ulimit
from pyswarm_core.validation import text
from pyswarm_core.validation.endpoint import dns_problems, hosts_problems
from pyswarm_core.validation.problem import Problem
from pyswarm_core.validation.ranges import range_problems
from pyswarm_core.validation.resources import annotation_problems, mac_problems

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
SIGNAL_MAX = 64
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
    yield from text.env_problems(spec.env, removes=True)
    yield from text.directory_problems("--workdir", spec.dir)
    yield from text.user_problems(spec.user, spec.groups)
    yield from text.hostname_problems("--hostname", spec.hostname)
    if spec.stop_signal:
        yield from signal_problems("--stop-signal", spec.stop_signal)
    yield from range_problems("--stop-grace-period", spec.stop_grace_period)
    yield from _capability_problems("--cap-add", spec.capability_add)
    yield from _capability_problems("--cap-drop", spec.capability_drop)
    for key, value in spec.sysctls.items():
        yield from _sysctl_problems(key, value)
    yield from _ulimit_problems(spec.ulimits)
    yield from range_problems("--oom-score-adj", spec.oom_score_adj)
    yield from hosts_problems(spec.hosts)
    yield from dns_problems(spec.dns_config)
    yield from annotation_problems(spec.annotations)
    yield from mac_problems("--mac-address", spec.mac_address)


def _image_problems(image: str) -> Iterable[Problem]:
    try:
        parse_reference(image)
    except InvalidArgument as error:
        yield Problem("image", image, error.reason)


def signal_problems(field: str, name: str) -> Iterable[Problem]:
    """It is the name of a signal (SIGHUP, hup, RTMIN+3) or its number."""
    word = name.upper().removeprefix("SIG")
    if not (
        word in SIGNALS or _REALTIME_SIGNAL.fullmatch(word) or _NUMBERED_SIGNAL.fullmatch(name)
    ):
        expected = f"expected a signal such as SIGHUP, or a number of 1 to {SIGNAL_MAX}"
        yield Problem(field, name, expected)


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
        hard = f":{ulimit.hard}" if ulimit.hard != ulimit.soft else ""
        entry = f"{ulimit.name}={ulimit.soft}{hard}"
        if ulimit.name not in ULIMITS:
            yield Problem("--ulimit", entry, f"expected one of {', '.join(sorted(ULIMITS))}")
        elif not all(-1 <= limit <= INT64_MAX for limit in (ulimit.soft, ulimit.hard)):
            yield Problem("--ulimit", entry, f"expected -1 for unlimited, or 0 to {INT64_MAX}")
        elif ulimit.hard != -1 and not -1 < ulimit.soft <= ulimit.hard:
            yield Problem("--ulimit", entry, "expected a soft limit of at most the hard one")


def log_driver_problems(driver: LogDriver) -> Iterable[Problem]:
    """The driver is one of pyswarm's, and has these options with these values."""
    name = driver_of(driver)
    if name not in DRIVERS:
        words = f"{', '.join(DRIVERS[:-1])} or {DRIVERS[-1]}"
        yield Problem("--log-driver", name, f"expected {words}{similar(name, DRIVERS)}")
        return
    for key, value in driver.options.items():
        shown = f"{key}={value}"
        if not text.is_text(value):
            yield Problem("--log-opt", shown, "expected no control characters")
            continue
        try:
            read_option(name, key, value)
        except InvalidArgument as error:
            yield Problem("--log-opt", shown, error.reason)
