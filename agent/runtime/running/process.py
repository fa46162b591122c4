"""The OCI section of a command in a container: the container's own, with what the command changes.
SHELL: reads the container's files.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from agent.runtime.base import Command, NoUser, RuntimeFailed
from agent.runtime.program.beneath import Root
from agent.runtime.program.users import resolve_user
from pyswarm_core.errors import InvalidArgument

_USER_FILE_MAX = 1 << 20


class _Config(msgspec.Struct):
    """The part of a config.json that a command changes."""

    process: dict[str, Any]


_config = msgspec.json.Decoder(_Config)


def process_of(bundle: Path, command: Command) -> dict[str, Any]:
    """The section of a command. Raises RuntimeFailed if there is no such container, NoUser."""
    try:
        config = _config.decode((bundle / "config.json").read_bytes())
    except OSError as error:
        raise RuntimeFailed(f"container {bundle.name} does not exist") from error
    process: dict[str, Any] = {**config.process, "terminal": command.terminal}
    env = _variables(process.get("env", ()))
    if command.terminal:
        env.setdefault("TERM", "xterm")
        if command.rows and command.columns:
            process["consoleSize"] = {"height": command.rows, "width": command.columns}
    if command.user or command.capabilities:
        _change_user(process, env, bundle, command)
    env |= _variables(command.env)
    process["args"] = list(command.args)
    process["env"] = [f"{name}={value}" for name, value in env.items()]
    process["cwd"] = command.workdir or process["cwd"]
    return process


def _change_user(
    process: dict[str, Any], env: dict[str, str], bundle: Path, command: Command
) -> None:
    """Set user and capabilities. Only root keeps capabilities effective, as in Docker; a command
    with capabilities of its own has them as any user.
    """
    if command.user:
        root = Root(bundle / "rootfs")
        passwd, group = (_content(root, name) for name in ("/etc/passwd", "/etc/group"))
        try:
            user = resolve_user(command.user, (), passwd, group)
        except InvalidArgument as error:
            raise NoUser(str(error)) from error
        ids = {"uid": user.uid, "gid": user.gid, "additionalGids": list(user.additional_gids)}
        process["user"] = ids
        env["HOME"] = user.home
    bounding = list(command.capabilities) or process["capabilities"]["bounding"]
    is_root = not process["user"].get("uid", 0)
    effective = bounding if is_root or command.capabilities else []
    process["capabilities"] = {
        "bounding": bounding,
        "effective": effective,
        "permitted": effective,
    }


def _variables(env: Iterable[str]) -> dict[str, str]:
    return {name: value for name, _, value in (entry.partition("=") for entry in env)}


def _content(root: Root, path: str) -> bytes:
    try:
        return root.head(path, _USER_FILE_MAX)
    except OSError:
        return b""
