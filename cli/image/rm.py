"""`pyswarm image rm`."""

import click

from cli import session
from cli.failures import Failures
from cli.lazy import Verb
from pyswarm_core.docker.reference import parse_reference
from pyswarm_core.errors import Unavailable


@click.command(
    cls=Verb, help="Remove one or more images from all nodes\n\nExample: pyswarm image rm web:1"
)
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
def rm(*, images: tuple[str, ...]) -> None:
    for image in images:
        parse_reference(image)
    client = session.connect()
    with Failures() as failures:
        for image in images:
            with failures.collected():
                for node in client.remove_image(image):
                    with failures.collected():
                        if node.error:
                            raise Unavailable(f"{node.node_name}: {node.error}")
                        click.echo(f"{node.node_name}: untagged {image}")
