"""Services and containers of a project, tersely."""

from typing import Any

from msgspec.structs import replace

from cli.compose.members import Held, Member
from pyswarm_core.clock import Instant
from pyswarm_core.docker.containers.views import ContainerState, ContainerView
from pyswarm_core.ids import ServiceId
from pyswarm_core.objects import Service
from pyswarm_core.stacks.dependencies import Dependency
from pyswarm_core.views import ServiceSummary
from tests.unit.cli import objects

RUNNING, EXITED = ContainerState.RUNNING, ContainerState.EXITED


def labels(service: str, project: str = "shop") -> dict[str, str]:
    return {"com.docker.compose.project": project, "com.docker.compose.service": service}


def service(name: str, *needs: str, replicas: int = 1, **spec: Any) -> Service:
    made = objects.service(
        f"shop_{name}",
        replicas,
        labels=spec.pop("labels", labels(name)),
        depends_on=tuple(Dependency(service=f"shop_{one}") for one in needs),
        **spec,
    )
    return replace(made, id=ServiceId(f"id-of-{name}"))


def summary(name: str, *needs: str, **more: Any) -> ServiceSummary:
    return ServiceSummary(service(name, *needs, **more), running=1, desired=1)


def member(name: str, *needs: str, **more: Any) -> Member:
    return Member(name, summary(name, *needs, **more))


def view(name: str, place: str, state: ContainerState = RUNNING, **more: Any) -> ContainerView:
    task = more.pop("task", f"task-{name}-{place}")
    fields = {
        "id": task,
        "name": f"shop_{name}.{place}.{task}",
        "image": "web:1",
        "command": ("serve",),
        "created_at": Instant(1),
        "labels": labels(name),
        "task_id": task,
        "service_id": f"id-of-{name}",
        "service_name": f"shop_{name}",
    }
    return ContainerView(state=state, **{**fields, **more})


def held(name: str, number: int, state: ContainerState = RUNNING, **more: Any) -> Held:
    return Held(f"shop-{name}-{number}", name, number, view(name, str(number), state, **more))
