"""Docker's exit codes of `run`."""

from typing import NoReturn

import click

from cli.lazy import Verb


class Failed(click.ClickException):
    """A failure of pyswarm itself."""

    exit_code = 125


class NotExecutable(Failed):
    """The container's command cannot be executed."""

    exit_code = 126


class NoCommand(Failed):
    """The container's command does not exist."""

    exit_code = 127


class WrongUsage(click.UsageError):
    """Flags or values that are not valid."""

    exit_code = 125


class RunVerb(Verb):
    """A command that ends with 125 if its flags are not valid."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click, with Docker's exit code."""
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            _refuse(error)


def _refuse(error: click.UsageError) -> NoReturn:
    if type(error) is click.BadParameter and error.param is not None:
        field = max(error.param.opts, key=len)
        raise WrongUsage(f"{field}: {error.message}", error.ctx) from None
    raise WrongUsage(error.format_message(), error.ctx) from None
