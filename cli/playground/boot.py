"""Starts and stops playgrounds and their hosts, in the order that this requires. SHELL."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from cli import daemons
from cli.context import store
from cli.context.model import Context
from cli.errors import NotConverged
from cli.playground import cgroups, disks, fleet, power, ready, wires
from cli.playground.fleet import Fleet, Host
from pyswarm_core.aio.trees import remove_tree
from pyswarm_core.errors import AlreadyExists, InvalidArgument, PyswarmError, Unavailable

Report = Callable[[str], None]


def up(plan: Fleet, report: Report) -> None:
    """Start the playground. Raises AlreadyExists. After a failure nothing of it remains."""
    if plan.name in fleet.names():
        raise AlreadyExists(
            f"playground {plan.name} is already up:"
            f" run `pyswarm playground down --name {plan.name}`"
        )
    try:
        _up(plan, report)
    except BaseException:
        down(plan, lambda _: None)
        raise


def _up(plan: Fleet, report: Report) -> None:
    fleet.save(plan)
    cgroups.mount_all()
    disks.mount_run(plan)
    report("starting underlay")
    wires.lay_underlay(plan)
    for host in plan.hosts:
        disks.make_disk(plan, host)
        power.switch_on(plan, host)
    report(f"starting controller and etcd on {plan.hosts[0].name}")
    daemons.start(power.controller(plan))
    ready.wait_for_socket(plan)
    token = ready.worker_token(plan)
    for host in plan.hosts:
        report(f"starting agent on {host.name} ({host.address})")
        daemons.start(power.agent(plan, host, token))
    report("waiting for all hosts to be ready")
    for host in plan.hosts:
        if missing := ready.wait_for_host(plan, host, report):
            raise PyswarmError(f"{host.name} is not ready: {missing}\n{ready.log_tail(host)}")
    store.activate(
        Context(
            name=plan.name,
            host=f"unix://{plan.socket}",
            playground=plan.name,
        )
    )


def down(plan: Fleet, report: Report) -> None:
    """Remove the playground: its processes, mounts, namespaces, cgroups and files."""
    for host in plan.hosts:
        report(f"stopping {host.name}")
        power.cut_power(host)
    wires.remove(plan.lan)
    disks.unmount(plan.state_dir)
    disks.unmount(plan.run_dir)
    cgroups.remove(plan.cgroup)
    for directory in (plan.state_dir, plan.run_dir):
        with suppress(OSError):
            remove_tree(directory)
    store.leave(f"unix://{plan.socket}")


def kill(plan: Fleet, host: Host) -> Fleet:
    """Cut the host's power. Raises InvalidArgument if it has none."""
    if host.name in plan.killed:
        raise InvalidArgument(f"{host.name} has no power: it was killed before")
    # First, because its kernel would answer while its processes are being killed.
    wires.disconnect(plan, host)
    power.cut_power(host)
    return _saved(plan, killed=(*plan.killed, host.name), cut=_without(plan.cut, host))


def cut(plan: Fleet, host: Host) -> Fleet:
    """Disconnect the host from the underlay; its containers keep running."""
    if host.name in plan.killed:
        raise InvalidArgument(
            f"{host.name} has no power: run `pyswarm playground heal {host.name}`"
        )
    wires.set_cable(plan, host, plugged=False)
    return _saved(plan, cut=(*_without(plan.cut, host), host.name))


def heal(plan: Fleet, host: Host) -> Fleet:
    """Undo `kill` and `cut`, without waiting. A killed host boots with its disk as it was."""
    if host.name in plan.killed:
        power.cut_power(host)  # a heal that was interrupted leaves a part
        power.switch_on(plan, host)
        if host.number == 1:
            daemons.start(power.controller(plan))
        daemons.start(power.agent(plan, host, ""))
    elif host.name in plan.cut:
        wires.set_cable(plan, host, plugged=True)
    return _saved(plan, killed=_without(plan.killed, host), cut=_without(plan.cut, host))


def wait_until_ready(plan: Fleet, host: Host, report: Report) -> None:
    """Return once a healed host is ready. Raises NotConverged, with what to do next."""
    first = plan.hosts[0]
    if host != first and first.name in (*plan.killed, *plan.cut):
        raise NotConverged(
            f"{host.name} cannot be ready without {first.name}, which runs the controller:"
            f" run `pyswarm playground heal --name {plan.name} {first.name}`"
        )
    try:
        missing = ready.wait_for_host(plan, host, report)
    except KeyboardInterrupt:
        raise NotConverged(
            f"no longer waiting: {host.name} continues to start, `pyswarm node ls` shows its state"
        ) from None
    if missing:
        raise NotConverged(
            f"{host.name} is not ready after {ready.READY_TIMEOUT_S:g} s: {missing};"
            f" see `pyswarm node ls` and {ready.log_file(host)}"
        )


def state_of(plan: Fleet, host: Host) -> str:
    """`up`, `cut`, `killed` or `agent down`; of a playground whose run directory is not mounted
    here, what its cgroups say.
    """
    if host.name in plan.killed:
        return "killed"
    if not plan.is_here:
        return "in other namespaces" if cgroups.is_populated(host.cgroup) else "not running"
    if not daemons.daemon_pids(Path(host.run_dir) / "agent.pid"):
        return "agent down"
    return "cut" if host.name in plan.cut else "up"


def require_here(plan: Fleet) -> None:
    """Raise Unavailable unless this mount namespace has the playground's run directory."""
    if plan.is_here:
        return
    if cgroups.is_populated(plan.cgroup):
        raise Unavailable(
            f"playground {plan.name} runs in other network and mount namespaces: run this command"
            " where `pyswarm playground up` ran"
        )
    raise Unavailable(
        f"playground {plan.name} does not run, as after a restart of the machine:"
        f" `pyswarm playground down --name {plan.name}` removes it"
    )


def _without(names: tuple[str, ...], host: Host) -> tuple[str, ...]:
    return tuple(name for name in names if name != host.name)


def _saved(plan: Fleet, **changes: tuple[str, ...]) -> Fleet:
    changed = msgspec.structs.replace(plan, **changes)
    fleet.save(changed)
    return changed
