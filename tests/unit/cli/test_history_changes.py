"""What the column CHANGES of `service history` and `stack history` says."""

from msgspec.structs import replace

from cli.render.history import changed
from pyswarm_core.payloads.references import ConfigReference, FileTarget, SecretReference
from pyswarm_core.specs import ServiceSpec
from tests.fixtures import build


def using(secret: int, config: int) -> ServiceSpec:
    """A spec that uses these versions."""
    file = FileTarget(name="pw")
    made = replace(
        build.template().container_spec,
        secrets=(
            SecretReference(secret_name="pw", secret_id=f"s{secret}", number=secret, file=file),
        ),
        configs=(
            ConfigReference(config_name="page", config_id=f"c{config}", number=config, file=file),
        ),
    )
    return replace(
        build.service("web").spec, task_template=replace(build.template(), container_spec=made)
    )


def test_versions_of_secrets_and_configs_are_named() -> None:
    assert changed(using(1, 3), using(2, 3)) == ["Secrets +pw@2 -pw@1"]
    assert changed(using(2, 3), using(2, 4)) == ["Configs +page@4 -page@3"]
