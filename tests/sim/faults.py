"""What goes wrong, and when. Each class of faults draws from a stream of its own.

All faults end when the unrest ends: `heal` brings back everything that can come back.
"""

from collections.abc import Callable

from controller.store.base import Committed, Txn
from pyswarm_core.clock import MILLISECOND, SECOND
from tests.sim.clock import Scheduler
from tests.sim.controllers import KEYS, Machine
from tests.sim.hosts import Host
from tests.sim.marks import Marks
from tests.sim.net import Net
from tests.sim.options import Options
from tests.sim.rand import Chance, Seed
from tests.sim.store import NAME as ETCD
from tests.sim.store import Etcd

KILL_AFTER_COMMIT = 0.02


class Faults:
    """The unrest."""

    def __init__(
        self, scheduler: Scheduler, seed: Seed, options: Options, marks: Marks, etcd: Etcd, net: Net
    ) -> None:
        self._scheduler = scheduler
        self._seed = seed
        self._options = options
        self._marks = marks
        self._etcd = etcd
        self._net = net
        self._over = False
        self._commit_chance = seed.stream("faults/commit")
        self.machines: list[Machine] = []
        self.hosts: list[Host] = []
        self.tell: Callable[[str, str], None] = lambda subject, text: None

    def begin(self) -> None:
        """From now on things go wrong."""
        options = self._options
        self._often("controller kill", options.controller_kill_every_s, self._kill_controller)
        self._often("controller stall", options.controller_stall_every_s, self._stall_controller)
        self._often("agent kill", options.agent_kill_every_s, self._kill_agent)
        self._often("agent stall", options.agent_stall_every_s, self._stall_agent)
        self._often("power", options.power_loss_every_s, self._power)
        self._often("host loss", options.host_loss_every_s, self._lose_host)
        self._often("cut", options.cut_every_s, self._cut)
        self._often("clog", options.clog_every_s, self._clog)
        self._often("etcd", options.etcd_restart_every_s, self._restart_etcd)
        self._often("compact", options.compact_every_s, self._compact)
        if options.controller_loss:
            chance = self._seed.stream("faults/controller loss")
            self._later(chance.duration(0, options.seconds * 1000), self._lose_controller)
        self._often("disk", options.full_disk_every_s, self._fill_disk)
        self._often("container", options.container_death_every_s, self._kill_container)

    def heal(self) -> None:
        """Nothing goes wrong any more."""
        self._over = True
        self._net.heal_all()
        self._etcd.restart()
        for machine in self.machines:
            machine.boot()
        for host in self.hosts:
            host.images.is_full = False
            host.boot()

    def committed(self, machine: Machine | None, txn: Txn, outcome: object) -> None:
        """A transaction was applied: its writer may die before it hears of it."""
        if machine is None or self._over or not isinstance(outcome, Committed):
            return
        if not self._options.controller_kill_every_s or not machine.up:
            return
        leading = all(put.key != KEYS.leader for put in txn.puts)
        if leading and self._commit_chance.hits(KILL_AFTER_COMMIT):
            self._marks.hit("leader killed between commit and reply")
            self._kill(machine, self._commit_chance)

    def _often(self, name: str, mean_s: float, act: Callable[[Chance], None]) -> None:
        if not mean_s:
            return
        chance = self._seed.stream(f"faults/{name}")

        def strike() -> None:
            if not self._over:
                act(chance)
                self._scheduler.after(chance.exponential(mean_s * 1000), strike)

        self._scheduler.after(chance.exponential(mean_s * 1000), strike)

    def _later(self, delay: int, event: Callable[[], None]) -> None:
        self._scheduler.after(delay, event)

    def _kill_controller(self, chance: Chance) -> None:
        self._kill(self._likely_leader(chance), chance)

    def _kill(self, machine: Machine, chance: Chance) -> None:
        if machine.up:
            self.tell(machine.name, "killed")
            machine.kill()
            self._later(chance.duration(50, 6000), machine.boot)

    def _lose_controller(self) -> None:
        alive = [machine for machine in self.machines if not machine.lost]
        if not self._over and len(alive) > 1:
            self._marks.hit("controller lost for good")
            self.tell(alive[0].name, "lost for good")
            alive[0].lose_for_good()

    def _stall_controller(self, chance: Chance) -> None:
        machine = self._likely_leader(chance)
        if machine.process is not None and machine.up:
            duration = chance.duration(200, 8000)
            self.tell(machine.name, f"stalled for {duration / SECOND:.2f} s")
            machine.process.stall(duration)

    def _likely_leader(self, chance: Chance) -> Machine:
        leading = [machine for machine in self.machines if machine.loop is not None]
        return chance.choice(leading if leading and chance.hits(0.8) else self.machines)

    def _kill_agent(self, chance: Chance) -> None:
        host = chance.choice(self.hosts)
        if host.up:
            self._mark_agent(host)
            self.tell(host.name, "agent killed")
            host.kill_agent()
            self._later(chance.duration(20, 5000), lambda: self._boot(host))

    def _stall_agent(self, chance: Chance) -> None:
        host = chance.choice(self.hosts)
        if host.process is not None and host.up and not host.process.stalled:
            duration = chance.duration(200, 12000)
            self._marks.hit("agent stalled")
            self.tell(host.name, f"agent stalled for {duration / SECOND:.2f} s")
            host.process.stall(duration)

    def _fill_disk(self, chance: Chance) -> None:
        host = chance.choice(self.hosts)
        if not host.images.is_full:
            self._marks.hit("disk of images full")
            self.tell(host.name, "the disk of its images is full")
            host.images.is_full = True
            self._later(chance.duration(1000, 30_000), lambda: self._empty_disk(host))

    def _empty_disk(self, host: Host) -> None:
        host.images.is_full = False

    def _boot(self, host: Host) -> None:
        if host.powered and not host.lost:
            host.boot()

    def _mark_agent(self, host: Host) -> None:
        self._marks.hit("agent killed")
        if host.preparing:
            self._marks.hit("agent killed while preparing")

    def _power(self, chance: Chance) -> None:
        host = chance.choice(self.hosts)
        if host.powered and not host.lost:
            self._marks.hit("host lost power")
            self.tell(host.name, "lost power")
            host.lose_power()
            self._later(chance.duration(500, 25000), host.boot)

    def _lose_host(self, chance: Chance) -> None:
        alive = [host for host in self.hosts if not host.lost]
        if len(alive) > 1:
            host = chance.choice(alive)
            self._marks.hit("host lost for good")
            self.tell(host.name, "lost for good")
            host.lose_for_good()

    def _cut(self, chance: Chance) -> None:
        names = [m.name for m in self.machines] + [h.name for h in self.hosts] + [ETCD]
        if chance.hits(0.5):
            one = chance.choice(names)
            others = [name for name in names if name != one]
        else:
            one, other = chance.sample(names, 2)
            others = [other]
        ways = chance.choice(("both", "out", "in"))
        duration = chance.duration(200, 15000)
        self.tell(one, f"cut {ways} from {' '.join(others)} for {duration / SECOND:.2f} s")
        pairs = [(one, other) for other in others if ways in ("both", "out")]
        pairs += [(other, one) for other in others if ways in ("both", "in")]
        for pair in pairs:
            self._net.cut(*pair)
            # Healed link by link, in any order.
            self._later(
                duration + chance.duration(0, 2000),
                lambda pair=pair: self._net.heal(*pair),  # type: ignore[misc]
            )

    def _clog(self, chance: Chance) -> None:
        machine = self._likely_leader(chance)
        far = chance.choice([h.name for h in self.hosts] + [ETCD])
        pair = (machine.name, far) if chance.hits(0.5) else (far, machine.name)
        duration = chance.duration(100, 6000)
        self.tell(pair[0], f"clogged towards {pair[1]} for {duration / MILLISECOND:.0f} ms")
        self._net.clog(*pair, duration)

    def _restart_etcd(self, chance: Chance) -> None:
        if self._etcd.up:
            self.tell(ETCD, "stopped")
            self._etcd.stop()
            self._later(chance.duration(100, 9000), self._etcd.restart)

    def _compact(self, chance: Chance) -> None:
        self._marks.hit("history compacted")
        self._etcd.compact()

    def _kill_container(self, chance: Chance) -> None:
        host = chance.choice(self.hosts)
        running = [c for c in host.engine.containers.values() if c.running]
        if running:
            container = chance.choice(running)
            code = chance.choice((0, 1, 137, 139))
            self.tell(host.name, f"container {container.id[:6]} ends with {code}")
            host.engine.end(container, code)
