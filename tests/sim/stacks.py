"""Users of stacks: they apply them, with other services and data each time, roll them back, scale
their services by hand, and remove them.
"""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from controller.api.stacking.changes import Rollback, Submit, applied, removed, rolled_back
from controller.brain.slices import Slices
from controller.leader.leadership import Leader, Mutation, in_slices
from pyswarm_core.clock import SECOND, Instant
from pyswarm_core.decision import Writes
from pyswarm_core.ids import IdSource
from pyswarm_core.kinds import CONFIG, SECRET, SERVICE, STACK
from pyswarm_core.payloads.payload import PayloadSpec
from pyswarm_core.specs import (
    ContainerSpec,
    NetworkAttachment,
    NetworkSpec,
    ReplicatedMode,
    RestartCondition,
    RestartPolicy,
    ServiceSpec,
    TaskSpec,
)
from pyswarm_core.stacks.changes import ApplyStack, ResolveImage, StackReply
from pyswarm_core.stacks.dependencies import Dependency, DependencyCondition
from pyswarm_core.stacks.labels import SERVICE as SERVICE_LABEL
from pyswarm_core.stacks.labels import of_stack
from pyswarm_core.stacks.spec import StackPayload, StackSpec
from pyswarm_core.stacks.stack import Stack
from pyswarm_core.state import State
from tests.sim.membership import stack_of
from tests.sim.options import Options
from tests.sim.payloads import Source, using
from tests.sim.rand import Chance
from tests.sim.stack_rules import Sent, shapes_of
from tests.sim.view import View

if TYPE_CHECKING:
    from tests.sim.workload import Users

NAMES = ("shop", "blog")
KEYS = ("db", "api", "web", "jobs")
Work = Callable[[Leader, Submit], Awaitable[Any]]
"""What a server does for a request: it submits mutations to the leader."""


