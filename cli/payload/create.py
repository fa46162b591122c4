"""`pyswarm secret create` and `pyswarm config create`."""

from typing import Any

import click

from cli import flags, session
from cli.container.spec.refused import options_of
from cli.lazy import Verb
from cli.payload import calls
from cli.payload.data import read
from pyswarm_core.docker import entries
from pyswarm_core.kinds import CONFIG, SECRET, Kind
from pyswarm_core.payloads.limits import VERSIONS_KEPT_MAX
from pyswarm_core.payloads.payload import PayloadSpec
from pyswarm_core.validation import payload_problems, require
from pyswarm_core.volumes.mounts import Driver

_REFUSED = {
    "secret": {
        "-d --driver": "there are no secret drivers: `pyswarm secret create NAME FILE` stores the"
        " data of a secret"
    }
}
_EXAMPLES = {
    "secret": "pyswarm secret create db-password ./password",
    "config": "pyswarm config create nginx.conf ./nginx.conf",
}


def _command(kind: Kind[Any, Any]) -> click.Command:
    @click.command(
        name="create",
        cls=Verb,
        params=options_of(_REFUSED.get(kind.name, {})),
        help=f"Create a {kind.name} from a file or STDIN as content\n\n"
        f"Example: {_EXAMPLES[kind.name]}",
    )
    @click.option(
        "-l", "--label", multiple=True, metavar="KEY=VALUE",
        help=f"{kind.name.capitalize()} labels",
    )  # fmt: skip
    @click.option("--template-driver", default="", metavar="golang", help="Template driver")
    @click.option(
        "--keep-versions", type=flags.Number(0, VERSIONS_KEPT_MAX), default=0, show_default=True,
        metavar="N", help="Versions to keep although nothing uses them",
    )  # fmt: skip
    @click.argument("name", metavar=kind.name.upper())
    @click.argument("file", metavar="FILE|-")
    def create(
        *, name: str, file: str, label: tuple[str, ...], template_driver: str, keep_versions: int
    ) -> None:
        spec = PayloadSpec(
            name=name,
            labels=entries.labels("--label", label),
            templating=Driver(name=template_driver) if template_driver else None,
            keep_versions=keep_versions,
        )
        require(payload_problems(kind.name, spec, 1))
        data = read(kind.name, file)
        click.echo(calls.create(session.connect(), kind, spec, data).id)

    return create


secret = _command(SECRET)
config = _command(CONFIG)
