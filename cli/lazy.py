"""Click groups that import a command when it is used: `service ls` does not import `image build`.

A group holds the module and one line of help of each command, which is all that `--help` needs.
"""

from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from inspect import cleandoc
from typing import Any, NoReturn

import click

from pyswarm_core.errors import not_valid, quoted

UNSUPPORTED: Mapping[str, str] = {
    flag: instead
    for flags, instead in (
        (
            "--max-concurrent",
            "there are no jobs; use --restart-condition none with --replicas",
        ),
        ("--isolation --credential-spec", "they are for Windows containers"),
        (
            "--cgroup-parent",
            "each agent has one for all its containers, its flag --cgroup-parent",
        ),
        (
            "--storage-opt",
            "a container's layer has no quota of its own; --read-only and --tmpfs PATH:size=SIZE"
            " limit what it writes",
        ),
        (
            "--runtime",
            "agents run crun, or else runc",
        ),
        (
            "--gpus",
            "--device nvidia.com/gpu=all gives tasks the GPUs that CDI files of their host"
            " describe, and --generic-resource counts them",
        ),
        (
            "--external-ca",
            "controllers issue all certificates themselves, with the key of the fleet's own CA,"
            " which `pyswarm swarm ca` displays",
        ),
        (
            "--ca-cert --ca-key",
            "a rotation makes the new root certificate and its key itself",
        ),
        ("--cert-expiry", "use `pyswarm swarm update --cert-expiry`"),
        (
            "--max-snapshots --snapshot-interval",
            "the state is in etcd, which has the flags --max-snapshots and --snapshot-count",
        ),
        (
            "--force-new-cluster",
            "run an etcd of yours, `pyswarm swarm init --etcd-endpoints`, and restore it with the"
            " tools of etcd",
        ),
        (
            "--details --rotate",
            "",
        ),
    )
    for flag in flags.split()
}
"""Docker's flags that pyswarm does not have yet, and what to use instead."""

REFUSED: Mapping[str, str] = {
    flag: reason
    for flags, reason in (
        (
            "--cpu-rt-period --cpu-rt-runtime",
            "cgroup v2 has no limit of real-time scheduling; use --cpu-quota or --cpu-shares",
        ),
        ("--kernel-memory", "Docker removed it; --limit-memory includes memory of the kernel"),
        (
            "--ip6",
            "the IPv6 address of a task follows from its IPv4 address; use --ip on a network made"
            " with --ipv6",
        ),
        (
            "--aux-address",
            "addresses of --subnet outside --ip-range are assigned to no task; use --ip-range",
        ),
        ("--ipam-opt", "agents assign the addresses; use --subnet, --ip-range and --gateway"),
        (
            "--config-only --config-from",
            "a network has one configuration for all hosts; give `network create` its options",
        ),
        (
            "--cpu-count --cpu-percent --io-maxbandwidth --io-maxiops",
            "it is for Windows containers; use --cpu-quota or --device-read-bps",
        ),
        (
            "--tls --tlscacert --tlscert --tlskey --tlsverify",
            "every connection to HOST:PORT uses TLS with the credentials of a context; use `pyswarm"
            " context create` or `pyswarm context import`",
        ),
        (
            "--debug -D --log-level",
            "the command line writes no log; `pyswarm why` and `pyswarm events` show causes, and"
            " controllers and agents have a --log-level",
        ),
        (
            "--data-path-addr",
            "nodes exchange the packets of containers between their addresses of --advertise-addr",
        ),
        (
            "--checkpoint --checkpoint-dir",
            "the memory of processes cannot be saved; files stay over `pyswarm stop` and `start`",
        ),
    )
    for flag in flags.split()
}
"""Docker's flags that pyswarm never has, and why."""

REFUSED_OF: Mapping[tuple[str, str], str] = {
    ("pyswarm", "--config"): "contexts are in ~/.config/pyswarm, or below XDG_CONFIG_HOME; logins"
    " are in Docker's folder, which DOCKER_CONFIG names",
    ("pyswarm", "-l"): REFUSED["--log-level"],
    **{
        (f"pyswarm {group} prune", flag): "the cache is removed as a whole"
        for group in ("builder", "buildx")
        for flag in (
            "--filter --keep-storage --max-used-space --min-free-space --reserved-space --verbose"
        ).split()
    },
    ("pyswarm swarm join", "--listen-addr"): "the host that joins connects to the controllers,"
    " and listens for none; --advertise-addr is its address",
}
"""The same of one command."""

OFTEN_LATE = frozenset(
    "--publish --detach --replicas --network --rm --volume --mount --env --restart --constraint"
    " --restart-condition --interactive --tty".split()
)
"""Flags that users write after the image, and that few programs have themselves."""


def _pasteable(text: str | None) -> str:
    """The help with its example on one line."""
    return cleandoc(text or "").replace("\n\nExample: ", "\n\n\b\nExample: ")