class StackUsers:
    """Those users."""

    def __init__(self, users: "Users", chance: Chance, view: View, options: Options) -> None:
        self._users = users
        self._requests = users.asked.stacks
        self._chance = chance
        self._view = view
        self._networks = options.networks

    def act(self) -> None:
        """Somebody does something."""
        stacks = list(self._view.of(STACK).values())
        if not stacks:
            self.apply()
        else:
            acts = [self.apply] * 5 + [self.roll_back] * 2 + [self.scale, self.remove]
            self._chance.choice(acts)()

    def apply(self) -> None:
        """A new stack, or another version of one."""
        chance = self._chance
        spec = self._spec(chance.choice(NAMES))
        prunes = chance.hits(0.7)
        request = ApplyStack(
            spec=spec,
            prune=prunes,
            reset_scale=chance.hits(0.3),
            resolve_image=ResolveImage.NEVER.value,
        )
        for one in spec.services:
            self._users.remember(one)  # for the history that their restart policies need
        sent = Sent(shapes_of(spec), prunes, _data(spec))
        unsure = self._requests.unsure
        unsure[spec.name] = unsure.get(spec.name, 0) + 1

        def answered() -> None:
            unsure[spec.name] -= 1
            self._users.marks.hit("stack applied")

        names = " ".join(f"{one.name}={_image(one)}" for one in spec.services)
        self._change(
            f"apply {spec.name}: {names}{' --prune' if prunes else ''}",
            lambda leader, submit: applied(leader, request, (), submit),
            lambda _: sent,
            answered,
        )

    def roll_back(self) -> None:
        """To the version before, or to any that is kept."""
        if (stack := self._some()) is None:
            return
        to = self._chance.choice((0, *(one.version for one in stack.previous_specs)))

        def sent(state: State) -> Sent:
            found = state.of(STACK)[stack.id]
            version = to or found.spec_version - 1
            content = next(one.spec for one in found.previous_specs if one.version == version)
            return Sent(shapes_of(content))

        self._change(
            f"roll stack {stack.spec.name} back to {to}",
            lambda leader, submit: rolled_back(leader, Rollback(stack.id, to), (), submit),
            sent,
            lambda: self._users.marks.hit("stack rolled back"),
        )

    def scale(self) -> None:
        """Another number of replicas of a service, by hand."""
        services = self._view.services.values()
        own = [one for one in services if stack_of(SERVICE, one) and not one.removing]
        if own:
            service, replicas = self._chance.choice(own), self._chance.randint(0, 2)
            self._requests.scaled.setdefault(service.spec.name, {})[replicas] = None
            self._users.asked.removals[service.id] = None  # its stack may remove it at any time
            mode = ReplicatedMode(replicas=replicas)
            self._users.update(service, replace(service.spec, mode=mode), f"to {replicas}")

    def remove(self) -> None:
        """No stack."""
        if (stack := self._some()) is None:
            return
        requests = self._requests
        requests.removals[stack.id] = None

        def done(_: object) -> None:
            requests.promised_removals[stack.id] = None
            self._users.marks.hit("stack removed")

        self._users.carry_out(
            f"remove stack {stack.spec.name}",
            lambda leader, submit: removed(leader, stack.id, submit, volumes=False),
            done,
        )

    def _change(
        self,
        what: str,
        work: Work,
        sent: Callable[[State], Sent],
        answered: Callable[[], None],
    ) -> None:
        """Ask for another version of a stack. `sent`: what it is by the state that it changes."""
        requests, made = self._requests, list[Stack]()

        def noted(mutation: Mutation[Any]) -> Mutation[Any]:
            def decide(
                state: State, now: Instant, ids: IdSource
            ) -> Slices[tuple[Writes, StackReply]]:
                writes, reply = yield from in_slices(mutation(state, now, ids))
                made[:] = [reply.stack] if reply.stack else []
                for one in writes.of(STACK):
                    decided = requests.decided.setdefault((one.id, one.version.index), [])
                    decided.append(sent(state))
                return writes, reply

            return decide

        def done(_: object) -> None:
            for one in made:
                known = requests.promised.get(one.id, 0)
                requests.promised[one.id] = max(known, one.version.index)
            answered()

        self._users.carry_out(
            what, lambda leader, submit: work(leader, lambda m: submit(noted(m))), done
        )

    def _some(self) -> Stack | None:
        stacks = list(self._view.of(STACK).values())
        return self._chance.choice(stacks) if stacks else None

    # Specs

    def _spec(self, stack: str) -> StackSpec:
        chance = self._chance
        keys = chance.sample(KEYS, chance.choice((1, 2, 2, 3)))
        secret, config = (chance.hits(0.5) for _ in range(2))
        sources = [Source(SECRET, f"{stack}_key")] * secret
        sources += [Source(CONFIG, f"{stack}_conf")] * config
        services: list[ServiceSpec] = []
        for key in keys:
            service = self._service(stack, key, services)
            used = [one.reference for one in sources if chance.hits(0.6)]
            services.append(using(service, used))
        labels = of_stack(stack)
        networks = (NetworkSpec(name=f"{stack}_default", labels=labels),) if self._networks else ()

        def payload(name: str) -> StackPayload:
            keep = chance.choice((0, 0, 2))
            spec = PayloadSpec(name=name, labels=labels, keep_versions=keep)
            return StackPayload(spec=spec, data=chance.choice((b"one", b"two", b"three")))

        return StackSpec(
            name=stack,
            services=tuple(services),
            networks=networks,
            secrets=(payload(f"{stack}_key"),) if secret else (),
            configs=(payload(f"{stack}_conf"),) if config else (),
        )

    def _service(self, stack: str, key: str, others: list[ServiceSpec]) -> ServiceSpec:
        """A service that may depend on each of the others."""
        chance = self._chance
        joined = (NetworkAttachment(target=f"{stack}_default", aliases=(key,)),)
        once = key == "jobs"
        return ServiceSpec(
            name=f"{stack}_{key}",
            labels=of_stack(stack, **{SERVICE_LABEL: key}),
            task_template=TaskSpec(
                container_spec=ContainerSpec(
                    image=f"job:{chance.randint(1, 2)}" if once else self._users.image(),
                    stop_grace_period=chance.choice((1, 3)) * SECOND,
                ),
                restart_policy=RestartPolicy(
                    condition=RestartCondition.ON_FAILURE if once else RestartCondition.ANY,
                    delay=SECOND,
                ),
                networks=joined if self._networks else (),
            ),
            mode=ReplicatedMode(replicas=1 if once else chance.randint(1, 2)),
            depends_on=tuple(self._dependency(one) for one in others if chance.hits(0.6)),
        )

    def _dependency(self, on: ServiceSpec) -> Dependency:
        """Mostly one whose condition comes true."""
        chance = self._chance
        completed = on.name.endswith("jobs") or chance.hits(0.05)
        condition = DependencyCondition.COMPLETED if completed else DependencyCondition.STARTED
        return Dependency(
            service=on.name,
            condition=condition,
            restart=chance.hits(0.3),
            required=chance.hits(0.8),
        )


def _image(spec: ServiceSpec) -> str:
    return spec.task_template.container_spec.image


def _data(spec: StackSpec) -> dict[tuple[str, str], bytes]:
    found = {(SECRET.name, one.spec.name): one.data for one in spec.secrets}
    return found | {(CONFIG.name, one.spec.name): one.data for one in spec.configs}
