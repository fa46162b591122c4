"""The daemons of a playground's hosts, and power on and off. SHELL."""

from contextlib import suppress
from pathlib import Path

from cli import daemons
from cli.daemons import Daemon
from cli.playground import cgroups, disks, wires
from cli.playground.fleet import GATEWAY, Fleet, Host
from cli.swarm import joining
from pyswarm_core.aio.trees import remove_tree
from pyswarm_core.limits import (
    AGENT_HEALTH_PORT,
    AGENT_METRICS_PORT,
    API_PORT,
    CONTROLLER_HEALTH_PORT,
    CONTROLLER_METRICS_PORT,
)


def controller(fleet: Fleet) -> Daemon:
    """The controller, with its own etcd, on the first host."""
    host = fleet.hosts[0]
    return Daemon(
        name="controller",
        module="controller",
        arguments=(
            f"--state-dir={host.state_dir}/controller",
            f"--listen=0.0.0.0:{API_PORT}",
            f"--listen=unix://{fleet.socket}",
            f"--advertise-addr={host.address}:{API_PORT}",
            f"--metrics-addr={host.address}:{CONTROLLER_METRICS_PORT}",
            f"--health-addr={host.address}:{CONTROLLER_HEALTH_PORT}",
            f"--name={host.name}",
        ),
        directory=host.run_dir,
        netns=host.netns_path,
        mountns=host.mountns_path,
        cgroup_procs=cgroups.make(f"{host.cgroup}/daemons"),
        nice=daemons.CONTROLLER_NICE,
    )


def agent(fleet: Fleet, host: Host, token: str) -> Daemon:
    """A host's agent, with the resources that the playground gives each host. It reads the token
    from a file of its disk; without a token, one that the file still has.
    """
    token_file = host.state_dir / "join-token"
    if token:
        joining.write_token(token_file, token)
    size = [f"--cpus={fleet.cpus}"] if fleet.cpus else []
    size += [f"--memory={fleet.memory}"] if fleet.memory else []
    if not fleet.disk:  # how full the machine's own disk is does not concern its hosts
        size += ["--image-gc-high=100", "--image-gc-low=100"]
    return Daemon(
        name="agent",
        module="agent",
        arguments=(
            f"--state-dir={host.state_dir}",
            f"--run-dir={host.run_dir}",
            f"--controller={fleet.hosts[0].address}:{API_PORT}",
            f"--join-token-file={token_file}",
            f"--hostname={host.name}",
            f"--advertise-addr={host.address}",
            f"--cgroup-parent={host.cgroup}/containers",
            f"--insecure-registry={GATEWAY}",
            f"--metrics-addr={host.address}:{AGENT_METRICS_PORT}",
            f"--health-addr={host.address}:{AGENT_HEALTH_PORT}",
            *size,
        ),
        directory=host.run_dir,
        netns=host.netns_path,
        mountns=host.mountns_path,
        cgroup_procs=cgroups.make(f"{host.cgroup}/daemons"),
    )


def switch_on(fleet: Fleet, host: Host) -> None:
    """Create the host's namespaces; does not start its daemons."""
    wires.connect(fleet, host)
    disks.make_namespace(fleet, host)


def cut_power(host: Host) -> None:
    """Remove the host's processes, mounts, namespaces and /run. Its disk is kept."""
    cgroups.kill_all(host.cgroup)
    wires.remove(host.netns)
    disks.unmount(host.run_dir)
    cgroups.remove(host.cgroup)
    with suppress(OSError):
        remove_tree(Path(host.run_dir))
