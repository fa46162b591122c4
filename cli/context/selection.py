"""The context of one command line. SHELL over the environment and the store."""

import os
from pathlib import Path

import click
from msgspec.structs import replace

from cli.context import store
from cli.context.model import Context, Given, Material, checked, select
from pyswarm_core.errors import InvalidArgument, NotFound, quoted, reason_of


def given(host_flag: str | None, context_flag: str | None) -> Given:
    """What the flags and the environment name."""
    return Given(
        host_flag=host_flag or "",
        context_flag=context_flag or "",
        host_variable=os.environ.get("PYSWARM_HOST", ""),
        context_variable=os.environ.get("PYSWARM_CONTEXT", ""),
    )


def selected(asked: Given) -> Context:
    """The selected context, with what PYSWARM_TOKEN and PYSWARM_CA add to it.

    Raises NotFound if it does not exist, InvalidArgument if the settings conflict.
    """
    choice = select(asked)
    if choice.warning:
        click.echo(f"warning: {choice.warning}", err=True)
    token, ca = os.environ.get("PYSWARM_TOKEN", ""), os.environ.get("PYSWARM_CA", "")
    if choice.host:
        field = "--host" if asked.host_flag else "PYSWARM_HOST"
        context = _at(checked(choice.host, field), has_token=bool(token))
    else:
        context = _named(choice.name or store.current_name(), is_current=not choice.name)
    if token and context.is_local:
        raise InvalidArgument(
            f"PYSWARM_TOKEN is set, but {context.host} is a socket, where it would not count: set"
            " PYSWARM_HOST=HOST:PORT as well, or unset PYSWARM_TOKEN"
        )
    if token:
        # The digest in the token says which CA it is: the context's may have been rotated since.
        context = replace(context, material=Material(token=token))
    return _pinned(context, ca) if ca and not context.is_local else context


def _at(host: str, *, has_token: bool) -> Context:
    """The context with that host: the current one, or the only one. Raises InvalidArgument if it is
    not clear which credentials are meant.
    """
    found = list(store.of_host(host))
    bare = Context(name="", host=host)
    if len(found) < 2 or found[0].name == store.current_name() or found[0].is_local:
        return found[0] if found else bare
    if has_token:
        return bare
    names = ", ".join(context.name for context in found)
    raise InvalidArgument(
        f"several contexts have the address {host} ({names}): choose one with --context instead of"
        " the address"
    )


def _named(name: str, *, is_current: bool) -> Context:
    try:
        return store.load(name)
    except NotFound:
        if not is_current:
            raise
        raise NotFound(
            f"the current context {quoted(name)} does not exist: select one of `pyswarm context"
            " ls` with `pyswarm context use`"
        ) from None


def _pinned(context: Context, path: str) -> Context:
    """The context with the root certificate of PYSWARM_CA, which must be the one it has."""
    from pyswarm_core.identity.trust import roots_of

    pem = file_text("PYSWARM_CA", path)
    own = context.material.ca
    pinned = roots_of(pem, "PYSWARM_CA")
    if own and not set(pinned) & set(roots_of(own, "the context's CA")):
        raise InvalidArgument(
            f"PYSWARM_CA={path} is another certificate than the CA of context"
            f" {quoted(context.name)}: unset PYSWARM_CA, or select another context"
        )
    return replace(context, material=replace(context.material, ca=pem))


def file_text(field: str, path: str) -> str:
    """The text of a file that a flag or variable names. Raises InvalidArgument."""
    try:
        with Path(path).open("rb") as file:
            content = file.read(store.FILE_MAX + 1)
        if len(content) > store.FILE_MAX:
            raise InvalidArgument(f"{field}: {path} is larger than {store.FILE_MAX >> 10} KiB")
        return content.decode("ascii")
    except OSError as error:
        raise InvalidArgument(f"{field}: {reason_of(error, path)}") from None
    except UnicodeDecodeError:
        raise InvalidArgument(f"{field}: {path} is not PEM or a token: it is not text") from None
