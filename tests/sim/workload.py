"""Users: they create, scale, change and remove services, networks and nodes, and remember answers.

They see what the store says when they begin to type, send to some controller, and may never hear
back. What was acknowledged must hold for ever after.
"""

from collections.abc import Awaitable, Callable
from ipaddress import IPv4Network
from typing import Any

from msgspec.structs import replace

from controller.api.changes.networks import create_network, remove_network
from controller.api.changes.nodes import remove_node, update_node
from controller.api.changes.services import (
    Rollback,
    Update,
    create_service,
    remove_service,
    rollback_service,
    update_service,
)
from controller.api.changes.tasks import restart_task
from controller.api.stacking.changes import Submit
from controller.leader.leadership import Leader, Mutation
from pyswarm_core import kinds
from pyswarm_core.clock import SECOND, Instant
from pyswarm_core.decision import Writes
from pyswarm_core.docker.generic_resources import reserved
from pyswarm_core.errors import PyswarmError
from pyswarm_core.ids import IdSource
from pyswarm_core.objects import Network, Node, Service, Task
from pyswarm_core.specs import (
    ContainerSpec,
    EndpointMode,
    EndpointSpec,
    GlobalMode,
    Limits,
    LogDriver,
    NetworkAttachment,
    NetworkSpec,
    Placement,
    PortConfig,
    PublishMode,
    RegistryLogin,
    ReplicatedMode,
    Reservations,
    Resources,
    RestartCondition,
    RestartPolicy,
    ServiceSpec,
    TaskSpec,
)
from pyswarm_core.state import State
from pyswarm_core.states import Availability, NodeState
from tests.sim.admins import Admins
from tests.sim.asked import Asked
from tests.sim.askers import USER, Askers
from tests.sim.behaviours import BAD, CHECKED, GOOD
from tests.sim.containers import ContainerUsers
from tests.sim.controllers import ALICE, Machine
from tests.sim.dependencies import DependencyUsers
from tests.sim.marks import Marks
from tests.sim.membership import is_free, stack_of
from tests.sim.net import Net
from tests.sim.options import Options
from tests.sim.payloads import PayloadUsers
from tests.sim.placement import CONSTRAINTS
from tests.sim.rand import Chance
from tests.sim.rollout_states import should_run
from tests.sim.rollouts import Rollouts
from tests.sim.specs import requested_return
from tests.sim.stacks import StackUsers
from tests.sim.upkeep import Upkeep
from tests.sim.view import View
from tests.sim.volumes import VolumeUsers

LOGIN = RegistryLogin(registry="registry.test", username="ann", password="right")
MIB = 1 << 20


