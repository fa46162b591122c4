"""Docker's default seccomp profile: the system calls that a container may make. PURE data.

As of moby's profiles in the summer of 2026. `ocispec_seccomp.py` makes the OCI section. An OCI
runtime ignores names that its libseccomp does not know.
"""

from collections.abc import Mapping
from types import MappingProxyType

ALWAYS = frozenset(
    """
    accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown
    chown32 clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime
    clock_gettime64 clock_nanosleep clock_nanosleep_time64 close close_range connect
    copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old
    epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit
    exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir
    fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr
    flistxattr flock fork fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64
    fsync ftruncate ftruncate64 futex futex_requeue futex_time64 futex_wait futex_waitv
    futex_wake futimesat get_robust_list get_thread_area getcpu getcwd getdents getdents64
    getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer
    getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid getresgid32
    getresuid getresuid32 getrlimit getrusage getsid getsockname getsockopt gettid
    gettimeofday getuid getuid32 getxattr getxattrat inotify_add_watch inotify_init
    inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents
    io_pgetevents_time64 io_setup io_submit ioctl ioprio_get ioprio_set ipc kill
    landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lchown32
    lgetxattr link linkat listen listmount listxattr listxattrat llistxattr _llseek
    lremovexattr lseek lsetxattr lstat lstat64 madvise map_shadow_stack membarrier
    memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap
    mmap2 mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64
    mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget msgrcv msgsnd
    msync munlock munlockall munmap name_to_handle_at nanosleep newfstatat _newselect open
    openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free
    pkey_mprotect poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64
    process_mrelease pselect6 pselect6_time64 pwrite64 pwritev pwritev2 read readahead
    readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg
    remap_file_pages removexattr removexattrat rename renameat renameat2 restart_syscall
    riscv_hwprobe rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo
    rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo
    sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr
    sched_getparam sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64
    sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp
    select semctl semget semop semtimedop semtimedop_time64 send sendfile sendfile64
    sendmmsg sendmsg sendto set_robust_list set_thread_area set_tid_address setfsgid
    setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setitimer setpgid
    setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid
    setreuid32 setrlimit setsid setsockopt setuid setuid32 setxattr setxattrat shmat shmctl
    shmdt shmget shutdown sigaltstack signalfd signalfd4 sigprocmask sigreturn socketcall
    socketpair splice stat stat64 statfs statfs64 statmount statx symlink symlinkat sync
    sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete
    timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64
    timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times
    tkill truncate truncate64 ugetrlimit umask uname unlink unlinkat uretprobe utime
    utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write writev
    """.split()
)
"""Allowed with any arguments."""

WITH_CAPABILITY: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        capability: frozenset(names.split())
        for capability, names in (
            (
                "CAP_SYS_ADMIN",
                "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie"
                " lsm_get_self_attr lsm_list_modules lsm_set_self_attr mount mount_setattr"
                " move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname"
                " sethostname setns syslog umount umount2 unshare",
            ),
            ("CAP_BPF", "bpf"),
            ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
            ("CAP_PERFMON", "perf_event_open"),
            ("CAP_SYSLOG", "syslog"),
            ("CAP_SYS_BOOT", "reboot"),
            ("CAP_SYS_CHROOT", "chroot"),
            ("CAP_SYS_MODULE", "delete_module finit_module init_module"),
            ("CAP_SYS_NICE", "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
            ("CAP_SYS_PACCT", "acct"),
            (
                "CAP_SYS_PTRACE",
                "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace",
            ),
            ("CAP_SYS_RAWIO", "ioperm iopl"),
            ("CAP_SYS_TIME", "clock_settime clock_settime64 settimeofday stime"),
            ("CAP_SYS_TTY_CONFIG", "vhangup"),
        )
    }
)
"""Allowed with the capability."""

ON_MACHINE: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        machine: frozenset(names.split())
        for machine, names in (
            ("x86_64", "arch_prctl modify_ldt"),
            (
                "aarch64",
                "arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls"
                " sync_file_range2",
            ),
            ("ppc64le", "swapcontext sync_file_range2"),
            ("riscv64", "riscv_flush_icache"),
            ("s390x", "s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr"),
        )
    }
)
"""Allowed on one architecture, by `uname -m`."""

PTRACE = frozenset({"process_vm_readv", "process_vm_writev", "ptrace"})
PTRACE_KERNEL = (4, 8)
"""On older kernels a traced process can escape its filter, so there these need CAP_SYS_PTRACE."""

NEVER = frozenset(
    """
    add_key afs_syscall bdflush break create_module file_getattr file_setattr ftime
    get_kernel_syms getpmsg gtty idle io_uring_enter io_uring_register io_uring_setup
    kexec_file_load kexec_load keyctl lock migrate_pages move_pages nfsservctl nice oldfstat
    oldlstat oldolduname oldstat olduname open_tree_attr pciconfig_iobase pciconfig_read
    pciconfig_write pivot_root prof profil putpmsg query_module readdir request_key security
    sgetmask sigaction signal sigpending sigsuspend ssetmask stty swapoff swapon syscall
    _sysctl sysfs tuxcall ulimit uselib userfaultfd ustat vm86 vm86old vserver
    """.split()
)
"""Known, and never allowed."""

PERSONALITIES = (0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)
"""Allowed values of `personality`: Linux, 32-bit Linux, both with an old uname, and the query."""

SOCKET_FAMILIES_BELOW = 12
SOCKET_FAMILIES = (
    13, 14, 15, 16, 17, 18, 21, 22, 24, 26, 27, 28, 29,
    30, 31, 32, 33, 35, 36, 39, 41, 42, 43, 44, 45,
)  # fmt: skip
"""Allowed families of `socket`: those below the number and these. The others, such as AF_VSOCK (40)
and AF_ALG (38), are denied.
"""

NAMESPACE_FLAGS = {
    "NEWNS": 0x00020000,
    "NEWCGROUP": 0x02000000,
    "NEWUTS": 0x04000000,
    "NEWIPC": 0x08000000,
    "NEWUSER": 0x10000000,
    "NEWPID": 0x20000000,
    "NEWNET": 0x40000000,
}
"""Flags of `clone` that need CAP_SYS_ADMIN. A filter cannot read the flags of `clone3`, which are
behind a pointer: without the capability `clone3` fails with ENOSYS, and programs use `clone`.
"""

ARCHITECTURES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "x86_64": ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"),
        "aarch64": ("SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"),
        "ppc64le": ("SCMP_ARCH_PPC64LE",),
        "riscv64": ("SCMP_ARCH_RISCV64",),
        "s390x": ("SCMP_ARCH_S390X", "SCMP_ARCH_S390"),
    }
)
"""The calling conventions of an architecture: its own, and those of older programs."""
