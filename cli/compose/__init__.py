"""`pyswarm compose`: one file per verb. Flags of the project stand before or after the verb."""

import click

from cli.compose import refused
from cli.compose.flags import group_flags, project_flags
from cli.lazy import LazyGroup

VERBS = {
    "attach": (
        "cli.compose.control.attach:attach",
        "Attach local standard input, output, and error streams to a service's running container",
    ),
    "build": ("cli.compose.images.build:build", "Build or rebuild services"),
    "config": ("cli.compose.config:config", "Check Compose files and print the model they define"),
    "cp": (
        "cli.compose.control.cp:cp",
        "Copy files/folders between a service container and the local filesystem",
    ),
    "create": ("cli.compose.deploying.create:create", "Create services without starting them"),
    "down": ("cli.compose.lifecycle.down:down", "Stop and remove services and networks"),
    "events": ("cli.compose.listing.events:events", "Receive real time events from containers"),
    "exec": ("cli.compose.control.exec:exec_", "Execute a command in a running container"),
    "export": (
        "cli.compose.control.export:export",
        "Export a service container's filesystem as a tar archive",
    ),
    "images": ("cli.compose.listing.images:images", "List images used by the created containers"),
    "kill": ("cli.compose.control.kill:kill", "Force stop service containers"),
    "logs": ("cli.compose.control.logs:logs", "View output from containers"),
    "ls": ("cli.compose.listing.ls:ls_", "List running compose projects"),
    "pause": ("cli.compose.control.pause:pause", "Pause services"),
    "port": ("cli.compose.listing.port:port", "Print the public port for a port binding"),
    "ps": ("cli.compose.listing.ps:ps", "List containers"),
    "pull": ("cli.compose.images.pull:pull", "Pull service images"),
    "push": ("cli.compose.images.push:push", "Push service images"),
    "restart": ("cli.compose.lifecycle.restart:restart", "Restart service containers"),
    "rm": ("cli.compose.lifecycle.rm:rm", "Remove stopped service containers"),
    "run": ("cli.compose.deploying.run:run", "Run a one-off command on a service"),
    "scale": ("cli.compose.deploying.scale:scale", "Scale services"),
    "start": ("cli.compose.lifecycle.start:start", "Start services"),
    "stats": (
        "cli.compose.listing.stats:stats",
        "Display a live stream of container(s) resource usage statistics",
    ),
    "stop": ("cli.compose.lifecycle.stop:stop", "Stop services"),
    "top": ("cli.compose.control.top:top", "Display the running processes"),
    "unpause": ("cli.compose.control.pause:unpause", "Unpause services"),
    "up": ("cli.compose.deploying.up:up", "Create and start services"),
    "version": (
        "cli.compose.listing.version:version",
        "Show the pyswarm compose version information",
    ),
    "volumes": ("cli.compose.listing.volumes:volumes", "List volumes"),
    "wait": (
        "cli.compose.control.wait:wait",
        "Block until containers of all (or specified) services stop",
    ),
}


class ComposeGroup(LazyGroup):
    """With Docker's verbs that are refused, which no help lists."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A verb, or one that says what to use instead."""
        if cmd_name in refused.COMMANDS:
            return refused.command(cmd_name)
        return super().get_command(ctx, cmd_name)


@click.group(
    cls=ComposeGroup,
    commands_at=VERBS,
    params=refused.options(""),
    help="Run the application that Compose files define",
)
@project_flags
@group_flags
def compose(**project: object) -> None:
    del project  # `flags.request` reads them from the parameters of the group.
