"""The Compose files of `examples/` define what their users expect, without a fault."""

import pytest

from compose.files import Disk
from compose.mapping.mapped import Mapped, Options
from compose.mapping.stack import stack_of
from compose.model import load
from compose.projects import Request
from tests.fixtures.source import ROOT

WEBAPP = ("webapp", "docker-compose.yml")
FILES = {
    WEBAPP: ("app", "db", "nginx", "redis"),
    (*WEBAPP, "docker-compose.dev.yml"): ("app", "db", "maildev", "nginx", "redis"),
    (*WEBAPP, "docker-compose.prod.yml"): ("app", "db", "nginx", "redis"),
    ("webapp", "stack.yml"): ("app", "db", "nginx", "redis"),
    ("local", "docker-compose.yml"): ("app", "db"),
    ("microservices", "docker-compose.yml"): (
        *("auth-db", "auth-service", "gateway", "order-db", "order-service"),
        *("rabbitmq", "user-db", "user-service"),
    ),
}


def mapped(example: str, *files: str) -> Mapped:
    is_stack = files == ("stack.yml",)
    request = Request(
        directory=str(ROOT / "examples" / example),
        files=files,
        is_stack=is_stack,
        project_name=example,
    )
    loaded = load(request, Disk())
    assert loaded.notices == ()
    return stack_of(loaded, Options(is_stack=is_stack), Disk())


@pytest.mark.parametrize("files", FILES, ids="-".join)
def test_an_example_is_a_stack(files: tuple[str, ...]) -> None:
    found = mapped(*files)
    assert tuple(sorted(found.services)) == FILES[files]
    published = [
        port.published_port
        for service in found.spec.services
        for port in service.endpoint_spec.ports
    ]
    assert published
    assert len(published) == len(set(published))


def test_production_has_no_directory_of_one_host() -> None:
    assert mapped(*WEBAPP).local_binds
    assert not mapped(*WEBAPP, "docker-compose.prod.yml").local_binds
