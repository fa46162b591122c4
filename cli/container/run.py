"""`pyswarm run` and `pyswarm create`."""

import os
from typing import Any

import click

from cli.container.exits import RunVerb
from cli.container.spec import options
from cli.lazy import Verb


@click.command(
    cls=Verb,
    params=options.of_create(),
    context_settings={"allow_interspersed_args": False},
    help="Create a new container, which `pyswarm start` starts\n\n"
    "Example: pyswarm create --name db -e POSTGRES_PASSWORD=secret postgres:15",
)
def create(**given: Any) -> None:
    from cli.container import creating

    created = creating.created(given, os.environ, stopped=True)
    click.echo(created.service.id)


@click.command(
    cls=RunVerb,
    params=options.of_run(),
    context_settings={"allow_interspersed_args": False},
    help="Create and run a new container from an image\n\n"
    "Example: pyswarm run -d --name web -p 8080:80 nginx",
)
def run(**given: Any) -> int:
    from cli.container import creating, running

    with running.docker_exit_codes():
        creating.require_run_options(given)
        return running.run(given, os.environ)
