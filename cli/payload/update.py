"""`pyswarm secret update` and `pyswarm config update`."""

from typing import Any

import click

from cli import converge, flags, session
from cli.converge import Watched
from cli.lazy import Verb
from cli.payload import calls
from cli.payload.data import read
from pyswarm_core.kinds import CONFIG, SECRET, Kind
from pyswarm_core.payloads import syntax
from pyswarm_core.payloads.limits import VERSIONS_KEPT_MAX
from pyswarm_core.payloads.references import NO_SIGNAL
from pyswarm_core.validation.container import signal_problems
from pyswarm_core.validation.problem import require

_EXAMPLES = {
    "secret": "pyswarm secret update db-password ./password",
    "config": "pyswarm config update nginx.conf ./nginx.conf",
}


def _command(kind: Kind[Any, Any]) -> click.Command:
    @click.command(
        name="update",
        cls=Verb,
        help=f"Create the next version of a {kind.name} from a file or STDIN, and update the"
        " services that use it as their update settings say. Services that use NAME@VERSION stay"
        f" as they are\n\nExample: {_EXAMPLES[kind.name]}",
    )
    @click.option(
        "--keep-versions", type=flags.Number(0, VERSIONS_KEPT_MAX), default=None, metavar="N",
        help="Versions to keep although nothing uses them (default: as before)",
    )  # fmt: skip
    @click.option(
        "--reload", default=None, metavar="signal=SIGNAL|none",
        help="Put the version into running containers and send them the signal, such as"
        " signal=HUP, instead of replacing them",
    )  # fmt: skip
    @flags.detach_from("the services that use it to converge")
    @flags.quiet_progress
    @click.argument("name", metavar=kind.name.upper())
    @click.argument("file", metavar="FILE|-")
    def update(
        *,
        name: str,
        file: str,
        keep_versions: int | None,
        reload: str | None,
        detach: bool,
        quiet: bool,
    ) -> None:
        signal = "" if reload is None else syntax.reload(reload)
        if signal not in ("", NO_SIGNAL):
            require([*signal_problems("--reload", signal)])
        data = read(kind.name, file)
        client = session.connect()
        made, ids = calls.update(
            client, kind, name, data, keep_versions=keep_versions, reload=signal
        )
        click.echo(made.title)
        if ids and not detach:
            watched = [Watched.of(client.service(one)) for one in ids]
            converge.until_converged(client, watched, quiet=quiet)

    return update


secret = _command(SECRET)
config = _command(CONFIG)
