"""`pyswarm user token`: its verbs, and `pyswarm user token NAME`, which creates a token."""

from typing import Any

import click

from cli import flags, session
from cli.failures import for_each
from cli.lazy import Group, Verb
from cli.render import listing
from cli.render.listing import Layout, Row
from cli.render.output import echo_lines
from pyswarm_core.docker.units import format_time, parse_lifetime
from pyswarm_core.identity.users import UserToken
from pyswarm_core.ids import short
from pyswarm_core.validation import require, token_problems

LAYOUT = Layout(
    headings={
        "ID": "TOKEN ID",
        "Description": "DESCRIPTION",
        "CreatedAt": "CREATED AT",
        "ExpiresAt": "EXPIRES AT",
    },
    columns=("ID", "Description", "CreatedAt", "ExpiresAt"),
)


class _TokenGroup(Group):
    """A group whose first argument may be the user instead of a verb: `user token NAME`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click, with `create` in front of anything that is neither a verb nor `--help`."""
        if args and args[0] not in (*self.list_commands(ctx), *ctx.help_option_names):
            args = ["create", *args]
        return super().parse_args(ctx, args)


@click.group(
    cls=_TokenGroup,
    help="Manage the tokens of users\n\n`pyswarm user token NAME` is short for"
    " `pyswarm user token create NAME`.",
)
def token() -> None:
    pass


@token.command(
    cls=Verb,
    help="Create a token with which a user identifies\n\nIt is shown once; the fleet stores its"
    " hash.\n\nExample: pyswarm user token create ci --expires 90d",
)
@click.option(
    "--expires",
    default="",
    metavar="DURATION",
    help="Time until the token expires, as in 90d or 12h (default never)",
)
@click.option("--description", default="", metavar="TEXT", help="Description for `user token ls`")
@click.option("-q", "--quiet", is_flag=True, help="Only display token")
@click.argument("user")
def create(*, user: str, expires: str, description: str, quiet: bool) -> None:
    lifetime = parse_lifetime("--expires", expires) if expires else 0
    require(token_problems(lifetime, description))
    client = session.connect()
    created = client.create_user_token(user, lifetime, description)
    if quiet:
        click.echo(created.token)
        return
    until = f", which expires at {format_time(created.expires_at)}" if created.expires_at else ""
    click.echo(f"Token {short(created.token_id)} of user {user}{until}:\n")
    click.echo(f"    {created.token}\n")
    click.echo("It is not shown again. To use it, run the following command:\n")
    endpoint = f"host={client.info().join_addr},token=TOKEN"
    click.echo(f"    pyswarm context create NAME --pyswarm {endpoint}\n")


@token.command(
    name="ls",
    cls=Verb,
    help="List the tokens of a user\n\nExample: pyswarm user token ls ci",
)
@flags.quiet_ids
@flags.no_trunc
@flags.format_
@click.argument("user")
def ls_(*, user: str, quiet: bool, no_trunc: bool, form: str) -> None:
    rows = [row(one, long=no_trunc) for one in session.connect().user_tokens(user)]
    echo_lines(listing.show(LAYOUT, rows, form, quiet=quiet))


@token.command(
    cls=Verb,
    help="Remove one or more tokens of a user\n\nThey stop working at once, on open streams"
    " too.\n\nExample: pyswarm user token rm ci 4f7kd0q1m2zs",
)
@click.argument("user")
@click.argument("tokens", nargs=-1, required=True, metavar="TOKEN...")
def rm(*, user: str, tokens: tuple[str, ...]) -> None:
    client = session.connect()
    for_each(tokens, lambda ref: client.remove_user_token(user, ref))


def row(token: UserToken, *, long: bool) -> Row:
    """A row of the list."""
    found: dict[str, Any] = {
        "ID": token.id if long else short(token.id),
        "Description": token.description,
        "CreatedAt": format_time(token.created_at),
        "ExpiresAt": format_time(token.expires_at) if token.expires_at else "never",
    }
    return found
