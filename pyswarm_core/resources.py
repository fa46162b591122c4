"""Resources of tasks and nodes, with Docker's names, units and defaults. PURE values."""

from pyswarm_core.model import Model


class WeightDevice(Model, frozen=True):
    """The share of one disk's time, 10 to 1000."""

    path: str
    weight: int


class ThrottleDevice(Model, frozen=True):
    """A limit of one disk, in bytes or operations a second."""

    path: str
    rate: int


class Limits(Model, frozen=True):
    """Limits that the kernel enforces; 0 and empty: none. They change in running containers."""

    nano_cpus: int = 0
    memory_bytes: int = 0
    pids: int = 0
    cpu_shares: int = 0
    """The weight among containers that compete for a CPU; 0: 1024."""
    cpu_period: int = 0
    """Microseconds in which `cpu_quota` may be used; 0: 100,000."""
    cpu_quota: int = 0
    """Microseconds of CPU time in every period. `nano_cpus` is the same limit."""
    cpuset_cpus: str = ""
    """The CPUs to run on: `0-2,7`."""
    cpuset_mems: str = ""
    """The NUMA nodes to take memory from."""
    memory_reservation: int = 0
    """Memory that the kernel takes from others first, in bytes."""
    blkio_weight: int = 0
    """The share of all disks' time, 10 to 1000."""
    blkio_weight_device: tuple[WeightDevice, ...] = ()
    blkio_device_read_bps: tuple[ThrottleDevice, ...] = ()
    blkio_device_write_bps: tuple[ThrottleDevice, ...] = ()
    blkio_device_read_iops: tuple[ThrottleDevice, ...] = ()
    blkio_device_write_iops: tuple[ThrottleDevice, ...] = ()
    net_egress: int = 0
    """Bits a second that the task may send on each of its interfaces."""
    net_ingress: int = 0
    """Bits a second that it may receive on each of its interfaces."""


class DiscreteResource(Model, frozen=True, kw_only=True):
    """A number of resources of a kind that users define."""

    kind: str
    value: int


class NamedResource(Model, frozen=True, kw_only=True):
    """One resource of a kind that is a set: a task has it alone."""

    kind: str
    value: str


class GenericResource(Model, frozen=True, kw_only=True):
    """Resources that users define, as in Docker; one of the two is set."""

    discrete_resource_spec: DiscreteResource | None = None
    named_resource_spec: NamedResource | None = None


class Reservations(Model, frozen=True):
    """Resources that the scheduler reserves on a node."""

    nano_cpus: int = 0
    memory_bytes: int = 0
    generic_resources: tuple[GenericResource, ...] = ()
    """Numbers of kinds; a task's agent chooses the names."""


class Resources(Model, frozen=True):
    """Limits and reservations of one task."""

    limits: Limits = Limits()
    reservations: Reservations = Reservations()
    swap_bytes: int = 0
    """Swap beyond memory; -1 unlimited, 0 as much again as memory (Docker's default)."""
    memory_swappiness: int = -1
    """0..100; -1 leaves the kernel's default."""
    oom_kill_disable: bool = False
    """A process that reaches the memory limit waits; only cgroup v1 can do this."""


class NodeResources(Model, frozen=True):
    """The resources of a node."""

    nano_cpus: int = 0
    memory_bytes: int = 0
    generic_resources: tuple[GenericResource, ...] = ()
