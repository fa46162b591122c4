"""Docker's flags of the log driver, for `service create`, `service update` and `run`."""

from collections.abc import Mapping
from typing import Any

import click
from msgspec.structs import replace

from pyswarm_core.docker import entries
from pyswarm_core.specs import LogDriver, ServiceSpec

LOGGING = (
    click.option(
        "--log-driver",
        metavar="DRIVER",
        help="Logging driver: json-file (default), local, none, journald or syslog",
    ),
    click.option(
        "--log-opt",
        multiple=True,
        metavar="KEY=VALUE",
        help="Logging driver options, such as max-size=10m and max-file=3",
    ),
)


def with_log_driver(spec: ServiceSpec, given: Mapping[str, Any]) -> ServiceSpec:
    """The spec with these flags, if one of them was given. The options replace all earlier ones; as
    in Docker, a driver that is given without options has none. Raises InvalidArgument.
    """
    name, options = given["log_driver"], given["log_opt"]
    if name is None and not options:
        return spec
    template = spec.task_template
    driver = LogDriver(
        name=template.log_driver.name if name is None else name,
        options=entries.labels("--log-opt", options),
    )
    return replace(spec, task_template=replace(template, log_driver=driver))
