"""A model as YAML or JSON that loads as the same model. PURE."""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

import yaml

from compose.text.words import resolved

_FAST: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_UNPRINTABLE = re.compile("[\x7f-\xa0\u2028\u2029\ufeff\ufffe\uffff]")
"""What JSON may hold as it is, but YAML reads otherwise or not at all."""
_FIRST = ("name", "version", "services", "networks", "volumes", "secrets", "configs")


class _Dumper(_FAST):  # type: ignore[misc]  # chosen when the module is imported
    """Quotes what Compose would not read as text, which is not what YAML 1.1 would not."""

    def ignore_aliases(self, data: Any) -> bool:
        """No aliases: everything is written out."""
        return True


def _text(dumper: Any, text: str) -> Any:
    style = '"' if not isinstance(resolved(text), str) else None
    if "\n" in text.rstrip("\n"):
        style = "|"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def as_yaml(model: Mapping[str, Any], *, keeps_variables: bool = False) -> str:
    """The model as YAML; a dollar sign is doubled, unless variables were not replaced."""
    shown = model if keeps_variables else escaped(model)
    options: dict[str, Any] = {
        "sort_keys": False,
        "allow_unicode": True,
        "width": 1 << 30,
        "indent": 2,
    }
    return str(yaml.dump(arranged(shown), Dumper=_Dumper, **options))


def as_json(model: Mapping[str, Any], *, keeps_variables: bool = False) -> str:
    """The model as JSON, as `as_yaml`."""
    shown = model if keeps_variables else escaped(model)
    text = json.dumps(arranged(shown), indent=2, ensure_ascii=False)
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", text) + "\n"


def escaped(value: Any) -> Any:
    """With `$$` for `$` in every value."""
    if isinstance(value, Mapping):
        return {key: escaped(child) for key, child in value.items()}
    if isinstance(value, list):
        return [escaped(child) for child in value]
    return value.replace("$", "$$") if isinstance(value, str) else value


def arranged(model: Mapping[str, Any]) -> dict[str, Any]:
    """Name first, then services and what they use; keys below in alphabetical order."""
    first = [key for key in _FIRST if key in model]
    rest = sorted(key for key in model if key not in _FIRST)
    return {key: _sorted(model[key]) for key in (*first, *rest)}


def _sorted(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(child) for child in value] if isinstance(value, list) else value


def hash_of(service: Mapping[str, Any]) -> str:
    """A digest of what a service says; the order of keys does not count."""
    text = json.dumps(_sorted(service), separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