class Users:
    """Everybody who types."""

    def __init__(self, chance: Chance, options: Options, net: Net, view: View) -> None:
        self.asked = Asked()
        self.machines: list[Machine] = []
        self.askers: Askers
        self.tell: Callable[[str, str], None] = lambda subject, text: None
        self.on_promise: Callable[[Service], None] = lambda service: None
        self.marks = Marks()
        self._chance = chance
        self._options = options
        self._net = net
        self._view = view
        self._names = 0
        self._rollouts = Rollouts(chance, checks=options.checks)
        reservations = options.reservations
        self._upkeep = Upkeep(self, chance, self._rollouts, reservations=reservations)
        self._admins = Admins(self, chance)
        self._containers = ContainerUsers(self, chance, view)
        self._volumes = VolumeUsers(self, chance, view)
        self._payloads = PayloadUsers(self, chance, view)
        most = 2 if options.small_transactions else options.services_max
        self._dependencies = DependencyUsers(self, chance, view, most)
        self._stacks = StackUsers(self, chance, view, options)

    def act(self) -> None:
        """Somebody does something."""
        acts = [self.create] * 2 + [self.scale] * 3 + [self.change_image] * 2
        acts += [self.change_limits, self.remove, self.change_users]
        if self._options.constraints:
            acts.append(self.change_placement)
        if self._options.networks:
            acts += [self.add_network, self.drop_network]
        if self._options.node_requests:
            acts += [self.change_node, self.change_node]
        if self._options.updates:
            acts += self._upkeep.acts()
        if self._options.containers:
            acts += self._containers.acts()
        if self._options.volumes:
            acts += self._volumes.acts()
        if self._options.dependencies:
            acts += self._dependencies.acts()
        self._chance.choice(acts)()
        if self._options.payloads:
            self._payloads.act()
        if self._options.stacks and self._chance.hits(0.5):
            self._stacks.act()

    # Services

    def create(self) -> None:
        """A new service."""
        if (spec := self.drawn_spec()) is not None:
            self.create_as(spec)

    def drawn_spec(self) -> ServiceSpec | None:
        """Some spec of a new service; None if there are enough of them."""
        alive = [s for s in self._view.services.values() if not s.removing]
        if len(alive) >= self._options.services_max:
            return None
        self._names += 1
        spec = self._spec(f"s{self._names}")
        if self._chance.hits(0.1) and alive and is_free(alive[0]):
            spec = replace(spec, name=alive[0].spec.name)
        if self._options.updates or self._options.checks:
            spec = self._rollouts.drawn(spec)
        if self._options.dependencies:
            spec = self._dependencies.drawn(spec, self._names)
        return spec

    def create_as(self, spec: ServiceSpec) -> None:
        """A service of this spec."""
        # Every other one, without a draw: seeds stay what they were.
        login = LOGIN if self._names % 2 else None
        self.remember(spec)
        self.send(
            f"create {spec.name}",
            lambda state, now, ids: create_service(state, spec, (), now, ids, login=login),
            self._promised,
        )

    def scale(self) -> None:
        """Another number of replicas."""
        service = self.some_service()
        if service is None or not isinstance(service.spec.mode, ReplicatedMode):
            return
        replicas = self._chance.randint(0, self._options.replicas_max)
        mode = ReplicatedMode(replicas=replicas)
        self.update(service, replace(service.spec, mode=mode), f"to {replicas}")

    def change_image(self) -> None:
        """Another template: tasks are replaced one by one."""
        service = self.some_service()
        if service is not None:
            template = service.spec.task_template
            image = self.image()
            container = replace(template.container_spec, image=image)
            spec = replace(service.spec, task_template=replace(template, container_spec=container))
            self.update(service, spec, f"image {image}")

    def change_limits(self) -> None:
        """Other limits: they change in running containers."""
        service = self.some_service()
        if service is not None:
            memory = self._chance.choice((0, 16, 64))
            limits = Limits(memory_bytes=memory * MIB, cpu_shares=memory, net_egress=memory * MIB)
            template = service.spec.task_template
            resources = replace(template.resources, limits=limits)
            spec = replace(service.spec, task_template=replace(template, resources=resources))
            self.update(service, spec, f"limits {limits.memory_bytes // MIB} MiB")

    def change_placement(self) -> None:
        """Other constraints."""
        service = self.some_service()
        if service is not None:
            template = replace(service.spec.task_template, placement=self._placement())
            self.update(service, replace(service.spec, task_template=template), "placement")

    def remove(self) -> None:
        """No service."""
        service = self.some_service()
        if service is not None:
            self.remove_named(service)

    def remove_named(self, service: Service) -> None:
        """Remove this one."""
        service_id = service.id
        self.asked.removals[service_id] = None

        def promised(answer: object) -> None:
            self.asked.promised_removals[service_id] = None
            self.marks.hit("service removed")

        self.send(
            f"remove {service.spec.name}",
            lambda state, now, ids: remove_service(state, service_id, now),
            promised,
        )

    def roll_back(self, service: Service, to: int) -> None:
        """Return to an earlier spec."""
        rollback = Rollback(service.id, None, to)

        def rolled(state: State, now: Instant, ids: IdSource) -> tuple[Writes, Service]:
            old = state.services.get(service.id)
            spec = requested_return(old, to) if old else None
            if spec is not None:
                self.remember(spec)
            return rollback_service(state, rollback, (), now, ids)

        self.send(f"roll {service.spec.name} back to {to}", rolled, self._promised)

    def restart_task(self, task: Task) -> None:
        """Another one in its slot."""
        self.send(
            f"restart task {task.id[:6]}",
            lambda state, now, ids: restart_task(state, task.id, now),
        )

    def tasks(self) -> list[Task]:
        """Those that should run."""
        return [task for task in self._view.tasks.values() if should_run(task)]

    def change_users(self) -> None:
        """Other users of the API."""
        self._admins.act(list(self._view.of(kinds.USER).values()))

    # Networks and nodes

    def add_network(self) -> None:
        """A new overlay."""
        if len(self._view.networks) < 3:
            self._names += 1
            kind = self._names % 4 if self._options.encryption else 0
            spec = NetworkSpec(
                name=f"net{self._names}", encrypted=kind in (1, 3), enable_ipv6=kind in (2, 3),
                block_metadata=self._names % 2 == 0,
            )  # fmt: skip
            self.send(
                f"create {spec.name}",
                lambda state, now, ids: create_network(state, spec, (), now, ids),
            )

    def drop_network(self) -> None:
        """Try to remove an overlay."""
        network = self._some_network()
        if network is not None and self._chance.hits(0.3):
            target = network.id
            self.send(
                f"remove {network.spec.name}", lambda state, now, ids: remove_network(state, target)
            )

    def change_node(self) -> None:
        """Drain, pause, activate or label a node."""
        node = self._some_node()
        if node is None:
            return
        if self._chance.hits(0.4):
            self.set_node(node, node.spec.availability, {"zone": self._chance.choice("ab")})
            return
        most = Availability.DRAIN if self._options.volumes else Availability.ACTIVE
        words = (Availability.ACTIVE, most, Availability.DRAIN, Availability.PAUSE)
        availability = self._chance.choice(words)
        drained = availability is Availability.DRAIN
        self.set_node(self._with_volume() or node if drained else node, availability)

    def set_node(
        self, node: Node, availability: Availability, labels: dict[str, str] | None = None
    ) -> None:
        """Ask for this."""
        spec = replace(node.spec, availability=availability, labels=labels or node.spec.labels)
        moves = availability is Availability.DRAIN and self._options.volumes and node.number % 4
        spec = replace(spec, move_volumes=bool(moves))
        if availability is Availability.DRAIN:
            self.marks.hit("node drained")
        if availability is Availability.PAUSE:
            self.marks.hit("node paused")
        self.send(
            f"node {node.description.hostname} {availability.value} {spec.labels}",
            lambda state, now, ids: update_node(state, node.id, node.version, spec, now),
        )

    def remove_node(self, node: Node) -> None:
        """Forget a node that is down."""
        if node.status.state is NodeState.DOWN:
            self.send(
                f"node rm {node.description.hostname}",
                lambda state, now, ids: remove_node(state, node.id, force=True),
            )

    # Inside

    def update(
        self, service: Service, spec: ServiceSpec, what: str, *, leader: bool = False
    ) -> None:
        """Replace the spec; with `leader` no controller is asked that does not lead."""
        self.remember(spec)
        update = Update(service.id, service.version, spec)
        self.send(
            f"update {spec.name} {what}",
            lambda state, now, ids: update_service(state, update, (), now, ids),
            self._promised,
            leader=leader,
        )

    def _promised(self, answer: object) -> None:
        if isinstance(answer, Service):
            promised = self.asked.promised
            promised[answer.id] = max(promised.get(answer.id, 0), answer.version.index)
            self.on_promise(answer)

    def remember(self, spec: ServiceSpec) -> None:
        """Services may have this spec from now on."""
        known = self.asked.specs.setdefault(spec.name, [])
        if spec not in known:
            known.append(spec)

    def send(
        self,
        what: str,
        mutation: Mutation[Any],
        done: Callable[[object], None] | None = None,
        *,
        leader: bool = False,
    ) -> None:
        """Ask some controller, mostly the leader."""
        self.carry_out(what, lambda _, submit: submit(mutation), done, leader=leader)

    def carry_out(
        self,
        what: str,
        work: Callable[[Leader, Submit], Awaitable[object]],
        done: Callable[[object], None] | None = None,
        *,
        leader: bool = False,
    ) -> None:
        """The same for a request whose server does more than to submit one mutation."""
        leading = [m for m in self.machines if m.loop is not None]
        only = leading and (leader or self._chance.hits(0.9))
        machine = self._chance.choice(leading if only else self.machines)
        self.tell(USER, f"asks {machine.name}: {what}")
        requests = self.asked.requests
        verb = requests.next()

        def serve(leader: Leader) -> Awaitable[object]:
            return work(leader, lambda one: leader.submit(requests.counted(verb, one), ALICE, verb))

        def heard(result: object) -> None:
            if isinstance(result, PyswarmError):
                self.tell(USER, f"{what}: {type(result).__name__}: {result}")
            else:
                self.tell(USER, f"{what}: done")

        def answer(result: object) -> None:
            # What the leader has confirmed is promised, even if the word is lost on its way.
            if not isinstance(result, PyswarmError):
                requests.confirmed[verb] = None
                if done is not None:
                    done(result)
            self._net.send(machine.name, USER, lambda: heard(result))

        self._net.send(USER, machine.name, lambda: machine.request(serve, answer))

    def some_service(self) -> Service | None:
        """One that is not being removed."""
        alive = list(filter(is_free, self._view.services.values()))
        return self._chance.choice(alive) if alive else None

    def _some_network(self) -> Network | None:
        networks = [n for n in self._view.networks.values() if not stack_of(kinds.NETWORK, n)]
        return self._chance.choice(networks) if networks else None

    def _with_volume(self) -> Node | None:
        """A node with the only copy of a volume."""
        homes = (one.home for one in self._view.of(kinds.VOLUME).values())
        return next((self._view.nodes[home] for home in homes if home in self._view.nodes), None)

    def _some_node(self) -> Node | None:
        nodes = list(self._view.nodes.values())
        return self._chance.choice(nodes) if nodes else None

    def image(self) -> str:
        """One of those of this run."""
        names: tuple[str, ...] = (*GOOD, *BAD) if self._options.bad_images else GOOD
        names += CHECKED if self._options.checks else ()
        return f"{self._chance.choice(names)}:{self._chance.randint(1, 3)}"

    def _placement(self) -> Placement:
        chance = self._chance
        constraints: tuple[str, ...] = ()
        if self._options.constraints and chance.hits(0.5):
            constraints = (chance.choice(tuple(CONSTRAINTS)),)
        return Placement(
            constraints=constraints,
            preferences=("node.labels.zone",) if chance.hits(0.2) else (),
            max_replicas=2 if chance.hits(0.1) else 0,
        )

    def _attachments(self, name: str) -> tuple[NetworkAttachment, ...]:
        networks = [n for n in self._view.networks.values() if not n.spec.ingress]
        networks = [n for n in networks if not stack_of(kinds.NETWORK, n)]
        chosen = self._chance.sample(networks, min(len(networks), self._chance.choice((1, 1, 2))))
        return tuple(
            NetworkAttachment(
                target=n.id, aliases=(f"{name}-alias",) if index else (), ip=self._chosen_ip(n)
            )
            for index, n in enumerate(chosen)
        )

    def _chosen_ip(self, network: Network) -> str:
        """Mostly none; else one that others may want too, of a block that nodes may have."""
        chance = self._chance
        if not chance.hits(0.4):
            return ""
        subnet = IPv4Network(network.subnet)
        return str(subnet[chance.choice((5, 70, -2)) % subnet.num_addresses])

    def _endpoint_spec(self) -> EndpointSpec:
        """By a virtual address or not; through the mesh, whose ports are a few for all, or not."""
        chance = self._chance
        if not self._options.ports or chance.hits(0.4):
            modes = tuple(EndpointMode) if self._options.ports else (EndpointMode.VIP,)
            return EndpointSpec(mode=chance.choice(modes))
        port = PortConfig(
            target_port=80,
            published_port=chance.choice((0, 8001, 8002, 8003)),
            publish_mode=chance.choice(
                (PublishMode.INGRESS, PublishMode.INGRESS, PublishMode.HOST)
            ),
        )
        return EndpointSpec(ports=(port,))

    def _spec(self, name: str) -> ServiceSpec:
        chance = self._chance
        networks = self._attachments(name) if self._options.networks else ()
        reservations = Reservations()
        if self._options.reservations and chance.hits(0.7):
            reservations = Reservations(
                nano_cpus=chance.choice((0, 500_000_000)),
                memory_bytes=chance.choice((0, 600)) * MIB,
                generic_resources=reserved("-", ("gpu=1",) if name.endswith(("4", "5")) else ()),
            )
        is_global = chance.hits(0.2)
        placement = self._placement()
        return ServiceSpec(
            name=name,
            task_template=TaskSpec(
                container_spec=ContainerSpec(
                    image=self.image(),
                    stop_grace_period=chance.choice((1, 3, 10)) * SECOND,
                    userns_mode="auto" if name.endswith(("2", "5")) else "",
                    security_opt=("apparmor=own",) if name.endswith(("3", "5")) else (),
                ),
                resources=Resources(reservations=reservations),
                restart_policy=RestartPolicy(
                    condition=chance.choice(tuple(RestartCondition)),
                    delay=chance.choice((0, 1, 5)) * SECOND,
                    max_attempts=chance.choice((0, 0, 1, 3)),
                    window=chance.choice((0, 20)) * SECOND,
                ),
                placement=replace(placement, max_replicas=0) if is_global else placement,
                networks=networks,
                allow_fleet_api=name.endswith(("1", "4", "7")),
                log_driver=LogDriver(name="none" if name.endswith("6") else ""),
            ),
            endpoint_spec=self._endpoint_spec(),
            mode=GlobalMode()
            if is_global
            else ReplicatedMode(replicas=chance.randint(0, self._options.replicas_max)),
        )
