"""`pyswarm container`: one file per verb. As in Docker, the verbs are commands of the root too."""

import click

from cli.lazy import LazyGroup

VERBS = {
    "create": ("cli.container.run:create", "Create a new container"),
    "inspect": (
        "cli.container.inspect:inspect_containers",
        "Display detailed information on one or more containers",
    ),
    "logs": ("cli.container.logs:logs", "Fetch the logs of a container"),
    "ls": ("cli.container.ps:ps", "List containers"),
    "prune": ("cli.container.lifecycle.prune:prune", "Remove all stopped containers"),
    "rename": ("cli.container.lifecycle.rename:rename", "Rename a container"),
    "restart": ("cli.container.lifecycle.restart:restart", "Restart one or more containers"),
    "rm": ("cli.container.lifecycle.rm:rm", "Remove one or more containers"),
    "run": ("cli.container.run:run", "Create and run a new container from an image"),
    "start": ("cli.container.lifecycle.start:start", "Start one or more stopped containers"),
    "stop": ("cli.container.lifecycle.stop:stop", "Stop one or more running containers"),
    "attach": ("cli.container.attach:attach", "Attach to the streams of a running container"),
    "exec": ("cli.container.exec:exec_", "Execute a command in a running container"),
    "cp": (
        "cli.container.files.cp:cp",
        "Copy files/folders between a container and the local filesystem",
    ),
    "diff": (
        "cli.container.files.diff:diff",
        "Inspect changes to files or directories on a container's filesystem",
    ),
    "export": (
        "cli.container.files.export:export",
        "Export a container's filesystem as a tar archive",
    ),
    "kill": ("cli.container.control.kill:kill", "Kill one or more running containers"),
    "pause": (
        "cli.container.control.pause:pause",
        "Pause all processes within one or more containers",
    ),
    "port": (
        "cli.container.control.port:port",
        "List port mappings or a specific mapping for the container",
    ),
    "stats": (
        "cli.container.stats:stats",
        "Display a live stream of container(s) resource usage statistics",
    ),
    "top": ("cli.container.control.top:top", "Display the running processes of a container"),
    "unpause": (
        "cli.container.control.pause:unpause",
        "Unpause all processes within one or more containers",
    ),
    "update": (
        "cli.container.control.update:update",
        "Update configuration of one or more containers",
    ),
    "wait": (
        "cli.container.control.wait:wait",
        "Block until one or more containers stop, then print their exit codes",
    ),
}


@click.group(cls=LazyGroup, commands_at=VERBS, aliases={"ps": "ls"}, help="Manage containers")
def container() -> None:
    pass
