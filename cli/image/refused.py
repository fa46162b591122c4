"""Flags of Docker's image verbs that are refused, each with the reason. PURE."""

import click

TRUST = "--disable-content-trust"
_TRUST_WHY = (
    "Docker retired content trust; name a digest, NAME@sha256:…, or give hosts a policy in"
    " /etc/containers/policy.json"
)


def switch(name: str, why: str) -> click.Option:
    """A switch that is refused when it is given."""

    def refuse(ctx: click.Context, param: click.Parameter, value: bool) -> None:
        if value:
            raise click.UsageError(f"{name} is not supported: {why}", ctx)

    return click.Option([name], is_flag=True, hidden=True, expose_value=False, callback=refuse)


def valued(name: str, why: str, *, multiple: bool = False) -> click.Option:
    """The same of a flag with a value."""

    def refuse(ctx: click.Context, param: click.Parameter, value: object) -> None:
        if value:
            raise click.UsageError(f"{name} is not supported: {why}", ctx)

    return click.Option([name], multiple=multiple, hidden=True, expose_value=False, callback=refuse)


def trust() -> click.Option:
    """`--disable-content-trust`, whose default, true, is what is done; false is refused."""

    def refuse(ctx: click.Context, param: click.Parameter, value: bool) -> None:
        if not value:
            raise click.UsageError(f"{TRUST}=false is not supported: {_TRUST_WHY}", ctx)

    return click.Option(
        [f"{TRUST}/--no-{TRUST[2:]}"],
        default=True,
        hidden=True,
        expose_value=False,
        callback=refuse,
    )
