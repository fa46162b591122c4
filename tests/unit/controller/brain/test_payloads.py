"""Where tasks with secrets may run."""

from msgspec.structs import replace

from pyswarm_core.limits import PAYLOADS_PROTOCOL
from pyswarm_core.payloads.references import FileTarget, SecretReference
from tests.fixtures import build
from tests.unit.controller.brain.test_volumes import messages, world


def test_agents_of_an_earlier_protocol_get_no_task_with_secrets() -> None:
    reference = SecretReference(secret_id="s1", secret_name="db", file=FileTarget(name="db"))
    web = build.service("web")
    template = web.spec.task_template
    container = replace(template.container_spec, secrets=(reference,))
    template = replace(template, container_spec=container)
    web = replace(web, spec=replace(web.spec, task_template=template))
    found = world(web, hosts=[build.node("n1", protocol=PAYLOADS_PROTOCOL - 1)])
    found.converge()
    (told,) = messages(found, "web")
    assert f"protocol below {PAYLOADS_PROTOCOL}" in told