class Verb(click.Command):
    """A command that reports Docker's flags that are not supported yet as such, and completes names
    of objects.
    """

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """As click; a context for completion knows which names its parameters take."""
        if extra.get("resilient_parsing"):
            from cli.verbs.completing import complete_names

            complete_names(self)
        return super().make_context(info_name, args, parent, **extra)

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """As click, with the example on one line, so that it can be pasted."""
        self.help = _pasteable(self.help)
        super().format_help_text(ctx, formatter)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click, with Docker's `--flag=false`."""
        try:
            rest = super().parse_args(ctx, list(self._switched(ctx, args)))
        except click.NoSuchOption as error:
            _explain(error)
        if not ctx.resilient_parsing:
            self._warn_of_late_flags(ctx)
        return rest

    def _warn_of_late_flags(self, ctx: click.Context) -> None:
        """Flags after the image are arguments of its program, as in Docker; few are meant so."""
        own = {name for option in self.params for name in option.opts}
        for word in ctx.params.get("args") or ():
            name = word.partition("=")[0]
            if name in OFTEN_LATE and name in own:
                text = f"warning: {name} is an argument of the container: write flags of"
                click.echo(f"{text} `{ctx.command_path}` before the image", err=True)
                return

    def _switched(self, ctx: click.Context, args: list[str]) -> Iterator[str]:
        """Docker's `--detach=false` as click writes it; words after the first argument stay."""
        options = {
            name: option
            for option in self.get_params(ctx)
            if isinstance(option, click.Option)
            for name in (*option.opts, *option.secondary_opts)
        }
        is_value = False
        for position, word in enumerate(args):
            if not is_value and not self._reads_on(ctx, word):
                yield from args[position:]
                return
            name, equals, value = word.partition("=")
            option = options.get(name)
            is_switch = option is not None and option.is_flag
            if is_value or not (is_switch and equals):
                yield word
            else:
                yield from _switch(option, name, value)
            is_value = not is_value and option is not None and not is_switch and not equals

    @staticmethod
    def _reads_on(ctx: click.Context, word: str) -> bool:
        return word != "--" and (word.startswith("-") or ctx.allow_interspersed_args)


def _switch(option: click.Option | None, name: str, value: str) -> Iterator[str]:
    if option is None or value.lower() not in ("true", "1", "t", "false", "0", "f"):
        raise click.UsageError(not_valid(name, value, "expected true or false"))
    if value.lower() in ("true", "1", "t"):
        yield name
    elif option.secondary_opts:
        yield option.secondary_opts[0]


def _explain(error: click.NoSuchOption) -> NoReturn:
    command = error.ctx.command_path if error.ctx else ""
    of_this = REFUSED_OF.get((command, error.option_name))
    if (never := of_this or REFUSED.get(error.option_name)) is not None:
        raise click.UsageError(
            f"{error.option_name} is not supported: {never}", error.ctx
        ) from None
    if (instead := UNSUPPORTED.get(error.option_name)) is not None:
        reason = f": {instead}" if instead else ""
        text = f"{error.option_name} is not supported yet{reason}"
        raise click.UsageError(text, error.ctx) from None
    raise error


class Group(click.Group):
    """A group that prints its help without a command, and suggests similar commands."""

    command_class = Verb

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """As a verb."""
        if extra.get("resilient_parsing"):
            from cli.verbs.completing import complete_names

            complete_names(self)
        return super().make_context(info_name, args, parent, **extra)

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """As a verb."""
        self.help = _pasteable(self.help)
        super().format_help_text(ctx, formatter)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click, with help in place of an error if there are no arguments."""
        if not args and not ctx.resilient_parsing:
            click.echo(ctx.get_help())
            ctx.exit()
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            _explain(error)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click, with similar commands in the error, and Docker's `help [COMMAND...]`."""
        if args[0] == "help" and not ctx.resilient_parsing:
            click.echo(_help_of(self, ctx, args[1:]))
            raise click.exceptions.Exit
        if not ctx.resilient_parsing and self.get_command(ctx, args[0]) is None:
            from difflib import get_close_matches

            from cli.verbs.refused import REFUSED_COMMANDS

            path = f"{ctx.command_path} {args[0]}"
            if (instead := REFUSED_COMMANDS.get(path)) is not None:
                raise click.UsageError(f"{path} is not supported: {instead}", ctx)
            similar = get_close_matches(args[0], self.list_commands(ctx))
            hint = f": did you mean {' or '.join(similar)}?" if similar else ""
            text = f"{quoted(args[0])} is not a command of {ctx.command_path}{hint}"
            raise click.UsageError(text, ctx)
        return super().resolve_command(ctx, args)


def _help_of(command: click.Command, ctx: click.Context, words: Sequence[str]) -> str:
    """The help of a command below this one. Raises UsageError for words that name none."""
    for number, word in enumerate(words):
        if word in ctx.help_option_names:
            break
        if not isinstance(command, click.Group):
            topic = " ".join(words[number:])
            raise click.UsageError(f"unknown help topic: {topic}", ctx)
        name, found, _ = command.resolve_command(ctx, [word])
        assert found is not None
        command, ctx = found, click.Context(found, info_name=name, parent=ctx)
    return command.get_help(ctx)


ALIASES: Mapping[str, str] = {"list": "ls", "remove": "rm"}
"""Docker's second names of commands about objects, which no help lists."""


class LazyGroup(Group):
    """A group whose commands are given as `module:attribute`."""

    def __init__(
        self,
        *args: object,
        commands_at: Mapping[str, tuple[str, str]],
        aliases: Mapping[str, str] | None = None,
        **kwargs: object,
    ) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self._at = commands_at
        self._aliases = {**ALIASES, **(aliases or {})}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order of their names."""
        return sorted(self._at)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command; None if the group has none of that name."""
        if cmd_name not in self._at:
            cmd_name = self._aliases.get(cmd_name, "") if ctx.parent else ""
        if cmd_name not in self._at:
            return None
        module, _, attribute = self._at[cmd_name][0].partition(":")
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_) for name, (_, help_) in sorted(self._at.items())])
