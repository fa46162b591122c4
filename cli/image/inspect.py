"""`pyswarm image inspect`."""

import click

from cli import flags
from cli.image import refused
from cli.lazy import Verb

PLATFORM = "a node has an image for one platform; its id names it"


@click.command(
    name="inspect",
    cls=Verb,
    help="Display detailed information on one or more images\n\n"
    "Example: pyswarm image inspect --format '{{.Config.Env}}' web:1",
)
@flags.inspect_format
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
def inspect(*, form: str, images: tuple[str, ...]) -> None:
    from cli.container import inspecting

    inspecting.show(images, form, ("image",), with_size=False)


inspect.params.append(refused.valued("--platform", PLATFORM))
