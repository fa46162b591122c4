"""Flags that `up`, `create` and `run` share, with Compose's names and help."""

import click

from cli.compose.deploying.applying import PULLS
from cli.flags import Choice

BUILD = click.option("--build", is_flag=True, help="Build images before starting containers")
DRY_RUN = click.option(
    "--dry-run", is_flag=True, help="Print what would change, and change nothing"
)
FORCE_RECREATE = click.option(
    "--force-recreate", is_flag=True,
    help="Recreate containers even if their configuration and image haven't changed",
)  # fmt: skip
NO_BUILD = click.option(
    "--no-build", is_flag=True, help="Don't build an image, even if it's missing"
)
NO_RECREATE = click.option(
    "--no-recreate", is_flag=True,
    help="If containers already exist, don't recreate them. Incompatible with --force-recreate",
)  # fmt: skip
PULL = click.option(
    "--pull", type=Choice(PULLS), default="policy",
    help='Pull image before running ("always"|"missing"|"never"|"build")',
)  # fmt: skip
QUIET_PULL = click.option(
    "--quiet-pull", is_flag=True, help="Pull without printing progress information"
)
REMOVE_ORPHANS = click.option(
    "--remove-orphans", is_flag=True, envvar="COMPOSE_REMOVE_ORPHANS",
    help="Remove containers for services not defined in the Compose file",
)  # fmt: skip
SCALE = click.option(
    "--scale", "scales", multiple=True, metavar="SERVICE=NUM",
    help="Scale SERVICE to NUM instances. Overrides the scale setting in the Compose file if"
    " present",
)  # fmt: skip
YES = click.option(
    "-y", "--yes", is_flag=True, expose_value=False,
    help='Assume "yes" as answer to all prompts: there are none',
)  # fmt: skip
