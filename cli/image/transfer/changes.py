"""The Dockerfile instructions of `import --change`. PURE."""

import json
import shlex
from typing import Any

from pyswarm_core.errors import InvalidArgument, invalid

_SHELL = ["/bin/sh", "-c"]
_KNOWN = "CMD ENTRYPOINT ENV EXPOSE LABEL ONBUILD STOPSIGNAL USER VOLUME WORKDIR".split()


def configured(changes: tuple[str, ...]) -> dict[str, Any]:
    """The run configuration, with Docker's keys. Raises InvalidArgument that names the change."""
    config: dict[str, Any] = {}
    for text in changes:
        word, _, rest = text.strip().partition(" ")
        word, rest = word.upper(), rest.strip()
        if word not in _KNOWN or not rest:
            raise invalid("--change", text, f"expected one of {', '.join(_KNOWN)} and its value")
        try:
            _apply(config, word, rest)
        except (ValueError, InvalidArgument) as error:
            raise invalid("--change", text, f"expected a valid {word}: {error}") from None
    return config


def _apply(config: dict[str, Any], word: str, rest: str) -> None:
    match word:
        case "CMD" | "ENTRYPOINT":
            config["Cmd" if word == "CMD" else "Entrypoint"] = _command(rest)
        case "ENV":
            given = [f"{key}={value}" for key, value in _pairs(rest).items()]
            names = {one.partition("=")[0] for one in given}
            kept = [one for one in config.get("Env", []) if one.partition("=")[0] not in names]
            config["Env"] = [*kept, *given]
        case "LABEL":
            config.setdefault("Labels", {}).update(_pairs(rest))
        case "EXPOSE":
            for port in rest.split():
                config.setdefault("ExposedPorts", {})[port if "/" in port else f"{port}/tcp"] = {}
        case "VOLUME":
            paths = _list(rest) if rest.startswith("[") else shlex.split(rest)
            config.setdefault("Volumes", {}).update({path: {} for path in paths})
        case "ONBUILD":
            config.setdefault("OnBuild", []).append(rest)
        case _:
            keys = {"STOPSIGNAL": "StopSignal", "USER": "User", "WORKDIR": "WorkingDir"}
            config[keys[word]] = rest


def _command(text: str) -> list[str]:
    return _list(text) if text.startswith("[") else [*_SHELL, text]


def _list(text: str) -> list[str]:
    found = json.loads(text)
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise ValueError("its list has other values than texts")
    return found


def _pairs(text: str) -> dict[str, str]:
    """`A=1 B="2 3"`, or the old form `A 1`."""
    words = shlex.split(text)
    if "=" not in words[0]:
        name, _, value = text.partition(" ")
        if not value:
            raise ValueError("expected NAME=VALUE")
        return {name: value.strip()}
    for word in words:
        if "=" not in word:
            raise ValueError(f"{word} has no value: expected NAME=VALUE")
    return dict(word.split("=", 1) for word in words)
