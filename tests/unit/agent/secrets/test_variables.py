"""Secrets in the environment: fetched as files are, and in no file of the tmpfs for the task."""

import pytest
from msgspec.structs import replace

from agent.secrets.plan import Content, Exposed
from agent.tasks.record import Record
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.payloads import syntax
from pyswarm_core.payloads.variables import VARIABLE_BYTES_MAX
from pyswarm_core.specs import ContainerSpec, TaskSpec
from tests.fixtures.records import record
from tests.unit.agent.secrets.test_secrets import CONTEXT, Host, host, secret, store

__all__ = ["host", "store"]


def task(*texts: str, env: tuple[str, ...] = ()) -> Record:
    secrets = tuple((one := syntax.secret_env(text)).at(f"id-{one.source}", 1) for text in texts)
    spec = ContainerSpec(image="web", secrets=secrets, env=env)
    return record("t1", spec=TaskSpec(container_spec=spec))


async def exposed(host: Host, one: Record) -> Exposed:
    host.records[one.task_id] = one
    return await host.secrets.ready(one, CONTEXT, host.told.append)


async def test_a_variable_has_the_secret_without_line_ends_and_needs_no_file(host: Host) -> None:
    host.contents["id-db"] = Content(b"  hunter2=\n\n")
    found = await exposed(host, task("PASSWORD=db", "KEY=key@1"))
    assert found == Exposed((), ("PASSWORD=  hunter2=", "KEY=id-key"))
    assert not list((host.store.root / "tasks").iterdir())
    host.clean("t1")
    assert not host.held


async def test_a_template_is_expanded(host: Host) -> None:
    host.contents["id-db"] = Content(b"{{.Service.Name}}-{{env `A`}}", is_template=True)
    found = await exposed(host, task("X=db", env=("A=1",)))
    assert found.env == ("X=web-1",)


async def test_a_file_and_a_variable_may_be_of_one_secret(host: Host) -> None:
    given = task("X=db")
    container = given.spec.container_spec
    secrets = (*container.secrets, secret("db"))
    container = replace(container, secrets=secrets)
    found = await exposed(host, replace(given, spec=replace(given.spec, container_spec=container)))
    assert [one["destination"] for one in found.mounts] == ["/run/secrets"]
    assert found.env == ("X=id-db",)
    assert host.asked == [("secret", "id-db")]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"hunter2\0", "NUL byte"),
        (b"hunter2\xff", "byte 7 is not UTF-8"),
        (b"hunter2" * 20_000, f"at most {VARIABLE_BYTES_MAX} bytes"),
    ],
)
async def test_what_no_variable_can_have_is_refused_without_showing_it(
    host: Host, data: bytes, told: str
) -> None:
    host.contents["id-db"] = Content(data)
    with pytest.raises(InvalidArgument, match=told) as caught:
        await exposed(host, task("X=db"))
    assert "--secret-env X=db: " in str(caught.value)
    assert "hunter2" not in str(caught.value)
